"""A stand-in for the controller's agent API: Git over HTTP by ``git http-backend``, and what became of the proposals.

It checks the token and counts requests; whether a push is allowed is decided by the ``pre-receive`` hook that a test
puts into the repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

TOKEN = "0123456789abcdef0123456789abcdef"
_CLEAN = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
_WHO = {
    "GIT_AUTHOR_NAME": "operator",
    "GIT_AUTHOR_EMAIL": "operator@example.org",
    "GIT_COMMITTER_NAME": "operator",
    "GIT_COMMITTER_EMAIL": "operator@example.org",
}


def git(directory: Path, *arguments: str, data: bytes = b"") -> str:
    """What git says, run there without anybody's configuration.

    :raises subprocess.CalledProcessError: it failed; ``stderr`` has why.
    """
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=directory, env={**_CLEAN, **_WHO}, input=data, check=True, capture_output=True)
    return done.stdout.decode().strip()


class AgentApi:
    """The stand-in, on a port of 127.0.0.1 while the context lasts.

    :param directory: an empty one; the repository is made in it.
    :param files: content of the first commit of ``main``, by path.
    """

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self.repository = directory / "repository.git"
        self._work = directory / "operator"
        git(directory, "init", "--quiet", "--bare", "--initial-branch=main", str(self.repository))
        git(self.repository, "config", "http.receivepack", "true")
        git(directory, "clone", "--quiet", str(self.repository), str(self._work))
        git(self._work, "checkout", "--quiet", "-b", "main")
        self.commit(files)
        self.proposals: list[dict[str, str]] = []
        self.requests: list[str] = []
        #: Answer every request with this status instead, unless 0.
        self.broken = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/agent"

    @property
    def main(self) -> str:
        return git(self.repository, "rev-parse", "refs/heads/main")

    def refs(self) -> dict[str, str]:
        """Commit of each reference."""
        lines = git(self.repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def show(self, reference: str, path: str) -> str:
        """A file as it is in a commit."""
        return git(self.repository, "show", f"{reference}:{path}")

    def commit(self, files: dict[str, str]) -> str:
        """Put files into a new commit of ``main``."""
        for name, content in files.items():
            path = self._work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(self._work, "add", "--all")
        git(self._work, "commit", "--quiet", "--message", "approved")
        git(self._work, "push", "--quiet", "origin", "main")
        return self.main

    def hook(self, script: str) -> None:
        """Let a shell script decide about pushes, as ``pre-receive``."""
        path = self.repository / "hooks" / "pre-receive"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def __enter__(self) -> AgentApi:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(api: AgentApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self._body())

        def _answer(self, body: bytes) -> None:
            api.requests.append(f"{self.command} {self.path}")
            path, _, query = self.path.partition("?")
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self._send(401, {}, b"")
            elif api.broken:
                self._send(api.broken, {}, b"")
            elif path == "/agent/status":
                self._json({"bot": "bot1", "approved": api.main, "version": "0", "locked": False})
            elif path == "/agent/proposals":
                self._json(api.proposals)
            elif path.startswith("/agent/repository.git/"):
                self._git(path.removeprefix("/agent/repository.git"), query, body)
            else:
                self._send(404, {}, b"")

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _git(self, path: str, query: str, body: bytes) -> None:
            environment = {
                **_CLEAN,
                "GIT_PROJECT_ROOT": str(api.repository), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": self.headers.get("content-type", ""), "REMOTE_USER": "bot",
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            }  # fmt: skip
            done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

        def _json(self, content: object) -> None:
            self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
