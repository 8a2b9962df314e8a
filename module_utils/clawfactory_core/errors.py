"""Errors of the core. Every message names what was wrong, the value, and the way out."""

from __future__ import annotations


class CoreError(Exception):
    """Base of every error that ClawFactory raises on purpose; its text is meant for the operator."""


class InvalidInput(CoreError):
    """A value of the operator is refused; nothing has been changed."""


class Conflict(CoreError):
    """The request is valid but collides with something that exists (a port, a lock, a running operation)."""


class MissingDependency(CoreError):
    """A library is not importable by this interpreter.

    :param library: import name, for example ``pyrage``.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        super().__init__(f"the Python library {library!r} is missing; run the 'host' role, which installs it")
