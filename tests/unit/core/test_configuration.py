from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core import configuration, overrides
from clawfactory_core.catalog import CHANNELS, PROVIDERS
from clawfactory_core.configuration import (
    GatewaySettings,
    missing_keys,
    parse_bot,
    render_config,
    require_keys,
    to_json,
)
from clawfactory_core.errors import InvalidInput
from clawfactory_core.sandbox_config import SandboxSettings

GATEWAY = GatewaySettings(port=18909, proxy_address="10.213.1.4", egress_address="10.213.1.2")
OWN = {"name": "openai-compatible", "id": "vllm-1", "base_url": "https://llm.example.com:8443/v1/", "model": "qwen3"}


def render(variables, gateway=GATEWAY):
    return render_config(parse_bot("bot1", variables), gateway)


def secret_values(value, key=""):
    """All text at keys under which OpenClaw expects a credential."""
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in secret_values(item, name)]
    if isinstance(value, list):
        return [found for item in value for found in secret_values(item, key)]
    return [value] if key in ("apiKey", "token", "botToken", "appToken", "password") else []


# --- what follows from the variables


def test_a_bot_without_anything_needs_nothing():
    plan = parse_bot("bot1", {})
    assert plan.to_dict() == {
        "bot": "bot1", "providers": [], "channels": [], "default_model": "", "egress_mode": "allowlist",
        "egress_hosts": [], "endpoints": [], "egress_endpoints": [], "host_ports": [],
        "required_env": {}, "optional_env": {}, "used_env": [],
    }  # fmt: skip
    assert "model" not in render({})["agents"]["defaults"]


@pytest.mark.parametrize("row", [row for row in PROVIDERS if not row.repeatable], ids=lambda row: row.name)
def test_a_provider_by_name(row):
    plan = parse_bot("bot1", {"bot_providers": [row.name]})
    assert plan.default_model == f"{row.name}/{row.default_model}"
    assert plan.egress_hosts == tuple(sorted(row.hosts))
    assert [key.env for key in plan.keys] == ([row.key.env] if row.key.required else [])
    config = render({"bot_providers": [row.name]})
    assert config["agents"]["defaults"]["model"] == {"primary": plan.default_model}
    declared = config["models"]["providers"]
    assert set(declared) == ({row.name} if row.api else set())
    if row.api:
        assert row.default_model in [model["id"] for model in declared[row.name]["models"]]


@pytest.mark.parametrize("row", CHANNELS, ids=lambda row: row.name)
def test_a_channel_by_name(row):
    variables = {"bot_channels": [row.name]}
    plan = parse_bot("bot1", variables)
    assert set(plan.egress_hosts) == set(row.hosts)
    assert {key.env: key.wanted_by for key in plan.keys} == {key.env: f"channel {row.name}" for key in row.keys}
    config = render(variables)
    channel = config["channels"][row.name]
    assert channel["enabled"] is True
    for key in row.keys:
        assert channel[key.field] == {"source": "env", "provider": "default", "id": key.env}
    assert channel.get("proxy") == (GATEWAY.egress_url if row.proxied else None)
    assert config["plugins"].get("load", {}).get("paths", []) == ([row.plugin_path] if row.plugin_path else [])
    assert config["plugins"]["entries"][row.name] == {"enabled": True}


def test_kimi_is_moonshot_and_declared_because_its_plugin_is_not_published():
    config = render({"bot_providers": ["kimi"]})
    moonshot = config["models"]["providers"]["moonshot"]
    assert moonshot["baseUrl"] == "https://api.moonshot.ai/v1"
    assert moonshot["apiKey"] == {"source": "env", "provider": "default", "id": "MOONSHOT_API_KEY"}
    assert config["plugins"]["deny"] == ["discord", "moonshot", "slack"]


def test_an_endpoint_of_ones_own():
    plan = parse_bot(
        "bot1",
        {"bot_providers": [{**OWN, "api_key_env": "VLLM_KEY", "models": ["small", {"id": "big", "contextWindow": 9}]}]},
    )
    assert plan.default_model == "vllm-1/qwen3"
    assert plan.egress_hosts == ()
    assert [(one.host, one.port, one.tls, one.kind, one.wanted_by) for one in plan.endpoints] == [
        ("llm.example.com", 8443, True, "public", "provider vllm-1")
    ]
    assert plan.providers[0].settings == {
        "api": "openai-completions",
        "apiKey": {"source": "env", "provider": "default", "id": "VLLM_KEY"},
        "baseUrl": "https://llm.example.com:8443/v1",
        "models": [
            {"id": "qwen3", "name": "qwen3"},
            {"id": "small", "name": "small"},
            {"id": "big", "name": "big", "contextWindow": 9},
        ],
    }


