from __future__ import annotations

import json
import socket

import pytest

MODULE = "clawfactory_allocation"


@pytest.fixture
def root(tmp_path, ownership):
    return tmp_path / "srv"


@pytest.fixture(autouse=True)
def nothing_listens(monkeypatch):
    """A bot of this machine may have the default ports while the tests run."""
    monkeypatch.setattr("library.clawfactory_allocation.listening_ports", dict)


def test_slot_is_given_once(run_module, root):
    first = run_module(MODULE, root=str(root), bot="bot1")
    assert first["changed"]
    assert first["allocation"]["gateway_uid"] == 20001
    assert first["diff"][0]["after"]["gateway_port"] == 18789
    second = run_module(MODULE, root=str(root), bot="bot1")
    assert (second["changed"], second["diff"]) == (False, [])
    assert second["allocation"] == first["allocation"]


def test_check_mode_says_the_same_and_writes_nothing(run_module, root):
    looked = run_module(MODULE, check=True, root=str(root), bot="bot1")
    assert not root.exists()
    done = run_module(MODULE, root=str(root), bot="bot1")
    assert looked["changed"] and looked["allocation"] == done["allocation"]


def test_drift_is_repaired(run_module, root):
    run_module(MODULE, root=str(root), bot="bot1")
    (root / "secrets").chmod(0o755)
    assert run_module(MODULE, root=str(root), bot="bot1")["changed"]
    assert not run_module(MODULE, root=str(root), bot="bot1")["changed"]


DISK = {"limit_bytes": 1 << 30, "min_free_bytes": 1 << 20, "container": "clawfactory-bot1-gateway"}


def test_disk_limit_comes_with_the_directories(run_module, root):
    looked = run_module(MODULE, check=True, root=str(root), bot="bot1", disk=DISK)
    assert '"limit_bytes": 1073741824' in looked["diff"][-1]["after"] and not root.exists()
    assert run_module(MODULE, root=str(root), bot="bot1", disk=DISK)["changed"]
    written = json.loads((root / "disk" / "bot1.json").read_text())
    assert {name: written[name] for name in DISK} == DISK
    assert written["path"] == str(root / "bot_repos" / "bot1" / "state")
    assert not run_module(MODULE, root=str(root), bot="bot1", disk=DISK)["changed"]
    changed = run_module(MODULE, root=str(root), bot="bot1", disk={**DISK, "limit_bytes": 2 << 30})
    assert changed["changed"] and len(changed["diff"]) == 1
    assert json.loads((root / "disk" / "bot1.json").read_text())["limit_bytes"] == 2 << 30


def test_disk_limit_that_cannot_be_set_is_left_to_its_module(run_module, root, monkeypatch):
    """A run that ended here would leave the firewall written and not loaded."""
    assert run_module(MODULE, root=str(root), bot="bot2")["disk_limited"] is False

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("library.clawfactory_allocation.apply_disk", full)
    result = run_module(MODULE, root=str(root), bot="bot1", disk=DISK)
    assert not result.get("failed") and result["disk_limited"] is False
    assert (root / "run" / "bot1").is_dir()
    monkeypatch.undo()
    monkeypatch.setattr("library.clawfactory_allocation.listening_ports", dict)
    assert run_module(MODULE, root=str(root), bot="bot1", disk=DISK)["disk_limited"] is True


def test_disk_limit_that_makes_no_sense_is_refused_before_anything_changes(run_module, root):
    result = run_module(MODULE, root=str(root), bot="bot1", disk={**DISK, "limit_bytes": 0})
    assert result["failed"] and "limit" in result["msg"]
    assert not root.exists()


def test_port_in_use_by_a_process_is_refused_before_anything_changes(run_module, root, monkeypatch):
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run_module(MODULE, root=str(root), bot="bot1", gateway_port=port)
    assert result["failed"] and f"bot1: gateway_port {port} is in use by " in result["msg"]
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bot": "Bot1"}, "bot name 'Bot1'"),
        ({"network_pool": "10.0.0.1/8"}, "10.0.0.1/8"),
        ({"controller_port": 70000}, "controller_port is 70000"),
        ({"host_ports": [0]}, "port 0"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(run_module, root, arguments, said):
    result = run_module(MODULE, **{"root": str(root), "bot": "bot1", **arguments})
    assert result["failed"] and said in result["msg"]
    assert not root.exists()


def test_absent_gives_back_slot_and_tokens_once(run_module, root):
    for bot in ("bot1", "bot2"):
        run_module(MODULE, root=str(root), bot=bot)
    tokens = root / "secrets" / "tokens.env"
    tokens.write_text("BOT1_CONTROLLER_TOKEN=one\nBOT2_CONTROLLER_TOKEN=two\n")
    gone = {"root": str(root), "bot": "bot1", "state": "absent"}
    assert run_module(MODULE, check=True, **gone)["changed"]
    assert "BOT1" in tokens.read_text()
    result = run_module(MODULE, **gone)
    assert result["changed"] and "one" not in result["text"]
    assert tokens.read_text() == "BOT2_CONTROLLER_TOKEN=two\n"
    assert list(json.loads((root / "allocations.json").read_text())["bots"]) == ["bot2"]
    for check in (True, False):
        assert not run_module(MODULE, check=check, **gone)["changed"]


@pytest.mark.parametrize("exists", [True, False])
def test_absent_makes_nothing_where_nothing_is(run_module, root, exists):
    if exists:
        root.mkdir()
    assert not run_module(MODULE, root=str(root), bot="bot1", state="absent")["changed"]
    assert (list(root.iterdir()) if exists else root.exists()) in ([], False)
