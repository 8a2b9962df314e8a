"""Bounds what one request can make the controller read. FastAPI's own limit does not answer with problem documents."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..exception_handlers import problem_response

# The only body so far is the login form.
LARGEST_BODY = 64 * 1024  # bytes
_DETAIL = f"The body of a request may have {LARGEST_BODY} bytes at most."


class BodyLimitMiddleware:
    """Answers 413 to a body of more than :data:`LARGEST_BODY` bytes, announced or not.

    :param app: the next ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > LARGEST_BODY:
            await problem_response(413, _DETAIL)(scope, receive, send)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                raise HTTPException(413, _DETAIL)
            return message

        await self._app(scope, receive_bounded, send)
