"""A bot of the original ClawFactory goes on as one of ours: with its state, keys, snapshots and proposals."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import original
from tests.support.playbooks import PlaybookRun, ansible_playbook

from .conftest import INVENTORY, ROOT

BOT = "e2e-original"
STATE = ROOT / "bot_repos" / BOT / "state"


def takeover(source: Path, *arguments: str) -> PlaybookRun:
    wanted = ("--limit", BOT, "--extra-vars", f"takeover_from={source}")
    return ansible_playbook("playbooks/takeover.yml", INVENTORY, *wanted, *arguments)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the original was."""
    directory = tmp_path_factory.mktemp("original")
    original.lay_out(directory, BOT)
    return directory


@pytest.fixture(scope="module")
def taken(source: Path) -> Iterator[PlaybookRun]:
    try:
        yield takeover(source).succeeded()
    finally:
        purge = ("--extra-vars", f"remove_purge=true remove_confirm={BOT}")
        ansible_playbook("playbooks/remove.yml", INVENTORY, "--limit", BOT, *purge).succeeded()


def in_gateway(command: str) -> str:
    call = ["docker", "exec", f"clawfactory-{BOT}-gateway", "sh", "-c", command]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()


def test_check_mode_takes_nothing(source: Path) -> None:
    run = takeover(source, "--check").succeeded()
    assert any("State, secrets, snapshots and repository" in line for line in run.changed)
    assert not (ROOT / "bot_repos" / BOT / "origin.git").exists()


def test_gateway_runs_with_the_originals_state_and_openclaw_has_brought_its_memory_index_over(
    taken: PlaybookRun,
) -> None:
    assert in_gateway("cat /home/node/.openclaw/workspace/MEMORY.md") == "long term"
    assert in_gateway("cat /home/node/.openclaw/workspace/SOUL.md") == "# Soul of the original"
    with sqlite3.connect(f"file:{STATE}/agents/main/agent/openclaw-agent.sqlite?mode=ro", uri=True) as database:
        found = database.execute("SELECT count(*) FROM memory_index_chunks WHERE text LIKE 'memory %'").fetchone()
    assert found == (original.MEMORIES,)


def test_tokens_and_keys_are_the_originals(taken: PlaybookRun) -> None:
    assert f"OPENCLAW_GATEWAY_TOKEN={original.GATEWAY_TOKEN}" in in_gateway("cat /run/secrets/gateway.env")
    assert f"ANTHROPIC_API_KEY={original.ENV['ANTHROPIC_API_KEY']}" in in_gateway("cat /run/secrets/gateway.env")
    told = str(taken.report) + taken.stderr
    assert not [value for value in (*original.ENV.values(), original.GATEWAY_TOKEN) if value in told]


def test_its_snapshot_is_listed_and_opens_with_its_key(taken: PlaybookRun, tmp_path: Path) -> None:
    wanted = {"restore_paths": ["workspace/MEMORY.md"], "restore_destination": str(tmp_path / "out")}
    name = original.ARCHIVE.removesuffix(".tar.age")
    extra = ("--extra-vars", f"restore_name={name}", "--extra-vars", str(wanted).replace("'", '"'))
    ansible_playbook("playbooks/restore.yml", INVENTORY, "--limit", BOT, *extra).succeeded()
    assert (tmp_path / "out" / "workspace" / "MEMORY.md").read_text() == "long term\n"


def test_its_branch_is_a_proposal(taken: PlaybookRun) -> None:
    run = ansible_playbook("playbooks/proposals.yml", INVENTORY, "--limit", BOT).succeeded()
    assert "proposal/colour" in str(run.report)


def test_once_more_changes_nothing(taken: PlaybookRun, source: Path) -> None:
    assert takeover(source).succeeded().changed == []
