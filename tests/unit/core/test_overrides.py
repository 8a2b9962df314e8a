from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core import overrides

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
MAPPINGS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(MAPPINGS, MAPPINGS)
def test_merging_takes_what_is_above_and_keeps_the_rest(below, above):
    before = copy.deepcopy((below, above))
    merged = overrides.merge(below, above)
    assert (below, above) == before
    assert set(merged) == set(below) | set(above)
    for key, value in merged.items():
        if key not in above:
            assert value == below[key]
        elif not (isinstance(above[key], dict) and isinstance(below.get(key), dict)):
            assert value == above[key]
    assert overrides.merge(merged, above) == merged


@given(MAPPINGS)
def test_a_merged_configuration_shares_nothing_with_its_sources(source):
    merged = overrides.merge({}, source)
    before = copy.deepcopy(source)
    for value in merged.values():
        if isinstance(value, (dict, list)):
            value.clear()
    assert source == before


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({}, ()),
        ({"logging": {"level": "debug"}}, ()),
        ({"gateway": {"controlUi": {"basePath": "/x"}, "terminal": {"enabled": True}}}, ()),
        ({"gateway": {"auth": {"mode": "none"}}}, ("gateway.auth",)),
        ({"gateway": {"auth": None}}, ("gateway.auth",)),
        ({"proxy": {}}, ("proxy",)),
        ({"channels": {"discord": {"proxy": "x"}}}, ("channels.discord.proxy",)),
        ({"channels": {"discord": {"accounts": {"a": {"proxy": "x"}}}}}, ("channels.discord.accounts.a.proxy",)),
        ({"secrets": {"providers": {"vault": {"source": "exec"}}}}, ()),
    ],
)
def test_settings_that_carry_isolation_are_found(config, paths):
    assert overrides.protected_in(config) == paths


@pytest.mark.parametrize("value", [None, "x", 1, False, []])
@pytest.mark.parametrize("key", ["gateway", "agents", "channels", "secrets"])
def test_wiping_out_what_is_above_an_isolating_setting_is_found(key, value):
    assert overrides.protected_in({key: value}) == (key,)
    assert overrides.reason(key)


@given(st.sampled_from(sorted(overrides.PROTECTED)), VALUES)
def test_every_isolating_setting_is_found_whatever_its_value(path, value):
    config = value
    for name in reversed(path.replace("*", "any").split(".")):
        config = {name: config}
    found = overrides.protected_in(config)
    assert path.replace("*", "any") in found
    assert all(overrides.reason(one) for one in found)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("${A_KEY}", {"A_KEY"}),
        ("Bearer ${A_KEY}", {"A_KEY"}),
        ("$${A_KEY}", set()),
        ("${lower}", set()),
        ({"x": ["${A}", {"y": "${B}${C}"}]}, {"A", "B", "C"}),
        ({"source": "env", "provider": "default", "id": "D_TOKEN"}, {"D_TOKEN"}),
        ({"source": "file", "id": "/x"}, set()),
        (7, set()),
    ],
)
def test_references_to_the_environment_are_found(value, names):
    assert overrides.references(value) == names


@pytest.mark.parametrize(
    "key", ["apiKey", "token", "botToken", "GITHUB_TOKEN", "clientSecret", "password", "Authorization", "X-Api-Key"]
)
@pytest.mark.parametrize("value", ["sk-live-1", "Bearer sk-live-1", "prefix ${A_KEY}", "sk${A_KEY}", 12345])
def test_a_secret_in_plain_text_is_found(key, value):
    assert overrides.plain_secrets({"a": [{"b": {key: value}}]}) == (f"a.0.b.{key}",)


@pytest.mark.parametrize(
    "config",
    [
        {"apiKey": "${A_KEY}"},
        {"headers": {"Authorization": "Bearer ${A_KEY}"}},
        {"apiKey": {"source": "env", "provider": "default", "id": "A_KEY"}},
        {"apiKey": "ollama-local"},
        {"password": None},
        {"token": False},
        {"maxTokens": 5, "tokenMode": "provider", "tokenFile": "/x"},
    ],
)
def test_a_reference_is_no_secret_in_plain_text(config):
    assert overrides.plain_secrets(config) == ()


def test_keys_that_json_cannot_carry_are_found():
    assert overrides.non_text_keys({"a": {1: "x"}, True: {}, "b": [{None: 1}]}) == ("True", "a.1", "b.0.None")
