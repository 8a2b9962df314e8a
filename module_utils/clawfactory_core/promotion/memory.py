"""Copies the bot's memory, as far as it is text, to the branch ``memory-backup`` of its repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BRANCH = "memory-backup"


@dataclass(frozen=True)
class MemoryBackup:
    """What a backup did.

    :param commit: tip of the branch after it.
    :param changed: whether there was anything new.
    :param files: path to bytes of what is in it.
    :param left_out: path to reason of what is not.
    """

    commit: str
    changed: bool
    files: dict[str, int]
    left_out: dict[str, str]


def backup_memory(root: Path, bot: str, *, actor: str, check: bool = False) -> MemoryBackup:
    """Commit the markdown files of the memory to the branch, of the remote if there is one.

    :param check: tell what would be in it and change nothing.
    :raises Conflict: the bot is locked.
    :raises CoreError: the state, the repository or the remote cannot be read or written.
    """
    raise NotImplementedError
