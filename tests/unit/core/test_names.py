from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core import names
from clawfactory_core.errors import InvalidInput

VALID = st.from_regex(names.BOT_NAME, fullmatch=True)


@pytest.mark.parametrize("name", ["a", "bot1", "1bot", "a-b", "a--b", "a" * 40])
def test_good_names_are_returned(name):
    assert names.check_bot_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "a" * 41, "bot1\n", "bot1\nx", "../a", "bö", "١"]
)
def test_bad_names_are_refused_with_the_name(name):
    with pytest.raises(InvalidInput) as caught:
        names.check_bot_name(name)
    assert repr(name) in str(caught.value)


@given(VALID, st.sampled_from(["inside", "edge", "control", "sandbox"]))
def test_bridge_fits_an_interface_name(bot, kind):
    assert len(names.bridge(bot, kind)) == 12


def test_bridges_differ_by_bot_and_network():
    kinds = ["inside", "edge", "control", "sandbox"]
    assert len({names.bridge(f"bot{number}", kind) for number in range(50) for kind in kinds}) == 200


def test_bridge_is_frozen():
    # Docker networks of running bots carry it: another rule would orphan them.
    assert names.bridge("bot1", "inside") == "cfi-835e7134"


def test_objects_are_named_after_the_bot():
    assert names.container("bot1", "proxy") == "clawfactory-bot1-proxy"
    assert names.network("bot1", "edge") == "clawfactory-bot1-edge"
    assert names.env_prefix("my-bot") == "MY_BOT_"


@given(VALID, VALID)
def test_env_prefixes_of_two_bots_differ(one, other):
    assert (names.env_prefix(one) == names.env_prefix(other)) == (one == other)
