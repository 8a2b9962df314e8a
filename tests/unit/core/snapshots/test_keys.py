"""Keys of snapshots: whatever ends a rotation, what there is opens, and so does what is made next."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.snapshots.create import SnapshotRequest, apply_snapshot
from clawfactory_core.snapshots.keys import make_key_file, rotate_key
from clawfactory_core.snapshots.records import SnapshotRecord
from clawfactory_core.snapshots.settings import read_identities, read_recipients
from clawfactory_core.snapshots.verify import verify_snapshot
from tests.support.killing import killing_at


class Rotated:
    """A bot with a key pair on the machine, and a snapshot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "bot_repos" / "bot1" / "state"
        self.directory = root / "snapshots" / "bot1"
        self.secrets = root / "secrets" / "bot1"
        for path in (self.state, self.directory, root / "locks"):
            path.mkdir(parents=True)
        (self.state / "file").write_text("content")
        make_key_file(self.secrets / "snapshot.key", make_key_pair)
        (self.secrets / "snapshot.key.pub").rename(self.secrets / "snapshot.pub")

    def snapshot(self) -> SnapshotRecord:
        recipients = read_recipients(self.root, "bot1")
        request = SnapshotRequest(self.root, "bot1", self.state, self.directory, os.geteuid(), recipients)
        return apply_snapshot(request).record

    def opens(self, record: SnapshotRecord) -> bool:
        identities = read_identities(self.root, "bot1")
        staging = self.state.parent
        return verify_snapshot(self.directory, record, identities, content=True, staging=staging).ok

    def rotate(self) -> None:
        rotate_key(self.root, "bot1", make_key_pair)

    def readable_by_others(self) -> list[str]:
        found = [path for path in self.secrets.rglob("*") if not path.is_dir() and b"AGE-SECRET" in path.read_bytes()]
        return [str(path) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_old_snapshots_open_after_rotations_and_new_ones_are_full(tmp_path):
    bot = Rotated(tmp_path)
    made = []
    for _ in range(3):
        made.append(bot.snapshot())
        bot.rotate()
    assert [record.kind for record in made] == ["full"] * 3
    assert len({record.recipients for record in made}) == 3
    assert all(bot.opens(record) for record in made)
    kept = sorted(path.name for path in (bot.secrets / "snapshot.keys").iterdir())
    assert kept == sorted(f"{record.recipients[0]}.key" for record in made)
    assert bot.readable_by_others() == []


def test_a_rotation_that_is_killed_anywhere_loses_no_key(tmp_path):
    _, changes = killing_at(0, Rotated(tmp_path / "count").rotate)
    assert changes > 10
    recipients = set()
    for at in range(1, changes + 1):
        bot = Rotated(tmp_path / str(at))
        before = bot.snapshot()
        status, _ = killing_at(at, bot.rotate)
        assert os.WIFSIGNALED(status), f"not killed at {at} of {changes}"
        between = bot.snapshot()
        recipients.add(between.recipients == before.recipients)
        assert bot.opens(before) and bot.opens(between), f"killed at {at} of {changes}"
        bot.rotate()
        after = bot.snapshot()
        assert after.recipients not in (before.recipients, between.recipients)
        assert all(bot.opens(record) for record in (before, between, after)), f"killed at {at} of {changes}"
        assert bot.readable_by_others() == []
    assert recipients == {True, False}
