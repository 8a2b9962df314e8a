"""What a commit's tree may hold, so that neither Git, nor this machine, nor a mount treats a path specially."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TreeLimits:
    """How large a tree may be.

    :param files: files and links.
    :param blob_bytes: bytes of one file.
    :param total_bytes: bytes of all files.
    :param name_bytes: bytes of all paths together.
    :param depth: components of a path.
    """

    files: int = 20_000
    blob_bytes: int = 5 * 2**20
    total_bytes: int = 64 * 2**20
    name_bytes: int = 4 * 2**20
    depth: int = 32


@dataclass(frozen=True)
class TreeEntry:
    """One path of a tree.

    :param mode: as Git prints it, ``100644``.
    :param kind: ``blob``, ``tree`` or ``commit``.
    :param size: bytes of a blob, 0 of anything else.
    :param path: the whole path as it stands in the tree.
    :param target: where a symbolic link leads, ``None`` for anything else and for a link that is too long to be one.
    """

    mode: str
    kind: str
    sha: str
    size: int
    path: bytes
    target: bytes | None = None


@dataclass(frozen=True)
class Problem:
    """Why a path is refused.

    :param path: printable form of the path; empty when it is about the tree as a whole.
    :param text: what is wrong and what to do.
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def check_tree(entries: Iterable[TreeEntry], limits: TreeLimits | None = None) -> list[Problem]:
    """Everything in a tree that is refused, at most fifty findings; empty when it may be approved.

    :param limits: ``None`` takes the defaults.
    """
    raise NotImplementedError


def read_tree(repository: Path, commit: str, uid: int, environment: Mapping[str, str] | None = None) -> list[TreeEntry]:
    """All entries of a commit's tree, directories included.

    :param uid: user id that git runs as.
    :param environment: more variables for git, such as a push's quarantine.
    :raises CoreError: the commit is not there, or Git cannot read it.
    """
    raise NotImplementedError
