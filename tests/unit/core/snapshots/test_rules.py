from __future__ import annotations

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.snapshots.rules import EXCLUDED, LEFT_OUT, Rules


def reason(rules: Rules, path: str) -> str:
    data = path.encode()
    return rules.reason(data, data.rpartition(b"/")[2])


@pytest.mark.parametrize(
    "path",
    [
        "installed",
        "workspace/app/node_modules",
        "workspace/.git",
        ".git",
        "workspace/.venv",
        "a/venv",
        "a/__pycache__",
        "cache",
        ".cache",
        ".npm",
        "shared/caches",
        "shared/tools",
        ".local/share/pnpm/store",
        "agents/main/agent/tools/cache",
        "agents/main/agent/codex/logs_1.sqlite-wal",
        "agents/main/agent/logs_2.sqlite",
        "openclaw.json.tmp",
        "a/b.tmp.123",
        "tmp",
        "subagents",
        "media",
        "agents/main/sessions/1.jsonl.deleted.2026",
        "agents/main/sessions/1.jsonl.reset.2026",
        "run/gateway.state.lock.sqlite",
        "run/gateway.4f505287.lock.sqlite-wal",
        "gateway.lock",
        "agents/main/sessions/1.jsonl.lock",
        "cron/.usage-cost-cache.json.lock",
    ],
)
def test_what_does_not_belong_in_a_snapshot_is_left_out(path):
    assert reason(Rules(), path)


@pytest.mark.parametrize(
    "path",
    [
        "openclaw.json",
        "state/openclaw.sqlite",
        "state/openclaw.sqlite-wal",
        "agents/main/agent/openclaw-agent.sqlite",
        "agents/main/sessions/1.jsonl",
        "memory/main.sqlite",
        "credentials/oauth.json",
        "devices/paired.json",
        "identity/device.json",
        "cron/jobs.json",
        "workspace/SOUL.md",
        "workspace/cache",
        "workspace/media",
        "workspace/tmp",
        "workspace/app/yarn.lock",
        "workspace/page.tmpl",
        "workspace/.gitignore",
        "workspace/installed",
        "config-journal-fingerprint.key",
    ],
)
def test_what_a_bot_is_stays_in(path):
    assert reason(Rules(), path) == ""


def test_patterns_of_the_operator_extend_the_table_and_includes_win():
    rules = Rules(exclude=("*.iso", "workspace/**/big"), include=("workspace/.git", "keep.iso"))
    assert reason(rules, "a/b.iso") == EXCLUDED
    assert reason(rules, "workspace/x/y/big") == EXCLUDED
    assert reason(rules, "workspace/big") == EXCLUDED
    assert reason(rules, "other/big") == ""
    assert reason(rules, "a/keep.iso") == ""
    assert reason(rules, "workspace/.git") == ""
    assert reason(rules, "workspace/x/.git")


def test_wildcards_keep_to_their_component():
    rules = Rules(exclude=("a/*/c", "x/**", "b?d", "/top", "n[1]"))
    assert reason(rules, "a/b/c") and not reason(rules, "a/b/d/c")
    assert reason(rules, "x/y/z") and not reason(rules, "x")
    assert reason(rules, "q/bcd") and not reason(rules, "bd")
    assert reason(rules, "top") and not reason(rules, "a/top")
    assert reason(rules, "n[1]") and not reason(rules, "n1")


def test_names_that_are_not_utf8_match_too():
    rules = Rules(exclude=("*.bin",))
    assert rules.reason(b"\xff\n.bin", b"\xff\n.bin") == EXCLUDED


@pytest.mark.parametrize("pattern", ["", "/", "a//b"])
def test_empty_components_are_refused(pattern):
    with pytest.raises(InvalidInput, match="empty component"):
        Rules(exclude=(pattern,))


def test_every_line_of_the_table_says_what_it_is_and_patterns_come_once():
    assert all(rule.reason and rule.text for rule in LEFT_OUT)
    assert len({rule.pattern for rule in LEFT_OUT}) == len(LEFT_OUT)


DEEP = Rules(include=("installed/keep", "workspace/node_modules/mine", "agents/*/venv/**/x"))


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("installed", True),
        ("installed/keep", False),
        ("installed/other", False),
        ("workspace", True),
        ("workspace/node_modules", True),
        ("other/node_modules", False),
        ("agents/main/venv", True),
        ("agents/main/venv/a/b", True),
        ("agents/main/other", False),
    ],
)
def test_directories_that_lead_to_what_is_included(path, leads):
    assert DEEP.leads_to_included(path.encode()) == leads
    assert not Rules(include=("keep",)).leads_to_included(path.encode())
