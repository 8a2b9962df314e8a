"""Attacks on the broker by somebody who has a shell in the gateway; `tests/images` proves that they are real.

Every row of ``tests/support/broker_attacks`` goes over the gateway's own socket, as raw bytes, to the broker and the
real engine. ``CLAWFACTORY_ALL_ATTACKS=1`` also makes those that are further spellings of the same trick.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawfactory_core import audit
from tests.support import broker_run
from tests.support.bots import Bot
from tests.support.broker_attacks import ATTACKS, LEAST, MADE
from tests.support.broker_attacks.attack import Attack
from tests.support.broker_client import Reply
from tests.support.broker_deployed import Deployed, deployed
from tests.support.broker_policy import violations
from tests.support.broker_run import Outcome
from tests.support.broker_stage import differences
from tests.support.polling import wait_for
from tests.support.scratch import open_to_all


@pytest.fixture(scope="module")
def broker(bot: Bot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("broker")
    open_to_all(directory)
    with deployed(bot, directory) as found:
        yield found


@pytest.fixture(scope="module")
def others(broker: Deployed) -> set[str]:
    """Bots of this machine that live their own life meanwhile."""
    listed = broker.machine.run("ps", "--all", "--format", '{{.Label "clawfactory.bot"}}').split()
    return {*listed} - {broker.bot.name, "victim", f"{broker.bot.name}-sbx-x"}


@pytest.fixture(scope="module")
def allowed(broker: Deployed) -> dict[str, Reply]:
    """The two containers that attacks are made from, unchanged: what is refused is refused for what is changed."""
    scene, answers = broker.stage.scene, {}
    for name, patch in (("sandbox", None), ("with the workspace", scene.workspace())):
        answers[name] = broker.client.send(scene.creation(patch))
        if answers[name].status == 201:
            inspect = broker.machine.inspect(scene.words["new"])
            assert violations(inspect, broker.settings, broker.approved) == []
        broker.remove(scene.words["new"])
    return answers


@pytest.fixture(scope="module")
def outcomes(broker: Deployed, others: set[str], allowed: dict[str, Reply]) -> dict[str, Outcome]:
    broker.audit.mark()
    return broker_run.run(MADE, broker.stage, broker.settings, broker.approved, others)


def test_table_has_all_classes() -> None:
    found = dict(broker_run.groups(MADE))
    assert {kind for kind, least in LEAST.items() if found.get(kind, 0) < least} == set()
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("name", ["sandbox", "with the workspace"])
def test_what_attacks_are_made_from_is_allowed(allowed: dict[str, Reply], name: str) -> None:
    assert allowed[name].status == 201, allowed[name].raw


def test_openclaws_probe_is_allowed(broker: Deployed) -> None:
    made = broker.client.ask(
        "POST", f"/containers/{broker.bot.container('gateway')}/exec", broker.stage.scene.probe_body()
    )
    assert made.status == 201, made.raw


@pytest.mark.parametrize("attack", MADE, ids=lambda attack: attack.id)
def test_attack_is_refused_and_changes_nothing(outcomes: dict[str, Outcome], attack: Attack) -> None:
    assert outcomes[attack.id].problems(attack) == []


def test_every_refusal_is_audited(broker: Deployed, outcomes: dict[str, Outcome]) -> None:
    lines = broker.audit.fresh()
    assert broker_run.unaudited(outcomes, MADE, lines) == []
    for line in lines:
        assert (line["bot"], line["client"]) == (broker.bot.name, "gateway")
        assert line["method"] and line["path"] and line["reason"]
        assert "?" not in line["path"] and len(line["path"]) <= 256
        assert line["reason"].isprintable() and line["path"].isprintable()


def test_audit_holds_no_secret_and_its_chain_is_whole(broker: Deployed, outcomes: dict[str, Outcome]) -> None:
    marker = "c0ffee-in-every-place"
    broker.client.ask("POST", f"/containers/create?name={marker}", {"Image": marker, marker: marker})
    broker.client.ask("GET", f"/info?token={marker}")
    patch = {"Env": [f"TOKEN={marker}", "x"], "Labels": {marker: marker}}
    broker.client.send(broker.stage.scene.creation(patch))
    text = "".join(path.read_text() for path in (broker.audit.path.with_name("broker.jsonl.1"), broker.audit.path)
                   if path.exists())  # fmt: skip
    assert marker not in text
    values = _secrets(broker.bot)
    assert values, "the bot has no secrets, so that this proves nothing"
    assert [name for name, value in values.items() if value in text] == []
    assert audit.verify(broker.audit.path).problems == ()


def test_broker_log_holds_no_secret(broker: Deployed, outcomes: dict[str, Outcome]) -> None:
    command = ["docker", "logs", broker.bot.container("broker")]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    assert [name for name, value in _secrets(broker.bot).items() if value in said] == []
    assert "Traceback" not in said


def test_engine_is_as_before_after_all_of_it(broker: Deployed, others: set[str], outcomes: dict[str, Outcome]) -> None:
    """What the single attacks did not change, a second and third look at them must not have either."""
    assert broker.stage.lost(others) == []
    before = broker.stage.fingerprint(others)
    assert wait_for("an engine that rests", lambda: differences(before, broker.stage.fingerprint(others)) == [], 10)
    names = {each.split()[0] for each in before["containers"].values()}
    words = broker.stage.scene.words
    assert f"/{words['new']}" not in names and f"/{words['evil']}" not in names
    assert not {"evil", "evil:latest"} & {*before["volumes"], *before["networks"], *before["images"]}


def _secrets(bot: Bot) -> dict[str, str]:
    files = [Path(bot.root, "secrets", bot.name, name) for name in ("gateway.env", "controller.env")]
    pairs = [
        line.split("=", 1) for file in files if file.exists() for line in file.read_text().splitlines() if "=" in line
    ]
    return {name: value for name, value in pairs if len(value) >= 8}
