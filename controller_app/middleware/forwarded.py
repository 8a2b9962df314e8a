"""Makes the request look as it did to the proxy: scheme, host, path prefix and client address.

The headers are believed only on a unix socket, whose one client is the proxy. Over TCP anybody could send them.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from ..exception_handlers import problem_response

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}")


class _BadHeader(Exception):
    """A header that only a broken or bypassed proxy sends."""


class ForwardedHeadersMiddleware:
    """Applies ``X-Forwarded-{Proto,Host,Prefix,For}`` to the scope in place; answers 400 to a value that is not one.

    :param app: the next ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _apply(scope)
        except _BadHeader as error:
            await problem_response(400, str(error))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _apply(scope: Scope) -> None:
    headers = Headers(scope=scope)
    on_unix_socket = scope.get("client") is None
    host = (_single(headers, "x-forwarded-host") if on_unix_socket else None) or headers.get("host", "")
    if host and not _HOST.fullmatch(host):
        raise _BadHeader("The host of the request is malformed.")
    if not on_unix_socket:
        return
    if host:
        MutableHeaders(scope=scope)["host"] = host
    scheme = _single(headers, "x-forwarded-proto")
    if scheme:
        if scheme not in ("http", "https"):
            raise _BadHeader("X-Forwarded-Proto must be http or https.")
        scope["scheme"] = scheme
    _apply_prefix(scope, _single(headers, "x-forwarded-prefix"))
    scope["client"] = (_client_address(headers.get("x-forwarded-for", "")), 0)


def _single(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise _BadHeader(f"{name.title()} must be sent once.")
    return values[0].strip() if values else None


def _apply_prefix(scope: Scope, value: str | None) -> None:
    prefix = (value or "").removesuffix("/")
    if not prefix:
        return
    if not _PREFIX.fullmatch(prefix):
        raise _BadHeader("X-Forwarded-Prefix must be a path like /bots/bot1.")
    path = scope["path"]
    # ASGI wants the prefix in the path; most proxies have cut it off by now.
    if path != prefix and not path.startswith(f"{prefix}/"):
        path = prefix + path
    scope["root_path"] = prefix
    scope["path"] = f"{prefix}/" if path == prefix else path


def _client_address(forwarded_for: str) -> str:
    # Only the last entry was written by our proxy; the ones before it are the client's own claim.
    last = forwarded_for.rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return "unknown"
