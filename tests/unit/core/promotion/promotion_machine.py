"""A machine with one bot: real repositories and trees, and a gateway that is a file saying what it runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core import allocation
from clawfactory_core.checkout import commit as commit_of
from clawfactory_core.errors import CoreError
from clawfactory_core.promotion import repository
from clawfactory_core.promotion.apply import PromotionResult, apply_promotion
from clawfactory_core.promotion.plan import PromotionPlan, PromotionRequest, plan_promotion
from clawfactory_core.promotion.secret_rules import make_fingerprints
from clawfactory_core.promotion.state import BotPromotion, load
from clawfactory_core.workspace import workspace_entries

BOT = "bot1"
UID = os.geteuid()
SECRET = "correct-horse-battery-staple"
#: A gateway whose workspace holds a file of this name never gets ready.
BROKEN = "BROKEN.md"


@dataclass
class FileGateway:
    """A gateway that can be killed with the process that tests it: what it runs on is in a file.

    :param file: its state: ``{"running", "commit", "entries"}``.
    :ivar did: what was asked of it, in this process.
    :ivar fails: names of methods that the engine refuses.
    """

    file: Path
    approved: Path
    did: list[str] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)

    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def write(self, **changes: Any) -> None:
        held = self.seen() if self.file.exists() else {"running": False, "commit": "", "entries": []}
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps({**held, **changes}))
        os.replace(beside, self.file)

    def running(self) -> bool:
        self._ask("running")
        return bool(self.seen()["running"])

    def restart(self) -> None:
        self._ask("restart")
        self.write(running=False)
        self._start()

    def recreate(self, entries: Iterable[Mapping[str, str]], *, start: bool) -> None:
        self._ask("recreate")
        self.write(running=False, entries=[dict(entry) for entry in entries])
        if start:
            self._start()

    def ready(self, seconds: float) -> bool:
        self._ask("ready")
        seen = self.seen()
        # It has what was bound when it started, and cannot start without what it binds.
        return bool(seen["running"]) and not (self.approved / "workspace" / BROKEN).exists()

    def last_words(self) -> str:
        return f"npm ERR! 404\ntoken {SECRET} refused\nbye"

    def _start(self) -> None:
        mounted = {entry["name"] for entry in self.seen()["entries"]}
        there = {entry["name"] for entry in workspace_entries(self.approved)}
        if not mounted <= there:
            raise CoreError(f"bind source path does not exist: {sorted(mounted - there)}")
        self.write(running=True, commit=commit_of(self.approved))

    def _ask(self, what: str) -> None:
        self.did.append(what)
        if what in self.fails:
            raise CoreError(f"the Docker engine refused to {what}")


class Machine:
    """``clawfactory_root`` with one deployed bot, offline unless told otherwise."""

    def __init__(self, top: Path, **settings: Any) -> None:
        self.top = top
        self.root = top / "root"
        self.repositories = self.root / "bot_repos" / BOT
        for path in (self.repositories / "state", self.root / "locks", self.root / "promotion" / BOT / "denied"):
            path.mkdir(parents=True)
        for path in (self.root / "audit", self.root / "secrets" / BOT / "run"):
            path.mkdir(parents=True)
        entry = {"slot": 0, "gateway_port": 1, "controller_port": 2, "host_ports": []}
        (self.root / "allocations.json").write_text(json.dumps({"schema": 1, "bots": {BOT: entry}}))
        (self.root / "secrets" / BOT / "run" / "fingerprints.json").write_text(json.dumps(make_fingerprints([SECRET])))
        self.settings(**settings)
        self.work = top / "work"
        self._make_repositories()
        self.gateway = FileGateway(top / "gateway.json", self.approved)
        self.gateway.write(running=True, commit=self.approved_commit, entries=workspace_entries(self.approved))

    def copy(self, top: Path) -> Machine:
        """The same again elsewhere, which is much faster than to make it."""
        shutil.copytree(self.top / "root", top / "root", symlinks=True)
        other = Machine.__new__(Machine)
        other.top, other.root, other.work = top, top / "root", self.work
        other.repositories = other.root / "bot_repos" / BOT
        other.gateway = FileGateway(top / "gateway.json", other.approved)
        shutil.copy(self.gateway.file, other.gateway.file)
        return other

    def settings(self, **changes: Any) -> None:
        held = {
            "schema": 1,
            "remote": {"url": "", "branch": "main", "user": ""},
            "ready_seconds": 10,
            "stop_seconds": 1,
            "snapshot": True,
            "keep_history": 1000,
            "limits": {},
            **changes,
        }
        (self.root / "promotion" / BOT / "settings.json").write_text(json.dumps(held))

    @property
    def bot(self) -> BotPromotion:
        return load(self.root, BOT)

    @property
    def approved(self) -> Path:
        return self.repositories / "approved"

    @property
    def approved_commit(self) -> str:
        return commit_of(self.approved)

    @property
    def main(self) -> str:
        return self.git(self.bot.origin, "rev-parse", "refs/heads/main")

    def commit(self, files: Mapping[str, str | None], branch: str = "main", push: str = "") -> str:
        """Commit to a branch of the origin, as a merge that somebody made; ``None`` deletes a file."""
        self._write(files)
        commit = self.git(self.work, "rev-parse", "HEAD")
        self.git(self.work, "push", "-q", push or str(self.bot.origin), f"HEAD:refs/heads/{branch}")
        return commit

    def propose(self, name: str, files: Mapping[str, str | None]) -> str:
        """Push a proposal, as the controller takes it from the bot."""
        self.git(self.work, "fetch", "-q", str(self.bot.origin), "main")
        self.git(self.work, "checkout", "-q", "-B", "proposal", "FETCH_HEAD")
        commit = self.commit(files, f"proposal/{name}", str(self.bot.proposals))
        self.git(self.work, "checkout", "-q", "main")
        return commit

    def request(self, **fields: Any) -> PromotionRequest:
        return PromotionRequest(self.root, BOT, **{"actor": "alice", "source": "playbook", "wait_seconds": 5, **fields})

    def plan(self, **fields: Any) -> PromotionPlan:
        return plan_promotion(self.request(**fields), self.gateway)

    def promote(self, **fields: Any) -> PromotionResult:
        return apply_promotion(self.plan(**fields), None, self.gateway)

    def lock(self) -> None:
        (self.root / "locks" / BOT).write_text("{}")

    def consistent(self) -> str:
        """The commit that is approved, after asserting that all agrees with it and nothing is left over."""
        commit = self.approved_commit
        assert self.git(self.approved, "status", "--porcelain", "--ignored") == ""
        listed = self.git(self.approved, "ls-tree", "-r", "--name-only", commit).split("\n")
        files = {str(path.relative_to(self.approved)) for path in self.approved.rglob("*") if path.is_file()}
        assert {path for path in files if not path.startswith(".git/")} == set(listed)
        beside = {path.name for path in self.repositories.iterdir()}
        assert beside - {"approved.previous"} == {"approved", "origin.git", "proposals.git", "state"}
        assert not (self.root / "promotion" / BOT / "journal.json").exists()
        return commit

    @staticmethod
    def git(directory: Path, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "bot", "GIT_AUTHOR_EMAIL": "bot@x",
            "GIT_COMMITTER_NAME": "bot", "GIT_COMMITTER_EMAIL": "bot@x",
        }  # fmt: skip
        done = subprocess.run(
            ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in ok, done.stderr
        return done.stdout.removesuffix("\n")

    def _write(self, files: Mapping[str, str | None]) -> None:
        for path, text in files.items():
            target = self.work / path
            if text is None:
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        self.git(self.work, "add", "--all")
        self.git(self.work, "commit", "-q", "--allow-empty", "-m", "change")

    def _make_repositories(self) -> None:
        origin, proposals = self.bot.origin, self.bot.proposals
        for path in (origin, proposals, self.work):
            path.mkdir(parents=True)
        self.git(origin, "init", "-q", "--bare", "-b", "main")
        self.git(proposals, "init", "-q", "--bare", "-b", "main")
        (proposals / "objects" / "info" / "alternates").write_text("../../origin.git/objects\n")
        self.git(self.work, "init", "-q", "-b", "main")
        self.commit({"workspace/SOUL.md": "kind\n", "workspace/skills/a.md": "a\n", "README.md": "bot\n"})
        repository.checkout(origin, UID, self.main, self.approved)


def same_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot's users are whoever runs the tests."""
    monkeypatch.setattr(allocation, "_UIDS", dict.fromkeys(allocation._UIDS, UID))
