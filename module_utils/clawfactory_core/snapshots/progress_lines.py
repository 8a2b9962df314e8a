"""Progress for whoever looks at a stream: one line that changes on a terminal, now and then a line anywhere else."""

from __future__ import annotations

import time
from typing import TextIO

from .progress import Progress

#: Operations that are shorter are not worth a line, in seconds.
PATIENCE = 2.0
_ON_TERMINALS = 0.2
_ELSEWHERE = 10.0
_START, _CLEAR = "\r", "\x1b[K"


class ProgressLines:
    """Shows reports on a stream while an operation lasts (``with``).

    :param name: stands before each line.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._terminal = stream.isatty()
        self._next = time.monotonic() + PATIENCE
        self._shown = False

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._terminal:
            self._stream.write(_START + _CLEAR)
            self._stream.flush()

    def __call__(self, progress: Progress) -> None:
        """Show a report, unless the last one was shown just now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_ON_TERMINALS if self._terminal else _ELSEWHERE)
        line = f"{self._name}: {progress.text()}"
        self._stream.write(f"{_START}{line}{_CLEAR}" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._shown = True
