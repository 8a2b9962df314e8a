"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from ..dependencies import ClientAddressDep, SessionServiceDep, redeem_link_token, require_page_operator
from ..services.session import TooManyAttempts, WrongToken
from ..web import delete_session_cookie, login_page, set_session_cookie

router = APIRouter(include_in_schema=False)


@router.get("/login", dependencies=[Depends(redeem_link_token)])
async def read_login(request: Request, sessions: SessionServiceDep) -> Response:
    """Show the login form, or go on to the status page."""
    if sessions.is_open(request.cookies.get(sessions.cookie_name)):
        return _see(request, "/")
    return login_page(request)


@router.post("/login")
async def create_session(
    request: Request,
    sessions: SessionServiceDep,
    client: ClientAddressDep,
    token: Annotated[str, Form(max_length=1024)] = "",
) -> Response:
    """Open a session for the holder of the token."""
    try:
        sessions.check_token(token.strip(), channel="form", client=client)
    except (WrongToken, TooManyAttempts) as error:
        return login_page(request, refusal=error)
    response = _see(request, "/")
    set_session_cookie(request, response, sessions)
    return response


@router.post("/logout", dependencies=[Depends(require_page_operator)])
async def delete_session(request: Request, sessions: SessionServiceDep) -> Response:
    """Close the session."""
    sessions.close(request.cookies.get(sessions.cookie_name))
    response = _see(request, "/login")
    delete_session_cookie(request, response, sessions)
    return response


def _see(request: Request, path: str) -> Response:
    return RedirectResponse(request.scope.get("root_path", "") + path, status_code=303)
