"""Asks the jobs service; for programs of the machine. The controller has its own, which does not block."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import CoreError
from .protocol import ANSWER_BYTES, ENDED, HEARTBEAT_SECONDS, encode, parse_answer


class JobsUnavailable(CoreError):
    """The service does not listen, or not answer."""


class JobsClient:
    """:param path: of the bot's socket. :param timeout: seconds for an answer."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self._path = path
        self._timeout = timeout

    def ask(self, op: str, **fields: str) -> dict[str, Any]:
        """The answer to anything but ``follow``.

        :raises Refusal: the request is refused.
        :raises JobsUnavailable: there is no answer.
        """
        with self._conversation({"op": op, **fields}, self._timeout) as lines:
            return parse_answer(_line(lines, self._path))

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """A job now and whenever it changes, until it is over.

        :raises Refusal: there is none.
        :raises JobsUnavailable: the service ended before the job did.
        """
        with self._conversation({"op": "follow", "id": job_id}, 2 * HEARTBEAT_SECONDS) as lines:
            while True:
                job: dict[str, Any] = parse_answer(_line(lines, self._path))["job"]
                yield job
                if job["state"] in ENDED:
                    return

    @contextmanager
    def _conversation(self, request: dict[str, str], timeout: float) -> Iterator[IO[bytes]]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with closing(connection):
            try:
                connection.settimeout(timeout)
                # By the directory's descriptor: a path may be longer than an address can be.
                directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    connection.connect(f"/proc/self/fd/{directory}/{self._path.name}")
                finally:
                    os.close(directory)
                # Turned away before it was heard: the answer says why.
                with suppress(BrokenPipeError):
                    connection.sendall(encode(request))
                with connection.makefile("rb") as lines:
                    yield lines
            except OSError as error:
                text = f"the jobs service does not answer on {self._path}: {error}; see its log"
                raise JobsUnavailable(text) from error


def _line(lines: IO[bytes], path: Path) -> bytes:
    line = lines.readline(ANSWER_BYTES + 1)
    if not line.endswith(b"\n"):
        raise JobsUnavailable(f"the jobs service on {path} closed before it had answered; ask again")
    return line
