from __future__ import annotations

import pytest

from controller_app.origin import is_same_origin


@pytest.mark.parametrize(
    ("source", "scheme", "host"),
    [
        ("http://127.0.0.1:8080", "http", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/page?x=1", "http", "127.0.0.1:8080"),
        ("http://[::1]:8080", "http", "[::1]:8080"),
        ("http://bot.test", "http", "bot.test:80"),
        ("https://bot.test:443", "https", "bot.test"),
        ("https://BOT.test", "https", "bot.TEST"),
        ("https://bot.test", "http", "bot.test"),  # TLS ends before the proxy
    ],
)
def test_own_address_is_accepted(source, scheme, host):
    assert is_same_origin(source, scheme=scheme, host=host)


@pytest.mark.parametrize(
    ("source", "scheme", "host"),
    [
        ("http://127.0.0.1:18789", "http", "127.0.0.1:8080"),  # the bot's own pages
        ("http://127.0.0.1", "http", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080.evil.test", "http", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080@evil.test", "http", "127.0.0.1:8080"),
        ("http://evil.test/127.0.0.1:8080", "http", "127.0.0.1:8080"),
        ("http://localhost:8080", "http", "127.0.0.1:8080"),
        ("http://bot.test:443", "https", "bot.test"),
        ("http://bot.test", "https", "bot.test:80"),
        ("ftp://bot.test:8080", "http", "bot.test:8080"),
        ("null", "http", "null"),
        ("", "http", ""),
        ("http://", "http", ""),
        ("http://[bad", "http", "[bad"),
        ("http://a:99999999", "http", "a:99999999"),
    ],
)
def test_other_address_is_refused(source, scheme, host):
    assert not is_same_origin(source, scheme=scheme, host=host)
