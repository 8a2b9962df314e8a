"""A squash or a rebase at the remote leaves no trace of the proposal's commits in ``main``, only what they did."""

from __future__ import annotations

import pytest

from clawfactory_core.promotion.proposals import list_proposals
from clawfactory_core.promotion.repository import fetch_proposals
from tests.unit.core.promotion.repositories import UID, Repositories, git


@pytest.fixture
def repos(tmp_path) -> Repositories:
    found = Repositories(tmp_path / "bot1")
    found.advance({"workspace/other.md": "before\n"})
    return found


def state(repos: Repositories, name: str = "kinder") -> str:
    fetch_proposals(repos.origin, repos.proposals, UID)
    main = git(repos.origin, "rev-parse", "main")
    (found,) = [one.state for one in list_proposals(repos.origin, UID, main) if one.name == name]
    return found


def propose(repos: Repositories, base: str = "") -> None:
    """Two commits: a change, a new file and a file less."""
    base = base or git(repos.origin, "rev-parse", "main")
    repos.propose("kinder", {"workspace/SOUL.md": "half\n"}, base=base)
    repos.propose(
        "kinder",
        {"workspace/SOUL.md": "kinder\n", "new.md": "n\n", "config.json": None},
        base=git(repos.proposals, "rev-parse", "proposal/kinder"),
    )


def squash(repos: Repositories, **files: str) -> None:
    repos.advance({"workspace/SOUL.md": "kinder\n", "new.md": "n\n", "config.json": None, **files})


def test_squashed_is_merged_and_stays_so(repos):
    propose(repos)
    assert state(repos) == "open"
    squash(repos)
    assert state(repos) == "merged"
    repos.advance({"workspace/SOUL.md": "something else\n"})
    assert state(repos) == "merged"


def test_squashed_after_other_changes_of_main(repos):
    propose(repos, base=repos.first)
    repos.advance({"workspace/other.md": "meanwhile\n"})
    squash(repos)
    assert state(repos) == "merged"


def test_rebased_is_merged(repos):
    propose(repos)
    repos.advance({"workspace/SOUL.md": "half\n"})
    assert state(repos) == "open", "one of its commits is not all of it"
    squash(repos)
    assert state(repos) == "merged"


def test_part_of_it_is_not_merged(repos):
    propose(repos)
    repos.advance({"workspace/SOUL.md": "kinder\n", "new.md": "n\n"})
    assert state(repos) == "open"


def test_never_all_of_it_at_the_same_time_is_not_merged(repos):
    propose(repos)
    repos.advance({"workspace/SOUL.md": "kinder\n"})
    # In the order of paths the new file comes before the change back, in the same commit.
    repos.advance({"new.md": "n\n", "config.json": None, "workspace/SOUL.md": "be kind\n"})
    assert state(repos) == "open"


def test_more_pushed_after_a_squash_is_open(repos):
    propose(repos)
    squash(repos)
    repos.propose("kinder", {"more.md": "m\n"}, base=git(repos.proposals, "rev-parse", "proposal/kinder"))
    assert state(repos) == "open"


def test_proposal_of_nothing_is_open(repos):
    repos.propose("kinder", {}, base=repos.first)
    assert state(repos) == "open"


def test_path_that_looks_like_a_commit_hides_nothing(repos):
    name = "0123456789abcdef0123456789abcdef01234567"
    repos.propose("kinder", {name: "1\n", "workspace/SOUL.md": "kinder\n"}, base=repos.first)
    repos.advance({name: "1\n"})
    assert state(repos) == "open"
    repos.advance({"workspace/SOUL.md": "kinder\n"})
    assert state(repos) == "merged"
