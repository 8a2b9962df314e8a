"""A bot with a live state and a directory of snapshots, below a scratch directory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots.restore import RestoreRequest, keep, stage_restore, swap
from tests.unit.core.snapshots.archive_maker import Directory, File, Link, Maker, read_tree

BOT = 20001
BASE = {
    b"empty": File(),
    b"etc": Directory(0o750),
    b"etc/config": File(b"one\n" * 100, 0o600),
    b"etc/link": Link(b"../empty"),
    b"big": File(bytes(range(256)) * 2048, 0o640),
}


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "bot_repos" / "bot1" / "state"
        self.directory = root / "snapshots" / "bot1"
        for path in (self.state, self.directory, root / "locks", root / "outside"):
            path.mkdir(parents=True)
        os.chown(self.state, BOT, BOT)
        self.state.chmod(0o700)
        (self.state / "alive").write_text("the live state")
        (root / "outside" / "canary").write_text("nobody touches this")
        self.maker = Maker(self.directory)

    def request(self, name: str = "latest", **other: object) -> RestoreRequest:
        values: dict[str, object] = {
            "root": self.root,
            "bot": "bot1",
            "state": self.state,
            "directory": self.directory,
            "name": name,
            "identities": (self.maker.identity,),
            "uid": BOT,
            "gid": BOT,
            **other,
        }
        return RestoreRequest(**values)

    def restore(self, name: str = "latest", **other: object) -> dict[bytes, tuple[object, ...]]:
        staged = stage_restore(self.request(name, **other))
        swap(self.state, staged.path)
        assert keep(self.state)
        return read_tree(self.state)

    @contextmanager
    def refused(self, match: str, kind: type[CoreError] = CoreError):
        """What is done in here ends with a message, and everything is as it was."""
        before = self.everything()
        with pytest.raises(kind, match=match):
            yield
        assert self.everything() == before

    def refuses(self, match: str, kind: type[CoreError] = CoreError, **request: object) -> None:
        """A restore ends with a message, and everything is as it was."""
        with self.refused(match, kind):
            stage_restore(self.request(**request))

    def everything(self) -> dict[bytes, tuple[object, ...]]:
        found = read_tree(self.root)
        # Staging comes and goes in it.
        beside = os.path.relpath(os.fsencode(self.state.parent), os.fsencode(self.root))
        found[beside] = found[beside][:3]
        return found
