"""What a promotion asks of the bot's gateway; :mod:`..adapters.gateway_container` does it with Docker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class GatewayControl(Protocol):
    """A bot's gateway.

    Every method may be called again after a crash in the middle of it.
    """

    def running(self) -> bool:
        """Whether it runs, or is about to by its restart policy.

        :raises CoreError: there is none, or the engine does not answer.
        """

    def restart(self) -> None:
        """Stop it, end the bot's sandboxes, and start it; a stopped one is started.

        :raises CoreError: the engine refuses.
        """

    def recreate(self, entries: Iterable[Mapping[str, str]], *, start: bool) -> None:
        """Stop it, end the bot's sandboxes, and make it anew with other approved entries mounted.

        :param entries: ``{name, kind}``, as :func:`..workspace.workspace_entries` gives them.
        :param start: whether it is to run after that.
        :raises CoreError: the engine refuses; if the new one could not be made, the old one is still there.
        """

    def ready(self, seconds: float) -> bool:
        """Wait until it answers through its proxy that it is ready.

        :returns: whether it did within ``seconds``.
        """

    def last_words(self) -> str:
        """The last lines of its log; empty if there are none to be had."""
