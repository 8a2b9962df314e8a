"""What an operator decides that the gateway keeps is written down, and not so often that older lines are driven out."""

from __future__ import annotations

import json

import pytest

from clawfactory_core import audit
from clawfactory_core.jobs import decisions
from clawfactory_core.jobs.decisions import DecisionLog
from clawfactory_core.jobs.protocol import Refusal

ASKED = {"actor": "operator", "decision": "device.approve", "outcome": "asked", "request": "r1", "subject": "d1"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "audit").mkdir()
    return tmp_path


def lines(root):
    return [json.loads(line) for line in (root / "audit" / "bot1.jsonl").read_text().splitlines()]


def test_a_decision_is_a_line_that_says_who_what_and_what_came_of_it(root):
    log = DecisionLog(root, "bot1")
    log.add(ASKED)
    log.add({**ASKED, "outcome": "done"})
    first, second = lines(root)
    assert {name: first[name] for name in ("bot", "event", "actor", "request", "subject", "outcome")} == {
        "bot": "bot1", "event": "device.approve", "actor": "operator", "request": "r1", "subject": "d1",
        "outcome": "asked",
    }  # fmt: skip
    assert second["outcome"] == "done"
    assert audit.verify(root / "audit" / "bot1.jsonl") == audit.Verification(2, ())


def test_a_flood_ends_and_keeps_room_for_outcomes(root):
    now = [1000.0]
    log = DecisionLog(root, "bot1", lambda: now[0])
    for _ in range(decisions.MOST):
        log.add(ASKED)
    with pytest.raises(Refusal, match="within an hour; decide in 60 minutes") as caught:
        log.add(ASKED)
    assert caught.value.status == 429
    log.add({**ASKED, "outcome": "done"})
    now[0] += 3600
    log.add(ASKED)
    assert len(lines(root)) == decisions.MOST + 2


def test_weeks_of_floods_leave_the_decisions_where_they_are(root):
    log = DecisionLog(root, "a" * 40)
    longest = {"actor": "a" * 100, "decision": "pairing.approve", "outcome": "unknown", "request": "a" * 128,
               "channel": "a" * 32, "account": "a" * 200, "subject": "a" * 200}  # fmt: skip
    log.add(longest)
    size = (root / "audit" / f"{'a' * 40}.jsonl").stat().st_size
    assert size * 2 * decisions.MOST * 24 * 14 < audit.DECISION_BYTES


def test_what_cannot_be_written_is_told(root):
    (root / "audit").rmdir()
    with pytest.raises(OSError, match="audit"):
        DecisionLog(root, "bot1").add(ASKED)
