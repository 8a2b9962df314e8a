"""Compares the origin of a request with the address it was sent to."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_same_origin(source: str, *, scheme: str, host: str) -> bool:
    """Say whether ``source`` is a page of the address the request was sent to, port included.

    A source in https matches a request that arrived as http, because TLS may end before the proxy; the other way
    round somebody on the network could have written the page.

    :param source: value of ``Origin`` or ``Referer``, of any content.
    :param scheme: scheme of the request.
    :param host: ``host[:port]`` of the request.
    """
    try:
        page = urlsplit(source)
        target = urlsplit(f"{page.scheme}://{host}")
        default_port = _DEFAULT_PORTS.get(page.scheme)
        if default_port is None or not page.hostname or (scheme == "https" and page.scheme != "https"):
            return False
        return (page.hostname, page.port or default_port) == (target.hostname, target.port or default_port)
    except ValueError:  # not an address
        return False
