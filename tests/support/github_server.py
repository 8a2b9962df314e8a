"""Stands in for GitHub: signed webhooks as it sends them, its API of pull requests, and a repository over HTTP.

Payload shapes: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request and
https://docs.github.com/en/rest/pulls/pulls, shortened to what somebody could look at.

As a program it serves one repository with its pull requests, for whoever knows the token, and the repositories beside
it; ``public.git`` to everybody, as upstream is.

Usage: ``STANDIN_TOKEN=token github_server.py --repository DIRECTORY [--listen ADDRESS] [--port 8002]``
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "octo-org/bot1"


def pull_request_event(sha: str, *, repository: str = REPOSITORY, actor: str = "octocat") -> dict[str, Any]:
    """The event that GitHub sends when ``actor`` has merged pull request 7 into ``main``."""
    owner, _, name = repository.partition("/")
    at_github = {
        "id": 186853002, "name": name, "full_name": repository, "private": True, "default_branch": "main",
        "owner": {"login": owner, "id": 38302899, "type": "Organization"},
        "html_url": f"https://github.com/{repository}", "url": f"https://api.github.com/repos/{repository}",
    }  # fmt: skip
    user = {"login": actor, "id": 21031067, "type": "User", "site_admin": False}
    return {
        "action": "closed",
        "number": 7,
        "pull_request": {
            "id": 279147437, "number": 7, "state": "closed", "locked": False, "title": "Be kinder",
            "user": {"login": "bot-account", "id": 1, "type": "User"}, "body": "Because.",
            "merged": True, "merged_at": "2027-01-15T08:00:00Z", "merged_by": user, "merge_commit_sha": sha,
            "head": {"label": f"{owner}:proposal/kinder", "ref": "proposal/kinder", "sha": "e" * 40, "repo": at_github},
            "base": {"label": f"{owner}:main", "ref": "main", "sha": "f" * 40, "repo": at_github},
            "commits": 1, "additions": 1, "deletions": 1, "changed_files": 1,
        },
        "repository": at_github,
        "sender": user,
    }  # fmt: skip


def webhook_headers(
    body: bytes, secret: str, *, delivery: str = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
) -> dict[str, str]:
    """What GitHub sends with ``body``."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "pull_request",
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature": "sha1=" + "0" * 40,
        "X-Hub-Signature-256": f"sha256={signature}",
    }


class GitHubServer:
    """One repository with its pull requests.

    :param token: what has to be presented, as ``Bearer`` to the API and as password to the repository.
    """

    def __init__(self, repository: Path, token: str) -> None:
        self.repository = repository
        self.token = token
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[tuple[int, str]] = []
        self.requests: list[str] = []
        #: Status codes that the next answers have instead.
        self.failures: list[int] = []
        self.address = ""

    @property
    def api(self) -> str:
        """URL of the API."""
        return f"http://{self.address}/api"

    @property
    def remote(self) -> str:
        """URL of the repository."""
        return f"http://{self.address}/{REPOSITORY}.git"

    def answer_api(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and document of one call of the API."""
        parts = urlsplit(target)
        path = parts.path.removeprefix(f"/api/repos/{REPOSITORY}")
        if (method, path) == ("GET", "/pulls"):
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            wanted = query["head"].partition(":")[2]
            states = {"open", "closed"} if query["state"] == "all" else {query["state"]}
            return 200, [one for one in self.pulls if one["head"]["ref"] == wanted and one["state"] in states]
        document = json.loads(body)
        if (method, path) == ("POST", "/pulls"):
            sha = self._branch(document["head"])
            if sha is None:
                return 422, {"message": "Validation Failed", "errors": [{"field": "head", "code": "invalid"}]}
            head = {"ref": document["head"], "sha": sha}
            self.pulls.append({**document, "number": len(self.pulls) + 1, "state": "open", "head": head})
            return 201, self.pulls[-1]
        if match := re.fullmatch(r"/issues/(\d+)/comments", path):
            self.comments.append((int(match[1]), document["body"]))
            return 201, {}
        if (match := re.fullmatch(r"/pulls/(\d+)", path)) and method == "PATCH":
            self.pulls[int(match[1]) - 1].update(document)
            return 200, {}
        return 404, {"message": "Not Found"}

    def _branch(self, name: str) -> str | None:
        command = ["git", "-C", str(self.repository), "rev-parse", "--verify", "--quiet", f"refs/heads/{name}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.stdout.strip() or None


class _Listener(ThreadingHTTPServer):
    def server_bind(self) -> None:
        # Without asking DNS for our own name, which takes ten seconds where there is no DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]


@contextmanager
def github(repository: Path, token: str, listen: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[GitHubServer]:
    """Serve ``repository``, which is bare, as :data:`REPOSITORY`."""
    server = GitHubServer(repository, token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._handle()

        do_POST = do_PATCH = do_GET

        def _handle(self) -> None:
            body = self._body()
            server.requests.append(f"{self.command} {self.path}")
            if server.failures:
                return self._answer(server.failures.pop(0), b'{"message":"try again"}')
            if self.path == "/health":
                return self._answer(200, b"ok")
            if self.path.startswith("/public.git/"):
                return self._run_git(body)
            scheme, _, value = self.headers.get("Authorization", "").partition(" ")
            if self.path.startswith("/api/"):
                if (scheme, value) != ("Bearer", server.token):
                    return self._answer(401, b'{"message":"Bad credentials"}')
                status, document = server.answer_api(self.command, self.path, body)
                return self._answer(status, json.dumps(document).encode())
            if scheme != "Basic" or base64.b64decode(value).decode().partition(":")[2] != server.token:
                return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            return self._run_git(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, text in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def _run_git(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(repository.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "http.receivepack",
                "GIT_CONFIG_VALUE_0": "true",
                "PATH_INFO": parts.path.replace(f"/{REPOSITORY}.git", f"/{repository.name}", 1),
                "QUERY_STRING": parts.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }
            command = ["git", "http-backend"]
            ended = subprocess.run(command, env=environment, input=body, capture_output=True, check=False)
            head, _, content = ended.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self._answer(int(headers.pop("Status", "200").split(" ")[0]), content, headers)

    listener = _Listener(listen, Handler)
    listener.daemon_threads = True
    server.address = f"{listen[0]}:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True, help="bare repository")
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8002)
    options = parser.parse_args()
    with github(options.repository, os.environ["STANDIN_TOKEN"], (options.listen, options.port)):
        signal.pause()


if __name__ == "__main__":
    main()
