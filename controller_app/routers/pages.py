"""Pages of the operator."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from ..dependencies import StatusServiceDep, redeem_link_token, require_page_operator
from ..web import render_page

router = APIRouter(
    include_in_schema=False,
    # In this order: a link with a token logs in before anybody is sent away.
    dependencies=[Depends(redeem_link_token), Depends(require_page_operator)],
)


@router.get("/")
@router.get("/controller")
async def read_status_page(request: Request, status: StatusServiceDep) -> Response:
    """Show the state of the bot."""
    return render_page(request, "status.html", {"status": await status.read_status()})
