"""What else does nothing for a locked bot, and the schedule."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.errors import Conflict
from clawfactory_core.snapshots import verify
from clawfactory_core.snapshots.keys import check_new_key_file, rotate_key
from clawfactory_core.snapshots.schedule import read_run
from clawfactory_core.snapshots.verify import VerifyReport

SCRIPT = Path(__file__).parents[4] / "roles" / "snapshots" / "files" / "clawfactory-snapshot"


@pytest.fixture
def root(tmp_path) -> Path:
    for name in ("bot_repos/bot1/state", "snapshots/bot1", "secrets/bot1", "locks"):
        (tmp_path / name).mkdir(parents=True)
    identity, recipient = make_key_pair()
    (tmp_path / "secrets" / "bot1" / "snapshot.key").write_text(f"{identity}\n")
    (tmp_path / "secrets" / "bot1" / "snapshot.pub").write_text(f"{recipient}\n")
    numbers = {"controller_uid": 0, "gateway_uid": 0, "max_chain": 1, "max_delta_percent": 1, "min_free_mb": 0}
    limits = {"max_entries": 1000, "max_mb": 1000, "max_file_mb": 1000, "max_minutes": 10}
    keep = {"last": 1, "daily": 0, "weekly": 0, "monthly": 0}
    settings = {**numbers, **limits, "recipients": [], "exclude": [], "include": [], "keep": keep}
    (tmp_path / "snapshots" / "bot1.json").write_text(json.dumps(settings))
    return tmp_path


def archives(root: Path) -> list[Path]:
    return sorted((root / "snapshots" / "bot1").glob("*.age"))


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = SourceFileLoader("clawfactory_snapshot_script", str(SCRIPT))
    specification = importlib.util.spec_from_loader(loader.name, loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


def test_the_key_of_a_locked_bot_stays(root):
    (root / "locks" / "bot1").touch()
    before = (root / "secrets" / "bot1" / "snapshot.key").read_text()
    with pytest.raises(Conflict, match="playbooks/unlock"):
        rotate_key(root, "bot1", make_key_pair)
    assert (root / "secrets" / "bot1" / "snapshot.key").read_text() == before


@pytest.mark.parametrize("name", ["rescue.key", "rescue.key.pub"])
def test_a_key_that_is_there_is_refused_before_one_is_made(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(Conflict, match="never replaced"):
        check_new_key_file(tmp_path / "rescue.key")


def test_the_schedule_prunes_before_it_verifies(root, script, monkeypatch):
    """One that does not pass would otherwise fill the disk: nothing is pruned from then on."""
    assert script.noted(root, "bot1", "no") == 0
    monkeypatch.setattr(verify, "verify_snapshot", lambda *_, **__: VerifyReport(broken="does not pass"))
    assert script.noted(root, "bot1", "digest") == 1
    assert len(archives(root)) == 1


@pytest.mark.parametrize("when", ["created", "pruned"])
def test_a_bot_that_is_locked_meanwhile(root, script, monkeypatch, when):
    assert script.noted(root, "bot1", "no") == 0
    module = importlib.import_module(f"clawfactory_core.snapshots.{'create' if when == 'created' else 'chains'}")
    name = "apply_snapshot" if when == "created" else "apply_prune"
    real = getattr(module, name)

    def locking(*arguments, **options):
        done = real(*arguments, **options)
        (root / "locks" / "bot1").touch()
        return done

    monkeypatch.setattr(module, name, locking)
    monkeypatch.setattr(verify, "verify_snapshot", lambda *_, **__: pytest.fail("verified although locked"))
    assert script.noted(root, "bot1", "digest") == 1
    run = read_run(root, "bot1")
    assert run is not None and run.state == "failed" and "playbooks/unlock" in run.problem
    assert len(archives(root)) == (2 if when == "created" else 1)
