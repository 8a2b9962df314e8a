from __future__ import annotations

import pytest

from clawfactory_core import overrides
from clawfactory_core.configuration import GatewaySettings, parse_bot, render_config
from clawfactory_core.errors import InvalidInput
from clawfactory_core.sandbox_config import SandboxSettings, parse_sandbox, render_sandbox

SETTINGS = SandboxSettings("all", image="clawfactory-sandbox:1", uid=20003, memory_mb=512, cpus=0.5, pids=100)


def render(variables, settings=SETTINGS):
    return render_config(parse_bot("bot1", variables), GatewaySettings(1, "10.0.0.4", "10.0.0.2", sandbox=settings))


def test_sandbox_is_told_in_full():
    assert render({})["agents"]["defaults"]["sandbox"] == {
        "mode": "all",
        "backend": "docker",
        "scope": "agent",
        "workspaceAccess": "rw",
        "docker": {
            "image": "clawfactory-sandbox:1",
            "containerPrefix": "clawfactory-bot1-sbx-",
            "workdir": "/workspace",
            "readOnlyRoot": True,
            "tmpfs": ["/tmp", "/var/tmp", "/run"],
            "network": "none",
            "user": "20003:20003",
            "capDrop": ["ALL"],
            "memory": "512m",
            "cpus": 0.5,
            "pidsLimit": 100,
        },
        "browser": {"enabled": False},
        "prune": {"idleHours": 24, "maxAgeDays": 7},
    }


@pytest.mark.parametrize("mode", ["off", "non-main", "all"])
def test_no_tool_may_leave_the_sandbox_on_request(mode):
    tools = render({}, SandboxSettings(mode))["tools"]
    assert tools["elevated"] == {"enabled": False}
    assert tools.get("exec") == ({"host": "sandbox"} if mode == "all" else None)


def test_the_probes_model_is_nobodys_default():
    """OpenClaw takes the first listed model of any provider where none is chosen."""
    config = render({})
    assert config["models"]["providers"]["clawfactory-verify"]["models"] == []
    assert "model" not in config["agents"]["defaults"]
    assert "clawfactory-verify" not in render({}, SandboxSettings("off"))["models"]["providers"]


def test_the_probes_model_is_allowed_where_others_are_chosen():
    policy = {"agents": {"defaults": {"modelPolicy": {"allow": ["openai/*"]}}}}
    allowed = render({"gateway_config": policy})["agents"]["defaults"]["modelPolicy"]["allow"]
    assert allowed == ["openai/*", "clawfactory-verify/probe"]
    empty = {"agents": {"defaults": {"modelPolicy": {"allow": []}}}}
    assert render({"gateway_config": empty})["agents"]["defaults"]["modelPolicy"]["allow"] == []


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (SandboxSettings("on"), "gateway_sandbox_mode"),
        (SandboxSettings("all", scope="bot"), "gateway_sandbox_scope"),
        (SandboxSettings("off", workspace_access="wr"), "gateway_sandbox_workspace_access"),
    ],
)
def test_unknown_words_are_refused(settings, variable):
    with pytest.raises(InvalidInput, match=rf"bot1.*{variable}"):
        render_sandbox("bot1", settings)


def test_numbers_may_come_as_text():
    parsed = parse_sandbox({"mode": "all", "uid": "20001", "memory_mb": "512", "cpus": "1", "pids": 5})
    assert (parsed.uid, parsed.memory_mb, parsed.cpus, parsed.pids) == (20001, 512, 1.0, 5)


@pytest.mark.parametrize(
    "setting",
    [
        {"agents": {"defaults": {"sandbox": {"mode": "off"}}}},
        {"agents": {"entries": {"main": {"sandbox": {"mode": "off"}}}}},
        {"agents": {"entries": {"main": {"tools": {"elevated": {"enabled": True}}}}}},
        {"agents": {"entries": {"main": {"tools": {"exec": {"host": "gateway"}}}}}},
        {"agents": {"entries": None}},
        {"models": {"providers": {"clawfactory-verify": {}}}},
        {"tools": {"elevated": {"enabled": True}}},
        {"tools": {"exec": {"host": "gateway"}}},
        {"tools": None},
    ],
)
def test_ways_out_of_the_sandbox_are_refused(setting):
    assert overrides.protected_in(setting)
    with pytest.raises(InvalidInput, match="isolation"):
        parse_bot("bot1", {"gateway_config": setting})


def test_other_settings_of_tools_are_the_operators():
    setting = {"tools": {"exec": {"timeoutSeconds": 60}, "sandbox": {"tools": {"deny": ["process"]}}}}
    config = render({"gateway_config": setting})
    assert config["tools"]["exec"] == {"timeoutSeconds": 60, "host": "sandbox"}
    assert config["tools"]["sandbox"] == {"tools": {"deny": ["process"]}}
