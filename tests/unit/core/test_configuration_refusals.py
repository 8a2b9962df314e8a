from __future__ import annotations

import pytest

from clawfactory_core.configuration import GatewaySettings, parse_bot, render_config
from clawfactory_core.errors import InvalidInput
from clawfactory_core.sandbox_config import SandboxSettings

OWN = {"name": "openai-compatible", "id": "vllm-1", "base_url": "https://llm.example.com:8443/v1/", "model": "qwen3"}


def refused(variables, *texts):
    with pytest.raises(InvalidInput) as caught:
        parse_bot("bot1", variables)
    message = str(caught.value)
    for text in ("bot 'bot1'", *variables, *texts):
        assert text in message
    return message


@pytest.mark.parametrize("name", ["", "Bot1", "bot_1", "-bot", "bot-", "b" * 41, "bot1/..", "böt", "a-sbx", "a-sbx-b"])
def test_bot_names_that_are_refused(name):
    with pytest.raises(InvalidInput):
        parse_bot(name, {})


@pytest.mark.parametrize(
    ("entries", "texts"),
    [
        (["antropic"], ["'antropic'", "known are", "moonshot", "openrouter", "did you mean 'anthropic'"]),
        (["zzz"], ["'zzz'", "known are", "use one of these"]),
        ("anthropic", ["'anthropic'", "list"]),
        ([7], ["known are"]),
        ([{"model": "x"}], ["known are", "model"]),
        (["openai", "openai"], ["'openai'", "twice"]),
        (["kimi", "moonshot"], ["'moonshot'", "twice"]),
        ([OWN, OWN], ["vllm-1", "own 'id'"]),
        ([{"name": "openai", "modell": "x"}], ["'modell'", "base_url"]),
        ([{"name": "openai", "model": ""}], ["'model'"]),
        ([{"name": "openai", "model": 5}], ["'model'"]),
        ([{"name": "openai", "model": "a b"}], ["'a b'", "white space"]),
        ([{"name": "openai", "models": ["x"]}], ["'model'"]),
        ([{"name": "openai", "id": "x"}], ["fixed id"]),
        ([{"name": "openai", "base_url": "https://x.example"}], ["openai-compatible"]),
        ([{"name": "openai-compatible", "model": "x"}], ["base_url"]),
        ([{"name": "openai-compatible", "base_url": "https://x.example/v1"}], ["'model'"]),
        ([{**OWN, "id": "Bad_Id"}], ["'Bad_Id'", "lower-case"]),
        ([{**OWN, "id": "anthropic"}], ["'anthropic'"]),
        ([{**OWN, "id": "kimi"}], ["'kimi'"]),
        ([{**OWN, "models": []}], ["'models'"]),
        ([{**OWN, "models": [{"name": "x"}]}], ["'models'"]),
        ([{**OWN, "models": [{"id": "x", "headers": {"Authorization": "sk-live"}}]}], ["plain text"]),
        ([{**OWN, "base_url": "http://localhost:8000/v1"}], ["host.docker.internal"]),
        ([{**OWN, "base_url": "http://169.254.169.254/v1"}], ["metadata"]),
        ([{**OWN, "base_url": "http://llm.example.com/v1", "api_key_env": "K"}], ["https"]),
        ([{"name": "ollama", "base_url": "http://host.docker.internal:11434/v1"}], ["'/v1'"]),
    ],
)
def test_providers_that_are_refused(entries, texts):
    message = refused({"bot_providers": entries}, *texts)
    assert "sk-live" not in message


@pytest.mark.parametrize(
    "env", ["sk-live-123", "lower", "OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN", "PATH", "NODE_OPTIONS", "A\n"]
)
def test_a_name_for_the_key_that_is_refused_is_not_repeated(env):
    message = refused({"bot_providers": [{**OWN, "api_key_env": env}]}, "api_key_env", "secrets_env")
    assert env not in message


@pytest.mark.parametrize("url", ["https://me:hunter2@llm.example.com/v1", "https://me:hun/ter2@llm.example.com/v1"])
def test_a_login_in_a_url_is_not_repeated(url):
    message = refused({"bot_providers": [{**OWN, "base_url": url}]})
    assert "hun" not in message


