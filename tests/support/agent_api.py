"""A stand-in for the controller's agent API: Git over HTTP by ``git http-backend``, and what became of the proposals.

It checks the token and counts requests; whether a push is allowed is decided by the ``pre-receive`` hook that a test
puts into the repository.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.support.git_server import CLEAN, GitHandler

#: Made up anew: tests look for it in all processes of the machine, and another run of them has one, too.
TOKEN = secrets.token_hex(16)
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
    done = subprocess.run(command, cwd=directory, env={**CLEAN, **_WHO}, input=data, check=True, capture_output=True)
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


def _handler(api: AgentApi) -> type[GitHandler]:
    class Handler(GitHandler):
        def answer(self, body: bytes) -> None:
            api.requests.append(f"{self.command} {self.path}")
            path, _, query = self.path.partition("?")
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self.send(401, {}, b"")
            elif api.broken:
                self.send(api.broken, {}, b"")
            elif path == "/agent/status":
                self._json({"bot": "bot1", "approved": api.main, "version": "0", "locked": False})
            elif path == "/agent/proposals":
                self._json(api.proposals)
            elif path.startswith("/agent/repository.git/"):
                self.serve_git(api.repository, path.removeprefix("/agent/repository.git"), query, body)
            else:
                self.send(404, {}, b"")

        def _json(self, content: object) -> None:
            self.send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
