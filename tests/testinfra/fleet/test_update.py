"""A rollout of an OpenClaw that does not come up ends with the first bot, which has its old one back."""

from __future__ import annotations

import pytest

from tests.support import broken_openclaw

from .conftest import Play, machine

CANARY, REST = "north1", ["north2", "south1", "south2"]
GATEWAY = f"clawfactory-{CANARY}-gateway"
CONTAINER = '{{.Image}} {{index .Config.Labels "clawfactory.spec"}}'


@pytest.fixture
def broken() -> None:
    """The new image is on the first machine, as if it had been pulled there."""
    host = machine("north")
    image = host.check_output("docker inspect --format %s %s", "{{.Config.Image}}", GATEWAY)
    text, reference = broken_openclaw.dockerfile(image), broken_openclaw.reference(image)
    host.check_output("printf '%%s' %s | docker build --tag %s -", text, reference)


def of_others() -> list[str]:
    """Containers of all bots but the canary, and when each was started."""
    each = "docker ps --quiet --no-trunc --filter label=clawfactory.bot | xargs docker inspect --format %s | sort"
    shown = "{{.Name}} {{.Id}} {{.State.StartedAt}}"
    return [
        line
        for name in ("north", "south")
        for line in machine(name).check_output(each, shown).splitlines()
        if f"-{CANARY}-" not in line
    ]


@pytest.mark.usefixtures("broken")
def test_canary_has_image_and_state_of_before_back_and_no_other_bot_is_touched(play: Play) -> None:
    host = machine("north")
    note = f"/srv/clawfactory/bot_repos/{CANARY}/state/{broken_openclaw.NOTE}"
    host.check_output(f"echo older > {note} && chown --reference=$(dirname {note}) {note}")
    before = host.check_output("docker inspect --format %s %s", CONTAINER, GATEWAY)
    others = of_others()
    run = play("playbooks/update.yml", "--extra-vars", f"gateway_version={broken_openclaw.VERSION}")
    assert run.returncode == 2
    assert run.stats.keys() == {CANARY}
    assert "again, with its state of before the update" in run.failures[CANARY]
    assert host.check_output("docker inspect --format %s %s", CONTAINER, GATEWAY) == before
    assert host.file(note).content_string == "older\n"
    assert of_others() == others
    assert "1 of 4 failed:" in run.stderr
    assert f"  {CANARY}: {CANARY}: the update failed: " in run.stderr
    assert f"not tried: {', '.join(REST)}\n" in run.stderr
    assert f"--limit {','.join([CANARY, *REST])}" in run.stderr
