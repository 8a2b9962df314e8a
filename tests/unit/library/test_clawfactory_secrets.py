from __future__ import annotations

import json
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.secrets import read_env

MODULE = "clawfactory_secrets"
KEY = "sk-ant-0123456789abcdef"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
TOKEN = "3f9c27a1e84b5d06f1c2a7938e4d5b60"
#: Whatever somebody may put into the inventory; the last are refused.
VALUES = st.dictionaries(
    st.sampled_from(["OPENAI_API_KEY", "CONTROLLER_TOKEN", "OPENCLAW_GATEWAY_TOKEN", "bad name", "A"]),
    st.text(min_size=8, max_size=60)
    | st.text("0123456789abcdefABCDEF", min_size=30, max_size=40)
    | st.integers(10_000_000)
    | st.lists(st.text("abcxyz", min_size=8, max_size=20), min_size=1, max_size=2),
    min_size=1,
)


@pytest.fixture
def root(tmp_path, ownership) -> Path:
    return tmp_path


def ask(root: Path, **more) -> dict:
    return {"root": str(root), "bot": "bot1", "gateway_uid": 20001, "controller_uid": 30001, **more}


def held(root: Path) -> set[str]:
    """Every value in the bot's files that is not public."""
    files = [path for path in (root / "secrets").rglob("*.env") if path.is_file()]
    values = {value for path in files for key, value in read_env(path).items() if key != "CONTROLLER_AGE_RECIPIENT"}
    identity = next(line for line in (root / "secrets/bot1/snapshot.key").read_text().splitlines() if line[0] != "#")
    return {*values, identity}


def texts(value: object) -> list[str]:
    return [text for item in value for text in texts(item)] if isinstance(value, list) else [str(value)]


def test_files_are_written_once_with_a_real_key_pair(run_module, root):
    arguments = ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=["ANTHROPIC_API_KEY"])
    first = run_module(MODULE, **arguments)
    assert first["changed"] and "CONTROLLER_TOKEN" in first["generated"] and "snapshot.key" in first["generated"]
    pyrage.x25519.Recipient.from_str(first["recipient"])
    assert KEY in (root / "secrets/bot1/run/gateway.env").read_text()
    second = run_module(MODULE, **arguments)
    assert (second["changed"], second["generated"], second["diff"]) == (False, [], [])
    assert (second["recipient"], second["generations"]) == (first["recipient"], first["generations"])


def test_check_mode_writes_nothing_and_makes_no_key(run_module, root):
    result = run_module(MODULE, check=True, **ask(root))
    assert result["changed"] and "snapshot.key" in result["generated"]
    assert list(root.iterdir()) == []


def test_check_mode_on_a_converged_machine_is_unchanged(run_module, root):
    done = run_module(MODULE, **ask(root))
    looked = run_module(MODULE, check=True, **ask(root))
    assert (looked["changed"], looked["recipient"]) == (False, done["recipient"])


def test_no_value_is_in_result_or_log(run_module, root, system_log):
    values = {"ANTHROPIC_API_KEY": KEY, "CONTROLLER_TOKEN": TOKEN}
    results = [run_module(MODULE, check=check, **ask(root, values=values)) for check in (True, False, False)]
    shown = "".join([*(result["text"] for result in results), *system_log])
    found = held(root)
    assert len(found) == 6
    assert [value for value in found if value in shown] == []


@pytest.mark.parametrize(
    "values",
    [
        {"CONTROLLER_TOKEN": "operator-password"},
        {"CONTROLLER_TOKEN": TOKEN, "OPENCLAW_GATEWAY_TOKEN": TOKEN},
        {"OPENAI_API_KEY": f"{KEY}\n{TOKEN}"},
        {"bad name": KEY},
        {"OPENAI_API_KEY": [KEY]},
        {"OPENAI_API_KEY": {"value": KEY}},
        {"OPENAI_API_KEY": 12345678901234567890},
        f"OPENAI_API_KEY {KEY}",
        [KEY],
    ],
    ids=str,
)
def test_refused_values_are_in_no_result_or_log(run_module, root, system_log, values):
    result = run_module(MODULE, **ask(root, values=values))
    assert result["failed"]
    shown = result["text"] + "".join(system_log)
    assert [text for text in ("operator-password", TOKEN, KEY, "12345678901234567890") if text in shown] == []
    assert not (root / "secrets" / "bot1").exists()


def test_damaged_file_fails_without_showing_it(run_module, root):
    run_module(MODULE, **ask(root))
    (root / "secrets/bot1/gateway.env").write_text(KEY)
    result = run_module(MODULE, **ask(root))
    assert result["failed"] and "gateway.env line 1" in result["msg"] and KEY not in result["text"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=VALUES, used=st.booleans(), check=st.booleans())
def test_nothing_of_any_value_is_in_the_output(
    run_module, ownership, tmp_path_factory, system_log, values, used, check
):
    system_log.clear()
    root = tmp_path_factory.mktemp("root")
    arguments = ask(root, values=values, used=list(values) if used else [])
    result = run_module(MODULE, check=check, **arguments)
    result.pop("text")
    shown = json.dumps(result, ensure_ascii=False) + "".join(system_log)
    secret = [text for value in values.values() for text in texts(value)]
    assert [text for text in secret if len(text) >= 8 and text in shown] == []


def test_key_of_an_ssh_remote_is_made_by_the_module_and_shown_nowhere(run_module, root, system_log):
    remote = {"remote_url": "ssh://git@git.example/b.git", "remote_host_keys": [HOST_KEY]}
    planned = run_module(MODULE, check=True, **ask(root, **remote))
    assert planned["changed"] and "remote.key" in planned["generated"] and list(root.iterdir()) == []
    made = run_module(MODULE, **ask(root, **remote))
    private = (root / "secrets" / "bot1" / "remote.key").read_text()
    again = [run_module(MODULE, **ask(root, **remote, **given)) for given in ({}, {"remote_key": private})]
    assert [result["changed"] for result in again] == [False, False]
    shown = "".join([*(result["text"] for result in (planned, made, *again)), *system_log])
    assert not [line for line in private.splitlines() if line and line in shown]


def test_rotation_shows_no_token_and_is_audited(run_module, root):
    run_module(MODULE, **ask(root))
    before = held(root)
    looked = run_module(MODULE, check=True, root=str(root), bot="bot1", state="rotated", actor="alice")
    assert looked["changed"] and held(root) == before
    done = run_module(MODULE, root=str(root), bot="bot1", state="rotated", actor="alice")
    assert len(held(root) - before) == 3
    assert not any(value in done["text"] for value in held(root) | before)
    line = json.loads((root / "audit" / "bot1.jsonl").read_text())
    assert (line["event"], line["actor"], line["names"]) == ("secrets.rotated", "alice", done["rotated"])
    assert not any(value in json.dumps(line) for value in held(root))
