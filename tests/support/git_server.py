#!/usr/bin/env python3
"""Git over HTTP by ``git http-backend``: the remote of a bot in the end-to-end tests, and part of other stand-ins.

As a program it serves every bare repository of a directory, for whoever knows the user name and password (Basic).
Each request is one line on stderr.

Usage: ``STANDIN_LOGIN=user:password git_server.py --root DIRECTORY [--listen ADDRESS] [--port 8002]``
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

#: Nobody's configuration: not that of the user, not that of the machine.
CLEAN = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


class GitHandler(BaseHTTPRequestHandler):
    """One connection of a Git client; subclasses say who may do what in :meth:`answer`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """References."""
        self.answer(b"")

    def do_POST(self) -> None:
        """Objects."""
        self.answer(self._body())

    def answer(self, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError

    def serve_git(self, root: Path, path: str, query: str, body: bytes) -> None:
        """Let Git answer.

        :param root: repository or directory of repositories that ``path`` is below.
        """
        environment = {
            **CLEAN,
            "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)), "REMOTE_USER": "client",
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


class _RemoteHandler(GitHandler):
    server: RemoteServer

    def answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        if path == "/health":
            self.send(200, {}, b"ok")
        elif not hmac.compare_digest(self.headers.get("authorization", ""), self.server.expected):
            self.send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        else:
            self.serve_git(self.server.root, path, query, body)


class RemoteServer(ThreadingHTTPServer):
    """The remote.

    :param root: directory of bare repositories.
    :param login: ``user:password``.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path, login: str) -> None:
        if ":" not in login:
            raise ValueError("STANDIN_LOGIN is not user:password; the stand-in refuses to run open")
        self.root = root
        self.expected = f"Basic {base64.b64encode(login.encode()).decode()}"
        super().__init__(address, _RemoteHandler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which takes ten seconds where there is no DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="directory of bare repositories")
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8002)
    options = parser.parse_args()
    with RemoteServer((options.listen, options.port), options.root, os.environ.get("STANDIN_LOGIN", "")) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
