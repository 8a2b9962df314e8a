"""Attacks on the broker of the bot that the end-to-end tests deploy; nothing else may use the engine meanwhile."""

from tests.e2e.conftest import _logs_on_failure, _root, bot, lan

__all__ = ["_logs_on_failure", "_root", "bot", "lan"]
