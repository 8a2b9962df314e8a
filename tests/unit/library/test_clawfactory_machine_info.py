from __future__ import annotations

import pytest

from clawfactory_core import machine
from clawfactory_core.allocation import AllocationRequest, record_allocation
from clawfactory_core.secrets import SecretsRequest, apply_secrets

MODULE = "clawfactory_machine_info"
KEY = "sk-0123456789abcdef"


def make_pair() -> tuple[str, str]:
    return "AGE-SECRET-KEY-1MADEUPFORTHETEST", "age1" + "q" * 58


@pytest.fixture(autouse=True)
def no_engine(monkeypatch, tmp_path):
    engine = machine.EngineSocket(str(tmp_path / "absent.sock"))
    monkeypatch.setattr(machine, "EngineSocket", lambda: engine)


@pytest.fixture(autouse=True)
def debian(monkeypatch):
    """The tests run on whatever system a developer has."""
    monkeypatch.setattr(machine, "read_os_release", lambda path: {"ID": "debian"})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def test_machine_is_returned_and_never_changed(run_module, tmp_path):
    result = run_module(MODULE, root=str(tmp_path / "srv"), commands=["sh", "no-such-program"])
    assert result["changed"] is False
    assert "sh" not in result["machine"]["missing_commands"]
    assert "no-such-program" in result["machine"]["missing_commands"]
    assert result["machine"]["docker"]["available"] is False
    assert not (tmp_path / "srv").exists()


def test_unfit_machine_fails(run_module, tmp_path):
    result = run_module(MODULE, root=str(tmp_path), minimum_memory_mb=10**9, new_bots=["bot1", "bot2"])
    assert result["failed"] and "host_minimum_memory_mb asks for 1000000000" in result["msg"]
    assert result["msg"].startswith("bot1, bot2: ")


@pytest.mark.parametrize(("new_bots", "failed"), [(["bot1"], False), ([], False), (["bot1", "bot2"], True)])
def test_space_is_asked_for_new_bots_only(run_module, tmp_path, new_bots, failed):
    record_allocation(AllocationRequest(tmp_path, "bot1", "10.213.0.0/16"))
    result = run_module(MODULE, root=str(tmp_path), minimum_disk_mb=10**12, new_bots=new_bots)
    assert bool(result.get("failed")) == failed


def test_damaged_allocations_fail_with_their_path(run_module, tmp_path):
    (tmp_path / "allocations.json").write_text("{")
    result = run_module(MODULE, root=str(tmp_path))
    assert result["failed"] and str(tmp_path / "allocations.json") in result["msg"]


@pytest.mark.parametrize("key", [KEY, "srv"])
def test_secrets_are_compared_and_shown_nowhere(run_module, tmp_path, ownership, system_log, key):
    entry = record_allocation(AllocationRequest(tmp_path, "bot1", "10.213.0.0/16")).description
    users = {name: entry[name] for name in ("gateway_uid", "controller_uid")}
    apply_secrets(SecretsRequest(tmp_path, "bot1", {"OPENAI_API_KEY": key}, ("OPENAI_API_KEY",), **users), make_pair)

    def look(value: str) -> dict:
        wanted = {"values": {"OPENAI_API_KEY": value}, "used": ["OPENAI_API_KEY"]}
        wanted |= {"snapshot_key": "machine", "snapshot_recipient": ""}
        wanted |= {"remote": {"url": "", "host_keys": []}, "remote_key": ""}
        return run_module(MODULE, root=str(tmp_path), secrets={"bot1": wanted, "unknown": wanted}, commands=["srv"])

    same, other = look(key), look(KEY + "2")
    assert same["machine"]["secrets"]["bot1"]["settled"] is True
    assert other["machine"]["secrets"]["bot1"]["settled"] is False
    assert KEY not in same["text"] + other["text"] + "".join(system_log)
    # A value that is also part of something else does not cut it out of the facts.
    assert same["machine"]["missing_commands"][:1] == ["srv"]


def test_failing_look_shows_no_secret(run_module, tmp_path, system_log):
    wanted = {"values": {"OPENAI_API_KEY": KEY}, "used": [], "snapshot_key": "machine", "snapshot_recipient": ""}
    result = run_module(MODULE, root=str(tmp_path), minimum_memory_mb=10**9, secrets={"bot1": wanted})
    assert result["failed"] and KEY not in result["text"] + "".join(system_log)
