from __future__ import annotations

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.promotion.names import FETCHED, check_proposal_name, check_sha, proposal_of

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", ["a", "a-b", "0", "x" * 64, "proposal/new-skill"])
def test_name_of_a_proposal_comes_back_short(name):
    assert check_proposal_name(name) == name.removeprefix("proposal/")


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", "A", "a_b", "a/b", "a..b", "a b", "a\n", "ä", "x" * 65, "proposal/proposal/a", "refs/heads/a",
     ".a", "a.lock", "a~1", "a^", "@{0}", "--force"],
)  # fmt: skip
def test_other_name_is_refused_with_the_way_out(name):
    with pytest.raises(InvalidInput, match="lower-case letters, digits and inner dashes"):
        check_proposal_name(name)


@pytest.mark.parametrize(
    "sha", ["", SHA[:39], SHA + "0", SHA.upper(), SHA[:39] + "g", SHA + "\n", "HEAD", "-" + SHA[1:]]
)
def test_half_a_commit_is_refused(sha):
    assert check_sha(SHA) == SHA
    with pytest.raises(InvalidInput, match="all 40 hexadecimal digits"):
        check_sha(sha)


@pytest.mark.parametrize(
    ("reference", "prefix", "name"),
    [
        ("refs/heads/proposal/a-b", None, "a-b"),
        ("refs/proposals/a", FETCHED, "a"),
        ("refs/heads/proposal/a", FETCHED, None),
        ("refs/heads/main", None, None),
        ("refs/heads/proposal/", None, None),
        ("refs/heads/proposal/a/b", None, None),
        ("refs/heads/proposal/..", None, None),
        ("proposal/a", None, None),
        ("refs/tags/proposal/a", None, None),
        ("refs/heads/proposal/a\n", None, None),
    ],
)
def test_only_a_full_reference_names_a_proposal(reference, prefix, name):
    assert (proposal_of(reference, prefix) if prefix else proposal_of(reference)) == name
