"""Real repositories for tests: ``origin.git`` with a first commit, ``proposals.git``, and a bot that works."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

UID = os.geteuid()
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bot1",
    "GIT_AUTHOR_EMAIL": "bot1@localhost",
    "GIT_COMMITTER_NAME": "bot1",
    "GIT_COMMITTER_EMAIL": "bot1@localhost",
}


def git(directory: Path, *arguments: str, data: bytes = b"", **more: str) -> str:
    """Git as anybody runs it, with ``more`` in its environment."""
    done = subprocess.run(
        ["git", *arguments], cwd=directory, input=data, env={**ENVIRONMENT, **more}, capture_output=True, check=False
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


class Repositories:
    """A bot's repositories below ``top``.

    :ivar work: the bot's clone, on ``main`` at first.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.origin, self.proposals, self.work = top / "origin.git", top / "proposals.git", top / "work"
        top.mkdir(exist_ok=True)
        for path in (self.origin, self.proposals):
            git(top, "init", "-q", "--bare", "-b", "main", "--template=", str(path))
        (self.proposals / "objects" / "info").mkdir(exist_ok=True)
        (self.proposals / "objects" / "info" / "alternates").write_text("../../origin.git/objects\n")
        git(top, "init", "-q", "-b", "main", str(self.work))
        self.first = self.commit(
            {"workspace/SOUL.md": "be kind\n", "workspace/skills/a/SKILL.md": "a\n", "config.json": "{}"}
        )
        self.push("main", self.origin)

    def commit(self, files: dict[str, str | bytes | None], message: str = "change", **environment: str) -> str:
        """Write, or with ``None`` delete, files in the bot's clone and commit."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "--allow-empty", "-m", message, **environment)
        return self.head()

    def head(self) -> str:
        return git(self.work, "rev-parse", "HEAD")

    def push(self, refspec: str, to: Path) -> None:
        git(self.work, "push", "-q", "-f", str(to), refspec)

    def propose(
        self, name: str, files: dict[str, str | bytes | None], message: str = "change", *, base: str = ""
    ) -> str:
        """A commit on ``base`` (``main`` as it was at first), pushed as a proposal past every check."""
        git(self.work, "checkout", "-q", "--detach", base or self.first)
        commit = self.commit(files, message)
        self.push(f"HEAD:refs/heads/proposal/{name}", self.proposals)
        return commit

    def advance(self, files: dict[str, str | bytes | None]) -> str:
        """A commit on ``main`` itself, in ``origin.git``."""
        git(self.work, "checkout", "-q", "-B", "main", git(self.origin, "rev-parse", "main"))
        commit = self.commit(files)
        self.push("main", self.origin)
        return commit
