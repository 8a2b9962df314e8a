"""The refusals of a route, for its OpenAPI description."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

_WHAT = {
    400: "What was sent cannot be used.",
    401: "Neither token nor session.",
    403: "The write comes from a page of somebody else.",
    404: "There is no such thing, or no longer.",
    409: "Not as things are now.",
    412: "Somebody changed it in the meantime: load it again.",
    413: "The body is too large.",
    422: "A value is missing or malformed.",
    423: "The bot is locked.",
    428: "The request does not say what it is based on.",
    429: "Too many at once.",
    500: "The machine failed; its log says how.",
    502: "The gateway, the broker or the machine answered what is no answer.",
    503: "The gateway, the broker or the machine does not answer.",
    504: "It did not answer in time.",
}
_FIELD = {
    "type": "object",
    "required": ["location", "message"],
    "properties": {"location": {"type": "string"}, "message": {"type": "string"}},
}
#: As :class:`.schemas.problem.Problem` has it.
_SCHEMA = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": _FIELD},
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of what a route of the operator refuses.

    :param statuses: besides those that each of them has: 400, 401, 403, 429.
    """
    return {
        status: {
            "description": f"{HTTPStatus(status).phrase}. {_WHAT[status]}",
            "content": {
                "application/problem+json": {
                    "schema": _SCHEMA,
                    "example": {
                        "type": "about:blank",
                        "title": HTTPStatus(status).phrase,
                        "status": status,
                        "detail": _WHAT[status],
                    },
                }
            },
        }
        for status in sorted({400, 401, 403, 429, *statuses})
    }
