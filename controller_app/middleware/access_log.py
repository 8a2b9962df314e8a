"""The access log. Not the server's own, which would write the token of a ``?token=`` link into the container log."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("controller_app.access")


class AccessLogMiddleware:
    """Logs client, method, path, status and duration of every request; never its query string, headers or body.

    Health checks come every few seconds and are logged at DEBUG.

    :param app: the next ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        status = 500
        started = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            is_health_check = path == "/health" and status < 400
            # Read only now: the layer that knows the proxy's client has set it meanwhile.
            client = scope["client"][0] if scope.get("client") else "-"
            milliseconds = (time.perf_counter() - started) * 1000
            _logger.log(
                logging.DEBUG if is_health_check else logging.INFO,
                "%s %s %s %d %.1fms",
                *(client, scope["method"], quote(path), status, milliseconds),
            )
