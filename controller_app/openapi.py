"""Completes the OpenAPI document: who may call, and the one form of every refusal."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from .schemas.problem import Problem, ProblemField

_REFUSALS = {
    400: "A header or value of the request is malformed.",
    401: "No token, or not this one.",
    403: "A write, or a script's read, that does not come from a page of this controller.",
    404: "There is no such thing.",
    405: "Not this method.",
    408: "The request did not arrive in time.",
    409: "Not as things are now; the text says why and what to do.",
    412: "It was changed meanwhile: load it again.",
    413: "The body is too large.",
    415: "Not this type of body.",
    422: "A value is missing or malformed; `errors` names it.",
    423: "The bot is locked.",
    428: "`If-Match` has to name what the change is based on.",
    429: "Too many; `Retry-After` or the text says when again.",
    502: "The machine, the gateway or the broker failed at it; the text says how.",
    503: "The machine, the gateway, the broker, a repository or a file does not answer; the text says which.",
    504: "The machine, the gateway or the broker did not answer in time.",
    507: "The disk is full.",
}
_EXAMPLE = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "what was wrong and the way out"}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "CONTROLLER_TOKEN"},
    "session": {"type": "apiKey", "in": "cookie", "name": "clawfactory-<bot>", "description": "Set by POST /login."},
    "agent": {"type": "http", "scheme": "bearer", "description": "CLAWFACTORY_AGENT_TOKEN"},
    "login": {"type": "http", "scheme": "basic", "description": "Any user, and CLAWFACTORY_AGENT_TOKEN as password."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Hub-Signature-256",
        "description": "`sha256=` and the HMAC of the body with CONTROLLER_WEBHOOK_SECRET, in hexadecimal digits.",
    },
}
_PUBLIC = frozenset({"/health"})


def describe(app: FastAPI, *, schemes: Iterable[str], bodies: Iterable[type[BaseModel]] = ()) -> None:
    """Have ``app.openapi()`` say all of it.

    :param schemes: names of the ways to authenticate, of which one is enough where the route names no other.
    :param bodies: models that routes refer to in ``openapi_extra``, because they read the bytes themselves.
    """
    wanted, models = list(schemes), list(bodies)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            app.openapi_schema = _complete(document, wanted, [*models, Problem, ProblemField])
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _complete(document: dict[str, Any], schemes: list[str], models: list[type[BaseModel]]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in models:
        found = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(found.pop("$defs", {}))
        schemas[model.__name__] = found
    components["responses"] = {f"Problem{status}": _refusal(status) for status in _REFUSALS}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refused = {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in _REFUSALS}
            operation["responses"] = {**operation["responses"], **refused}
            operation.setdefault("security", [] if path in _PUBLIC else [{name: []} for name in schemes])
    asked = {
        name for path in document["paths"].values() for one in path.values() for way in one["security"] for name in way
    }
    components["securitySchemes"] = {name: scheme for name, scheme in _SCHEMES.items() if name in asked}
    return document


def _refusal(status: int) -> dict[str, Any]:
    example = {**_EXAMPLE, "title": HTTPStatus(status).phrase, "status": status, "detail": _REFUSALS[status]}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": _REFUSALS[status], "content": {"application/problem+json": content}}
