"""Real repositories for tests of proposals: the two of a bot, and clones of them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Bot",
    "GIT_AUTHOR_EMAIL": "bot@example.org",
    "GIT_COMMITTER_NAME": "Bot",
    "GIT_COMMITTER_EMAIL": "bot@example.org",
    "HOME": "/nonexistent",
}


def run(directory: Path, *arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run git, whatever comes of it."""
    environment = {"PATH": os.environ["PATH"], **_ENVIRONMENT}
    command = ["git", "-C", str(directory), *arguments]
    ended = subprocess.run(command, env=environment, input=data, capture_output=True, timeout=60, check=False)
    output, errors = (stream.decode("utf-8", "replace") for stream in (ended.stdout, ended.stderr))
    return subprocess.CompletedProcess(command, ended.returncode, output, errors)


def git(directory: Path, *arguments: str, data: bytes | None = None) -> str:
    """Run git, which has to succeed; return what it printed."""
    ended = run(directory, *arguments, data=data)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@dataclass(frozen=True)
class Repositories:
    """``origin.git`` with an approved history, and ``proposals.git`` that borrows its objects."""

    directory: Path

    @property
    def origin(self) -> Path:
        """The authority."""
        return self.directory / "origin.git"

    @property
    def proposals(self) -> Path:
        """What the bot pushes to."""
        return self.directory / "proposals.git"

    @property
    def main(self) -> str:
        """Commit of the approved branch."""
        return git(self.origin, "rev-parse", "refs/heads/main")

    def refs(self, repository: Path) -> dict[str, str]:
        """All refs but the copy of ``main``, which is not the bot's doing."""
        lines = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        found = dict(line.split(" ") for line in lines)
        if repository == self.proposals:
            found.pop("refs/heads/main", None)
        return found


def make_repositories(directory: Path, files: dict[str, str]) -> Repositories:
    """Make both, with one commit of ``files``."""
    work = directory / "work"
    work.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=main", "--template=")
    write(work, files)
    commit(work, "first")
    made = Repositories(directory)
    git(directory, "clone", "--quiet", "--bare", "--template=", str(work), str(made.origin))
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(made.proposals))
    alternates = made.proposals / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text("../../origin.git/objects\n")
    return made


def write(work: Path, files: dict[str, str]) -> None:
    """Write files below ``work``."""
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(work: Path, message: str, files: dict[str, str] | None = None) -> str:
    """Commit everything in ``work``, after writing ``files``; return the commit."""
    write(work, files or {})
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--allow-empty", f"--message={message}")
    return git(work, "rev-parse", "HEAD")


def plant(work: Path, entries: list[tuple[str, str, bytes]], message: str = "crafted") -> str:
    """Make a commit of a tree that no ordinary git would make, and return it; nothing is checked out.

    :param entries: mode, name and content (of a tree: its raw bytes) of each entry of the top directory.
    """
    raw = b""
    for mode, name, content in sorted(entries, key=lambda entry: entry[1]):
        kind = "tree" if mode == "40000" else "blob"
        oid = "1" * 40 if mode == "160000" else hash_object(work, kind, content)
        raw += f"{mode} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes.fromhex(oid)
    tree = hash_object(work, "tree", raw)
    return git(work, "commit-tree", tree, "-p", "HEAD", "-m", message)


def hash_object(work: Path, kind: str, content: bytes) -> str:
    """Write one object without any check."""
    return git(work, "hash-object", "-t", kind, "-w", "--literally", "--stdin", data=content)