def test_several_endpoints_with_ids_of_their_own():
    plan = parse_bot(
        "bot1", {"bot_providers": [OWN, {**OWN, "id": "vllm-2", "base_url": "https://two.example.com/v1"}]}
    )
    assert [one.id for one in plan.providers] == ["vllm-1", "vllm-2"]
    assert plan.egress_hosts == ("two.example.com",)


def test_an_endpoint_under_the_id_of_a_plugin_keeps_openclaw_from_fetching_it():
    assert "zai" in render({"bot_providers": [{**OWN, "id": "z-ai"}]})["plugins"]["deny"]
    assert "zai" not in render({"bot_providers": [OWN]})["plugins"]["deny"]


def test_a_plugin_the_operator_wants_is_not_denied():
    variables = {
        "bot_providers": ["openrouter"],
        "gateway_config": {"plugins": {"entries": {"perplexity": {"enabled": True}}}},
    }
    assert "perplexity" not in render(variables)["plugins"]["deny"]
    variables["gateway_config"]["plugins"] = {"deny": ["browser"], "load": {"paths": ["/opt/mine"]}}
    variables["bot_channels"] = ["slack"]
    plugins = render(variables)["plugins"]
    assert plugins["deny"] == ["discord", "perplexity", "browser"]
    assert plugins["load"]["paths"] == ["/opt/openclaw/node_modules/@openclaw/slack", "/opt/mine"]


def test_channels_of_the_image_that_nobody_wants_are_denied():
    assert render({})["plugins"]["deny"] == ["discord", "slack"]
    assert render({"gateway_config": {"channels": {"discord": {"enabled": True}}}})["plugins"]["deny"] == ["slack"]
    assert "deny" not in render({"bot_channels": ["discord", "slack"]})["plugins"]


def test_an_endpoint_without_authentication_gets_openclaws_marker():
    own = {"name": "openai-compatible", "base_url": "http://10.9.8.7:8000/v1", "model": "m"}
    plan = parse_bot("bot1", {"bot_providers": [own]})
    assert plan.providers[0].id == "openai-compatible"
    assert plan.providers[0].settings["apiKey"] == "custom-local"
    assert plan.keys == ()
    assert plan.endpoints[0].kind == "private"


def test_ollama_on_this_machine_needs_its_port_and_no_key():
    plan = parse_bot("bot1", {"bot_providers": ["ollama"]})
    assert plan.host_ports == (11434,)
    assert plan.endpoints[0].kind == "machine"
    assert plan.keys == ()
    assert plan.providers[0].settings["apiKey"] == "ollama-local"


def test_the_exceptions_in_the_egress_roles_own_form():
    plan = parse_bot("bot1", {"bot_providers": ["ollama", OWN]}).to_dict()
    assert plan["egress_endpoints"] == [
        {"host": "host.docker.internal", "port": 11434, "private": True},
        {"host": "llm.example.com", "port": 8443, "private": False},
    ]
    assert plan["endpoints"][0] == {
        "host": "host.docker.internal", "port": 11434, "tls": False, "kind": "machine", "wanted_by": "provider ollama",
    }  # fmt: skip


def test_ollama_in_the_internet_needs_a_key():
    plan = parse_bot(
        "bot1", {"bot_providers": [{"name": "ollama", "base_url": "https://ollama.com", "models": ["gpt-oss:120b"]}]}
    )
    assert [key.env for key in plan.keys] == ["OLLAMA_API_KEY"]
    assert plan.default_model == "ollama/gpt-oss:120b"
    assert plan.egress_hosts == ("ollama.com",)
    assert plan.host_ports == ()


def test_moonshots_chinese_endpoint_replaces_the_other_host():
    plan = parse_bot("bot1", {"bot_providers": [{"name": "moonshot", "base_url": "https://api.moonshot.cn/v1"}]})
    assert plan.egress_hosts == ("api.moonshot.cn",)


def test_a_key_under_another_name_is_told_to_openclaw():
    plan = parse_bot("bot1", {"bot_providers": [{"name": "anthropic", "api_key_env": "CLAUDE_KEY"}]})
    assert [key.env for key in plan.keys] == ["CLAUDE_KEY"]
    assert plan.providers[0].settings == {"apiKey": {"source": "env", "provider": "default", "id": "CLAUDE_KEY"}}


@pytest.mark.parametrize("model", ["claude-sonnet-5", "anthropic/claude-sonnet-5"])
def test_a_model_with_and_without_its_provider(model):
    plan = parse_bot("bot1", {"bot_providers": [{"name": "anthropic", "model": model}]})
    assert plan.default_model == "anthropic/claude-sonnet-5"


