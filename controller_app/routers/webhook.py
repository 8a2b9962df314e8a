"""What GitHub calls. Its authority is the signature, not the operator's token."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..dependencies import WebhookServiceDep
from ..exception_handlers import problem_response
from ..schemas.webhook import EXAMPLE, Accepted
from ..services.webhook import Delivery, WebhookRefused

router = APIRouter(tags=["webhook"])
#: The handler reads the bytes itself, because the signature is of those: so this is what it says about them.
_DESCRIBED: dict[str, Any] = {
    "security": [{"signature": []}],
    "parameters": [
        {
            "name": name, "in": "header", "required": True, "description": description,
            "schema": {"type": "string", "pattern": pattern}, "example": example,
        }
        for name, pattern, example, description in (
            ("X-GitHub-Event", "^(?:pull_request|ping)$", "pull_request", "Of GitHub's events the two that are taken."),
            ("X-GitHub-Delivery", "^[A-Za-z0-9-]{1,64}$", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "Counts once."),
        )
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PullRequestEvent"}, "example": EXAMPLE}
        },
    },
}  # fmt: skip


@router.post(
    "/webhook/github",
    openapi_extra=_DESCRIBED,
    responses={
        200: {"description": "A ping: there is nothing to do.", "content": {"application/json": {"example": {}}}},
        202: {"description": "It is being promoted.", "model": Accepted},
    },
)
async def receive_github_webhook(request: Request, webhook: WebhookServiceDep) -> Response:
    """Promote the merge commit of a pull request; the work goes on after the answer."""
    delivery = Delivery(
        signature=_only(request, "x-hub-signature-256"),
        event=_only(request, "x-github-event"),
        delivery=_only(request, "x-github-delivery"),
        content_type=_only(request, "content-type"),
        body=await request.body(),
    )
    try:
        job = await webhook.handle(delivery)
    except WebhookRefused as error:
        return problem_response(error.status, str(error))
    return JSONResponse({}) if job is None else JSONResponse(Accepted(job=job).model_dump(), 202)


def _only(request: Request, name: str) -> str:
    """The one value of a header; empty if there is none, or a second one."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else ""
