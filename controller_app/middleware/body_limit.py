"""Bounds what one request can make the controller read. FastAPI's own limit does not answer with problem documents."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..exception_handlers import problem_response

# Forms and small JSON documents.
LARGEST_BODY = 64 * 1024  # bytes


class BodyLimitMiddleware:
    """Answers 413 to a body of more than :data:`LARGEST_BODY` bytes, announced or not.

    :param app: the next ASGI application.
    :param larger: by path, the bytes that a body there may have instead.
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        largest = self._larger.get(scope["path"].removeprefix(scope.get("root_path", "")), LARGEST_BODY)
        detail = f"The body of a request may have {largest} bytes at most."
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > largest:
            await problem_response(413, detail)(scope, receive, send)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > largest:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, receive_bounded, send)
