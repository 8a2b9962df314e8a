"""What role promotion makes of its variables: settings that the core accepts, and the gateway as its role made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

from clawfactory_core.allocation import describe
from clawfactory_core.promotion.plan import limits_of
from clawfactory_core.promotion.state import BotPromotion, read_settings
from clawfactory_core.promotion.tree_rules import TreeLimits

ROLE = Path(__file__).resolve().parents[3] / "roles" / "promotion"
BOT = describe(
    Path("/srv/clawfactory"), "bot1", "10.213.0.0/16", {"slot": 0, "gateway_port": 18789, "controller_port": 8080}
)
GATEWAY = {"name": "clawfactory-bot1-gateway", "memory_mb": 2048, "mounts": [{"source": "/a", "read_only": True}]}
FACTS = {
    "host_bot": BOT,
    "inventory_hostname": "bot1",
    "clawfactory_root": "/srv/clawfactory",
    "bot_repository": "",
    "gateway_ready_timeout": 180,
    "gateway_stop_timeout": 20,
    "__gateway_container": GATEWAY,
    "host_machine": {"rendered": {}, "locked": [], "allocations": {"bot1": {}}},
}


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    init_plugin_loader()


def value(expression: str, **variables: Any) -> Any:
    loader = DataLoader()
    loaded: dict[str, Any] = {}
    for kind in ("defaults", "vars"):
        loaded |= loader.load_from_file(str(ROLE / kind / "main.yml"), cache="none", trusted_as_template=True)
    templar = Templar(loader, variables=loaded | FACTS | variables)
    return templar.template(trust_as_template(f"{{{{ {expression} }}}}"))


def test_core_takes_the_settings(tmp_path):
    settings, gateway = value(
        "__promotion_files", bot_repository="https://git.example/bot1.git", promotion_max_file_mb="7"
    )
    directory = tmp_path / "promotion" / "bot1"
    directory.mkdir(parents=True)
    (directory / "settings.json").write_text(settings["content"])
    found = read_settings(tmp_path, "bot1")
    assert (found.remote.url, found.remote.branch, found.ready_seconds, found.stop_seconds) == (
        "https://git.example/bot1.git", "main", 180, 20,
    )  # fmt: skip
    limits = limits_of(BotPromotion(tmp_path, "bot1", 30001, 20001, 1, found))
    assert limits == TreeLimits(blob_bytes=7 * 2**20)
    assert (settings["owner"], settings["group"], settings["mode"]) == (0, 30001, "0640")
    assert json.loads(gateway["content"]) == GATEWAY


def test_gateway_is_written_as_the_core_writes_it():
    gateway = value("__promotion_files")[1]
    assert gateway["content"] == json.dumps(GATEWAY, indent=4, sort_keys=True)


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"promotion_ready_seconds": 1}, "promotion_ready_seconds is 1"),
        ({"promotion_keep_history": 0}, "promotion_keep_history is 0"),
        ({"promotion_branch": "-x"}, "promotion_branch is -x"),
        ({"promotion_branch": "a..b"}, "promotion_branch is a..b"),
        ({"promotion_upstream_branch": "a b"}, "promotion_upstream_branch is a b"),
        ({"promotion_max_file_mb": 65}, "promotion_max_file_mb is 65"),
        ({"bot_repository": "git@git.example:bot1.git"}, "promotion_remote_host_keys names no key of git.example"),
        ({"bot_repository": "ssh://git:hunter2@git.example/bot1.git"}, "SSH address is in no form that is taken"),
        ({"bot_repository": "git@github.com:o/b", "promotion_remote_host_keys": ["x"]}, "is not a server's key"),
        ({"bot_repository": "git@github.com:o/b", "promotion_remote_host_keys": "x"}, "is a list of lines"),
        ({"bot_repository": "git@github.com:o/b", "secrets_remote_key": "hunter2"}, "no private key in OpenSSH"),
        ({"bot_repository": "git@github.com:o/b", "secrets_remote_key": 7}, "secrets_remote_key is text"),
    ],
)
def test_refused_before_anything(variables, match):
    assert value("__promotion_problems") == []
    (problem,) = value("__promotion_problems", **variables)
    assert match in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("machine", "match"),
    [
        ({"locked": {"bot1": {"refusal": "bot1 is locked by alice"}}, "allocations": {"bot1": {}}}, "bot1 is locked"),
        ({"locked": [], "allocations": {}}, "bot1 is not deployed"),
        ({"locked": [], "allocations": {"bot1": {}}}, ""),
    ],
)
def test_playbooks_refuse(machine, match):
    refusal = value("__promotion_refusal", host_machine=machine)
    assert match in refusal
    assert bool(refusal) == bool(match)
    upstream = value("__promotion_upstream_refusal", host_machine=machine)
    assert upstream == refusal or "only a fork has an upstream" in upstream
    fork = {"gateway_image_source": "fork", "gateway_fork_repository": "https://x/y"}
    assert value("__promotion_upstream_refusal", host_machine=machine, **fork) == refusal


def test_actor_is_who_runs_ansible(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    assert value("__promotion_actor") == "alice"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("USER", "bob")
    assert value("__promotion_actor") == "bob"
    monkeypatch.delenv("USER")
    assert value("__promotion_actor") == "operator"
    assert value("__promotion_actor", promotion_actor="carol") == "carol"