def test_openrouter_takes_models_of_other_makers():
    plan = parse_bot("bot1", {"bot_providers": [{"name": "openrouter", "model": "anthropic/claude-opus-5"}]})
    assert plan.default_model == "openrouter/anthropic/claude-opus-5"


def test_the_default_model_may_be_any_providers():
    variables = {"bot_providers": ["anthropic", "openai"], "bot_default_model": "openai/gpt-5.5"}
    assert parse_bot("bot1", variables).default_model == "openai/gpt-5.5"
    del variables["bot_default_model"]
    assert parse_bot("bot1", variables).default_model == "anthropic/claude-opus-5"


def test_allowed_hosts_are_joined_and_do_not_overlap():
    variables = {
        "bot_channels": ["slack"],
        "egress_allow_extra": ["Wiki.slack.com", ".example.org", "a.example.org", "9.9.9.9"],
    }
    hosts = parse_bot("bot1", variables).egress_hosts
    assert hosts == (".example.org", ".slack-edge.com", ".slack-files.com", ".slack.com", "9.9.9.9")


def test_mode_none_closes_everything_and_open_keeps_the_exceptions():
    variables = {"bot_providers": ["anthropic", "ollama"]}
    closed = parse_bot("bot1", {**variables, "egress_mode": "none"})
    assert (closed.egress_hosts, closed.endpoints, closed.host_ports) == ((), (), ())
    assert parse_bot("bot1", {**variables, "egress_mode": "open"}).host_ports == (11434,)
    assert render({**variables, "egress_mode": "none"})["proxy"]["proxyUrl"] == "http://10.213.1.2:3128"


# --- keys


def test_missing_keys_are_listed_exactly():
    plan = parse_bot("bot1", {"bot_providers": ["anthropic", "ollama"], "bot_channels": ["slack", "discord"]})
    available = ["SLACK_BOT_TOKEN", "UNRELATED"]
    assert [key.env for key in missing_keys(plan, available)] == [
        "ANTHROPIC_API_KEY",
        "DISCORD_BOT_TOKEN",
        "SLACK_APP_TOKEN",
    ]
    with pytest.raises(InvalidInput) as caught:
        require_keys(plan, available)
    message = str(caught.value)
    for text in (
        "bot 'bot1'",
        "secrets_env",
        "ansible-vault",
        "provider anthropic",
        "channel slack",
        "console.anthropic.com",
    ):
        assert text in message
    assert "SLACK_BOT_TOKEN" not in message
    assert "UNRELATED" not in message


def test_with_all_keys_nothing_is_refused():
    plan = parse_bot("bot1", {"bot_providers": ["anthropic"]})
    require_keys(plan, ["ANTHROPIC_API_KEY"])


def test_keys_that_settings_refer_to_are_needed_too():
    variables = {
        "bot_providers": ["openai"],
        "bot_channels": [{"name": "telegram", "webhookSecret": "${HOOK_SECRET}"}],
        "gateway_config": {
            "mcp": {"servers": {"gh": {"env": {"GITHUB_TOKEN": "${GH_TOKEN}", "A": "${OPENAI_API_KEY}"}}}},
            "hooks": {"token": "${OPENCLAW_GATEWAY_TOKEN}"},
        },
    }
    plan = parse_bot("bot1", variables).to_dict()
    assert plan["required_env"] == {
        "GH_TOKEN": "gateway_config",
        "HOOK_SECRET": "settings of telegram",
        "OPENAI_API_KEY": "provider openai, gateway_config",
        "TELEGRAM_BOT_TOKEN": "channel telegram",
    }
    assert plan["used_env"] == sorted(plan["required_env"])


# --- the rendered configuration


def test_what_isolates_the_gateway():
    config = render(
        {}, GatewaySettings(18909, "10.213.1.4", "10.213.1.2", allowed_origins=("https://bot.example.org",))
    )
    assert config["$include"] == "./operator.json5"
    assert config["proxy"] == {"enabled": True, "loopbackMode": "gateway-only", "proxyUrl": "http://10.213.1.2:3128"}
    assert config["agents"]["defaults"] == {"sandbox": {"mode": "off"}, "workspace": "/home/node/.openclaw/workspace"}
    gateway = config["gateway"]
    assert (gateway["mode"], gateway["bind"], gateway["port"]) == ("local", "lan", 18789)
    token = {"source": "env", "provider": "default", "id": "OPENCLAW_GATEWAY_TOKEN"}
    assert gateway["auth"] == {"mode": "token", "token": token}
    assert gateway["trustedProxies"] == ["10.213.1.4"]
    assert gateway["controlUi"]["allowedOrigins"] == [
        "http://127.0.0.1:18909", "http://localhost:18909", "https://bot.example.org",
    ]  # fmt: skip
    assert config["secrets"]["providers"]["default"] == {"source": "env"}


