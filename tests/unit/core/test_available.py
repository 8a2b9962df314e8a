"""Asking npm and registries, over HTTP on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from clawfactory_core.available import image_versions, npm_versions
from clawfactory_core.errors import CoreError, InvalidInput


class _Registry(BaseHTTPRequestHandler):
    """npm's channels, and an image whose tags come in two pages and for a token."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if url.path == "/-/package/openclaw/dist-tags":
            self._answer(200, {"latest": "2026.9.8", "beta": "2026.9.9-beta.1"})
        elif url.path == "/token":
            self._answer(200, {"token": f"for {parse_qs(url.query)['scope'][0]}"})
        elif url.path.startswith("/v2/private/"):
            self._answer(401, {}, {"WWW-Authenticate": 'Basic realm="x"'})
        elif url.path != "/v2/openclaw/openclaw/tags/list":
            self._answer(404, {})
        elif self.headers.get("Authorization") != "Bearer for repository:openclaw/openclaw:pull":
            scope = 'service="r",scope="repository:openclaw/openclaw:pull"'
            self._answer(401, {}, {"WWW-Authenticate": f'Bearer realm="{here}/token",{scope}'})
        elif "last" in parse_qs(url.query):
            self._answer(200, {"tags": ["2026.9.8"]})
        else:
            more = {"Link": f'<{url.path}?n=1000&last=x>; rel="next"'}
            self._answer(200, {"tags": ["latest", "2026.9.7"]}, more)

    def _answer(self, code: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_npm_tells_the_newest_of_each_channel(address: str) -> None:
    assert npm_versions(f"http://{address}") == ["2026.9.8", "2026.9.9-beta.1"]


def test_all_pages_of_tags_are_read_with_the_token_that_the_registry_names(address: str) -> None:
    tags = image_versions(f"{address}/openclaw/openclaw:2026.9.6@sha256:{'0' * 64}")
    assert tags == ["latest", "2026.9.7", "2026.9.8"]


def test_a_registry_that_wants_a_login_is_named(address: str) -> None:
    with pytest.raises(CoreError, match=f"{address} wants a login"):
        image_versions(f"{address}/private/openclaw")


def test_an_image_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(CoreError, match=r"answers 404 to http://.*/v2/no/such/"):
        image_versions(f"{address}/no/such")


def test_a_registry_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(CoreError, match=r"127\.0\.0\.1:1 cannot be asked: .*refused"):
        npm_versions("http://127.0.0.1:1")


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'A B' .*is no reference"):
        image_versions("A B")
