"""No cookies for the controller's own HTTP clients."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy


def make_closed_jar() -> CookieJar:
    """Make a jar that takes no cookie: a client that lives long would keep all that a hostile server sends."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