def test_nothing_calls_home():
    config = render({})
    assert config["update"] == {"auto": {"enabled": False}, "checkOnStart": False}
    assert config["telemetry"] == {"enabled": False}
    assert config["models"]["catalogRefresh"] == {"enabled": False}
    assert config["discovery"] == {"mdns": {"mode": "off"}}


def test_free_settings_win_over_defaults_and_reach_the_result():
    free = {"update": {"checkOnStart": True}, "logging": {"level": "debug"}, "gateway": {"terminal": {"enabled": True}}}
    config = render({"gateway_config": free})
    assert config["update"] == {"auto": {"enabled": False}, "checkOnStart": True}
    assert config["logging"] == {"level": "debug"}
    assert config["gateway"]["terminal"] == {"enabled": True}
    assert config["gateway"]["auth"]["mode"] == "token"


EVERYTHING = {
    "bot_providers": [*(row.name for row in PROVIDERS if not row.repeatable), {**OWN, "api_key_env": "VLLM_KEY"}],
    "bot_channels": [row.name for row in CHANNELS],
}


def test_credentials_are_references_only():
    config = json.loads(to_json(render(EVERYTHING)))
    found = secret_values(config)
    assert found == ["ollama-local"], "everything else is a SecretRef, which is a mapping"
    assert overrides.references(config) == {key.env for key in parse_bot("bot1", EVERYTHING).keys} - {
        "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY",
    } | {"OPENCLAW_GATEWAY_TOKEN"}  # fmt: skip


def test_the_text_is_stable():
    text = to_json(render(EVERYTHING))
    backwards = {key: list(reversed(value)) for key, value in reversed(EVERYTHING.items())}
    same_model = {"bot_default_model": parse_bot("bot1", EVERYTHING).default_model}
    assert to_json(render({**backwards, **same_model})) == text
    assert text.startswith('{\n  "$include": "./operator.json5",\n')
    assert text.endswith("}\n")
    assert json.loads(text) == render(EVERYTHING)


def test_variables_are_not_changed():
    variables = {**copy.deepcopy(EVERYTHING), "gateway_config": {"plugins": {"load": {"paths": ["/x"]}, "deny": ["y"]}}}
    before = copy.deepcopy(variables)
    render(variables)
    render(variables)
    assert variables == before


PATHS = st.sampled_from(
    [path.replace("*", "discord") for path in overrides.PROTECTED]
    + [
        "gateway",
        "channels",
        "agents.defaults",
        "secrets",
        "logging.level",
        "channels.discord.dmPolicy",
        "ui.seamColor",
    ]
    + ["gateway.terminal.enabled", "channels.discord", "models.providers.moonshot.baseUrl", "plugins.entries.x.enabled"]
)
LEAVES = st.none() | st.booleans() | st.sampled_from(["off", "none", "http://evil.example:3128"]) | st.just({})


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


@given(st.lists(st.tuples(PATHS, LEAVES), max_size=5))
def test_no_free_setting_ever_changes_what_isolates(settings):
    variables = {"bot_channels": ["discord", "telegram"], "bot_providers": ["kimi"]}
    baseline = render(variables)
    free = {}
    for path, value in settings:
        free = overrides.merge(free, nested(path, value))
    try:
        config = render({**variables, "gateway_config": free})
    except InvalidInput:
        return
    for pattern in overrides.PROTECTED:
        path = pattern.replace("*", "discord").split(".")
        one, other = config, baseline
        for name in path:
            one = one.get(name, {}) if isinstance(one, dict) else one
            other = other.get(name, {}) if isinstance(other, dict) else other
        assert one == other, pattern


def test_sandbox_mode_and_workspace_are_parameters():
    sandbox = SandboxSettings("all", image="clawfactory-sandbox:1", uid=20001)
    gateway = GatewaySettings(1, "10.0.0.4", "10.0.0.2", sandbox=sandbox, workspace="/w", egress_port=3129)
    config = render({}, gateway)
    assert config["agents"]["defaults"]["workspace"] == "/w"
    assert config["agents"]["defaults"]["sandbox"]["mode"] == "all"
    assert config["proxy"]["proxyUrl"] == "http://10.0.0.2:3129"


def test_bot_variables_that_are_none_mean_nothing():
    variables = dict.fromkeys(
        ("bot_providers", "bot_channels", "bot_default_model", "egress_allow_extra", "gateway_config")
    )
    assert parse_bot("bot1", variables) == parse_bot("bot1", {})


def test_the_modes_are_the_promised_ones():
    assert configuration.EGRESS_MODES == ("allowlist", "open", "none")
