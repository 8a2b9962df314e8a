"""Stands in for the part of GitHub's API that makes repositories, forks, rules and webhooks.

Shapes: https://docs.github.com/en/rest, below /repos and /git, shortened to what somebody could look at.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA = "1a" * 20
LOGIN = "octocat"


@dataclass
class Account:
    """What the stand-in has, and what it was asked.

    :param token: the only one it knows.
    :param branch: how it names the first branch of a repository.
    :param refusals: "METHOD path" to the answer it gives instead.
    """

    token: str
    address: str = ""
    branch: str = "main"
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    refusals: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """Its address."""
        return f"http://{self.address}/api"

    def sent(self, method: str, path: str) -> list[Any]:
        """Bodies of the requests of this kind."""
        return [body for used, where, body in self.requests if (used, where) == (method, path)]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and document of one call."""
        if refusal := self.refusals.get(f"{method} {path}"):
            return refusal
        if (method, path) == ("GET", "/user"):
            return 200, {"login": LOGIN}
        if method == "POST" and (made := re.fullmatch(r"/(?:user|orgs/([^/]+))/repos", path)):
            return self._make(f"{made[1] or LOGIN}/{body['name']}", body)
        if method == "POST" and re.fullmatch(r"/repos/[^/]+/[^/]+/forks", path):
            return 202, self._make(f"{body.get('organization', LOGIN)}/{body['name']}", body)[1]
        if method == "GET" and re.fullmatch(r"/repos/openclaw/openclaw/commits/v[\d.]+", path):
            return 200, {"sha": SHA}
        match = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
        if match is None or match[1] not in self.repositories:
            return 404, {"message": "Not Found"}
        return self._of_repository(self.repositories[match[1]], method, match[2] or "", body)

    def _make(self, name: str, body: Any) -> tuple[int, Any]:
        self.repositories[name] = {"settings": body, "rulesets": [], "hooks": []}
        return 201, {"full_name": name, "default_branch": self.branch}

    def _of_repository(self, repository: dict[str, Any], method: str, path: str, body: Any) -> tuple[int, Any]:
        fixed = {
            ("GET", ""): (200, {}),
            ("GET", "/git/ref/heads/main"): (200, {"object": {"sha": "f" * 40}}),
            ("POST", "/git/trees"): (201, {"sha": "e" * 40}),
            ("POST", "/git/commits"): (201, {"sha": "d" * 40}),
            ("PATCH", "/git/refs/heads/main"): (200, {}),
            ("POST", "/branches/trunk/rename"): (201, {}),
        }
        if (method, path) in fixed:
            return fixed[method, path]
        kind, _, number = path.strip("/").partition("/")
        if kind not in ("rulesets", "hooks"):
            return 404, {"message": "Not Found"}
        items = repository[kind]
        if method == "GET":
            return 200, items
        if method == "POST":
            items.append({"id": len(items) + 1, **body})
            return 201, items[-1]
        items[int(number) - 1].update(body)
        return 200, items[int(number) - 1]


@contextmanager
def account(token: str) -> Iterator[Account]:
    """Serve an account with nothing in it."""
    stand_in = Account(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stand_in))
    server.daemon_threads = True
    stand_in.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(stand_in: Account) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"null")
            path = self.path.removeprefix("/api")
            stand_in.requests.append((self.command, path, body))
            if self.headers.get("Authorization") != f"Bearer {stand_in.token}":
                status, document = 401, {"message": "Bad credentials"}
            else:
                status, document = stand_in.answer(self.command, path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_PUT = do_GET

    return Handler