@pytest.mark.parametrize(
    ("entries", "texts"),
    [
        (["discrod"], ["'discrod'", "known are discord, slack, telegram", "did you mean 'discord'"]),
        (["discord", {"name": "discord"}], ["twice"]),
        ([{"name": "discord", "token": "x"}], ["'token'", "secrets_env"]),
        ([{"name": "slack", "mode": "http"}], ["'mode'"]),
        ([{"name": "telegram", "proxy": "http://x"}], ["'proxy'"]),
        ([{"name": "telegram", "accounts": {"a": {"proxy": "http://x"}}}], ["egress"]),
        ([{"name": "telegram", "webhookSecret": "hunter2"}], ["secrets_env"]),
        ([{"name": "telegram", "groups": {123: {}}}], ["quotes"]),
    ],
)
def test_channels_that_are_refused(entries, texts):
    assert "hunter2" not in refused({"bot_channels": entries}, *texts)


@pytest.mark.parametrize(
    ("variables", "texts"),
    [
        ({"egress_mode": "closed"}, ["'closed'", "allowlist, open, none"]),
        ({"egress_mode": False}, ["allowlist, open, none"]),
        ({"egress_allow_extra": "example.org"}, ["list"]),
        ({"egress_allow_extra": ["*.example.org"]}, ["'*.example.org'", "'.example.org'"]),
        ({"egress_allow_extra": [5]}, ["5"]),
        ({"bot_default_model": "openai/gpt-5.5"}, ["'openai/gpt-5.5'", "bot_providers is empty"]),
        ({"bot_default_model": 5}, ["5"]),
        ({"gateway_config": ["x"]}, ["mapping"]),
        ({"gateway_config": {"gateway": {"auth": {"mode": "none"}}}}, ["'gateway.auth'", "OPENCLAW_GATEWAY_TOKEN"]),
        ({"gateway_config": {"proxy": None}}, ["'proxy'", "egress_allow_extra"]),
        (
            {"gateway_config": {"mcp": {"servers": {"x": {"env": {"API_TOKEN": "hunter2"}}}}}},
            ["API_TOKEN", "secrets_env"],
        ),
        ({"gateway_config": {"logging": {True: 1}}}, ["logging.True", "quotes"]),
        ({"gateway_config": {"plugins": None}}, ["plugins"]),
        ({"gateway_config": {"plugins": {"load": None}}}, ["plugins"]),
        ({"gateway_config": {"plugins": {"load": {"paths": "x"}}}}, ["plugins"]),
        ({"gateway_config": {"plugins": {"deny": [1]}}}, ["plugins"]),
        ({"gateway_config": {"plugins": {"entries": None}}}, ["plugins"]),
    ],
)
def test_other_values_that_are_refused(variables, texts):
    assert "hunter2" not in refused(variables, *texts)


def test_a_default_model_has_to_be_declared():
    variables = {"bot_providers": [OWN], "bot_default_model": "vllm-1/other"}
    with pytest.raises(InvalidInput, match=r"bot_default_model: 'vllm-1/other'.*declares qwen3"):
        parse_bot("bot1", variables)
    with pytest.raises(InvalidInput, match="names no provider of this bot; possible are vllm-1/"):
        parse_bot("bot1", {**variables, "bot_default_model": "openai/gpt-5.5"})


@pytest.mark.parametrize("origin", ["bot.example.org", "https://x/y", "*", "https://x y", 5])
def test_origins_that_are_refused(origin):
    gateway = GatewaySettings(1, "10.0.0.4", "10.0.0.2", allowed_origins=(origin,))
    with pytest.raises(InvalidInput, match="gateway_allowed_origins"):
        render_config(parse_bot("bot1", {}), gateway)


def test_a_sandbox_mode_that_openclaw_does_not_know():
    with pytest.raises(InvalidInput, match=r"gateway_sandbox_mode: 'on'.*known are off, non-main, all"):
        render_config(parse_bot("bot1", {}), GatewaySettings(1, "10.0.0.4", "10.0.0.2", sandbox=SandboxSettings("on")))
