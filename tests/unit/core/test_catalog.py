from __future__ import annotations

import re
from pathlib import Path

import pytest

from clawfactory_core import catalog, endpoints
from clawfactory_core.catalog import CHANNELS, PROVIDERS, Channel, Provider

DOCUMENT = Path(__file__).parents[3] / "docs" / "api-keys.md"
ROWS: tuple[Provider | Channel, ...] = (*PROVIDERS, *CHANNELS)


def keys_of(row: Provider | Channel) -> tuple[catalog.Key, ...]:
    return row.keys if isinstance(row, Channel) else (row.key,)


def section_of(row: Provider | Channel) -> str:
    """The text between the row's own heading and the next one."""
    text = DOCUMENT.read_text()
    match = re.search(rf"^### `{re.escape(row.name)}`.*?(?=^##)", text + "\n##", re.MULTILINE | re.DOTALL)
    assert match, f"docs/api-keys.md has no section '### `{row.name}`'"
    return match.group()


def test_the_providers_and_channels_that_are_promised():
    assert {row.name for row in PROVIDERS} == {
        "anthropic", "moonshot", "openai", "google", "ollama", "openrouter", "openai-compatible",
    }  # fmt: skip
    assert {row.name for row in CHANNELS} == {"discord", "telegram", "slack"}
    assert catalog.PROVIDERS_BY_NAME["kimi"].name == "moonshot"


def test_makers_of_embeddings_are_told_of_where_one_is_chosen():
    """An endpoint of one's own is none of them: which model makes embeddings there, only its operator knows."""
    makers = {row.name: row.embeddings for row in PROVIDERS if row.embeddings}
    assert makers == {"openai": "openai", "google": "gemini", "ollama": "ollama"}
    (told,) = re.findall(r"memory\.search\.provider` into `gateway_config` \((.*?)\)", DOCUMENT.read_text())
    assert {"none", *makers.values()} - {"openai"} == set(re.findall(r"`([a-z]+)`", told))


def test_names_and_aliases_are_unique():
    names = [name for row in PROVIDERS for name in (row.name, *row.aliases)] + [row.name for row in CHANNELS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_env_names_are_ones_the_env_file_takes(row):
    for key in keys_of(row):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", key.env) or (key.env == "" and not key.required)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_hosts_are_public_and_in_canonical_form(row):
    for host in row.hosts:
        assert endpoints.check_allowed_host(host) == host
        assert endpoints.classify(host.removeprefix(".")) == "public"
    assert set(endpoints.collapse(row.hosts)) == set(row.hosts), "a host is covered by a domain of the same row"


@pytest.mark.parametrize("row", PROVIDERS, ids=lambda row: row.name)
def test_a_provider_is_either_carried_by_openclaw_or_declared_completely(row):
    if row.api and row.base_url:
        endpoint = endpoints.parse_url(row.base_url)
        assert endpoint.kind == "machine" or endpoint.host in row.hosts
    if not row.api:
        assert row.hosts and row.default_model and row.key.required and not row.base_url and not row.models
    if row.models:
        assert row.default_model in {model["id"] for model in row.models}
        assert all(model.get("name") for model in row.models)
    assert row.key.required or row.keyless, "without a key OpenClaw needs a marker in its place"


def test_slack_needs_two_tokens_and_calls_out():
    row = catalog.CHANNELS_BY_NAME["slack"]
    assert [key.env for key in row.keys] == ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]
    assert row.settings["mode"] == "socket"


def test_discord_may_resume_on_a_regional_host():
    hosts = endpoints.collapse(catalog.CHANNELS_BY_NAME["discord"].hosts)
    assert ".discord.gg" in hosts


def test_rows_cannot_be_changed():
    with pytest.raises(AttributeError):
        PROVIDERS[0].hosts = ("evil.example",)  # type: ignore[misc] - that is the point
    with pytest.raises(TypeError):
        catalog.PROVIDERS_BY_NAME["evil"] = PROVIDERS[0]  # type: ignore[index] - that is the point


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_document_says_everything_the_table_knows(row):
    section = section_of(row)
    facts = [row.title, *row.hosts, *(key.env for key in keys_of(row)), row.key_url]
    if isinstance(row, Provider):
        facts += [f"`{alias}`" for alias in row.aliases] + (
            [f"{row.name}/{row.default_model}"] if row.default_model else []
        )
        facts.append(row.base_url)
    missing = [fact for fact in facts if fact not in section]
    assert not missing, f"docs/api-keys.md, section {row.name}, lacks {missing}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_document_lists_no_host_that_is_not_allowed(row):
    """A host in the document but not in the table would be a promise the egress does not keep."""
    listed = re.search(r"^\| Allowed hosts \|(.*)\|$", section_of(row), re.MULTILINE)
    assert listed, f"section {row.name} has no row 'Allowed hosts'"
    assert set(re.findall(r"`([^`]+)`", listed.group(1))) == set(row.hosts)
