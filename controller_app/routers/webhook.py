"""What GitHub calls. Its authority is the signature, not the operator's token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..dependencies import WebhookServiceDep
from ..exception_handlers import problem_response
from ..schemas.webhook import Accepted
from ..services.webhook import Delivery, WebhookRefused

router = APIRouter(include_in_schema=False)


@router.post("/webhook/github")
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
