"""Two bots on one machine: what the one must not do to the other, from inside its gateway."""

from __future__ import annotations

import shlex

import pytest

from tests.support.bots import Bot

from .proposing import refs
from .push_attacks import FOREIGN, PREPARE


@pytest.fixture(scope="module")
def prepare(bot: Bot, second: Bot) -> str:
    """A clone of the own repository with a change, and what there is to know of the other bot, its token included."""
    inside = next(
        network["IPAddress"]
        for name, network in second.inspect("controller")["NetworkSettings"]["Networks"].items()
        if name.endswith("-inside")
    )
    known = {
        "name": second.name,
        "other": inside,
        "port": second.controller_url.rpartition(":")[2],
        "token": second.secret("gateway.env", "CLAWFACTORY_AGENT_TOKEN"),
    }
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in known.items())
    return f"{PREPARE}{given}base=${{url%/repository.git}}\nchange\n"


def test_each_may_push_to_its_own(bot: Bot, second: Bot, prepare: str) -> None:
    """Without this, the refusals below would prove nothing: neither of the change nor of what is looked at."""
    for pusher in (bot, second):
        branch = "proposal/to-the-own"
        done = pusher.sh(f'{prepare}echo x > workspace/own.md; git add .; change; push "$url" HEAD:refs/heads/{branch}')
        assert done.returncode == 0, done.stderr
        assert f"proposals.git refs/heads/{branch}" in refs(pusher)


@pytest.mark.parametrize("attack", FOREIGN)
def test_push_to_the_other_is_refused_and_changes_nothing(bot: Bot, second: Bot, prepare: str, attack: str) -> None:
    before = refs(bot), refs(second)
    done = bot.sh(prepare + FOREIGN[attack], timeout=120)
    assert done.returncode != 0, f"it succeeded: {done.stdout}"
    assert done.returncode == 124 or done.stderr.strip(), "nobody said why"
    assert (refs(bot), refs(second)) == before


@pytest.mark.parametrize("header", ["Host: $name-controller:8090", "X-Forwarded-Host: $name", "X-Bot: $name"])
def test_name_of_the_other_in_a_header_leads_to_the_own_or_nowhere(
    bot: Bot, second: Bot, prepare: str, header: str
) -> None:
    branch, before = f"proposal/named-{len(header)}", refs(second)
    push = f'git -c http.extraHeader="{header}" push -q "$url" HEAD:refs/heads/{branch}'
    done = bot.sh(prepare + push, timeout=120)
    assert refs(second) == before
    assert done.returncode != 0 or f"proposals.git refs/heads/{branch}" in refs(bot)
