from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core.container import is_current, spec_digest

WANTED: dict[str, Any] = {
    "name": "clawfactory-bot1-gateway",
    "image": "clawfactory-gateway:1",
    "memory_mb": 1024,
    "cpus": 1.5,
    "pids": "256",
    "environment": {"A": "1"},
    "networks": [{"name": "inside", "ipv4_address": "10.213.0.3", "aliases": ["gateway"]}],
}
IMAGES = {"clawfactory-gateway:1": "sha256:aa"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def live(**changes: Any) -> dict[str, Any]:
    return {
        "status": "running",
        "spec": spec_digest(WANTED),
        "image_id": "sha256:aa",
        "networks": {"inside": "10.213.0.3"},
        "restart_policy": "unless-stopped",
        "memory": 2**30,
        "nano_cpus": 1_500_000_000,
        "pids_limit": 256,
        **changes,
    }


def test_container_as_wanted_is_current():
    assert is_current(WANTED, live(), IMAGES)


def test_absent_container_is_not_current():
    assert not is_current(WANTED, None, IMAGES)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "exited"},
        {"spec": ""},
        {"image_id": "sha256:bb"},
        {"networks": {}},
        {"networks": {"inside": "10.213.0.4"}},
        {"networks": {"inside": "10.213.0.3", "bridge": ""}},
        {"restart_policy": "always"},
        {"memory": 0},
        {"memory": 2**30 + 1},
        {"nano_cpus": 0},
        {"pids_limit": 0},
    ],
    ids=str,
)
def test_change_on_the_live_container_is_seen(change):
    assert not is_current(WANTED, live(**change), IMAGES)


def test_tag_moved_to_another_image_is_seen():
    assert not is_current(WANTED, live(), {"clawfactory-gateway:1": "sha256:bb"})
    assert not is_current(WANTED, live(), {})


@pytest.mark.parametrize("key", WANTED)
def test_every_wanted_attribute_is_in_the_digest(key):
    changed = copy.deepcopy(WANTED)
    changed[key] = "another"
    assert spec_digest(changed) != spec_digest(WANTED)
    del changed[key]
    assert spec_digest(changed) != spec_digest(WANTED)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=5))
def test_digests_are_equal_only_for_equal_containers(one, other):
    # repr, because Python takes True and 1 for equal.
    same = repr(sorted(one.items(), key=str)) == repr(sorted(other.items(), key=str))
    assert (spec_digest(one) == spec_digest(other)) == same or one == other


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=5), st.data())
def test_any_change_of_one_value_changes_the_digest(wanted, data):
    key = data.draw(st.sampled_from(sorted(wanted)))
    value = data.draw(JSON.filter(lambda new: new != wanted[key]))
    assert spec_digest({**wanted, key: value}) != spec_digest(wanted)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_digest_does_not_depend_on_the_order(wanted):
    digest = spec_digest(wanted)
    assert digest == spec_digest(dict(reversed(wanted.items())))
    assert len(digest) == 16 and set(digest) <= set("0123456789abcdef")
