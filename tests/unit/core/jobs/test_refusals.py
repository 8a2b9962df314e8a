"""What controllers refuse is written down, and a flood of it neither fills the disk nor hides a decision."""

from __future__ import annotations

import json

import pytest

from clawfactory_core import audit
from clawfactory_core.jobs.protocol import REFUSALS, Refusal
from clawfactory_core.jobs.refusals import INTERVAL, RefusalLog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(root, bot: str = "bot1"):
    path = root / "audit" / f"{bot}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def root(tmp_path):
    (tmp_path / "audit").mkdir()
    return tmp_path


def test_refusal_is_a_line_of_the_chain(root):
    log = root / "audit" / "bot1.jsonl"
    audit.append(log, "promotion", "bot1", {"actor": "alice"}, max_bytes=audit.DECISION_BYTES)
    assert RefusalLog(root, "bot1").add("webhook", "signature", 3)
    last = lines(root)[-1]
    assert (last["event"], last["code"], last["count"], last["left_out"]) == ("webhook.refused", "signature", 3, 0)
    assert audit.verify(log) == audit.Verification(2, ())


def test_flood_is_one_line_an_hour_and_is_counted(root):
    clock = Clock()
    log = RefusalLog(root, "bot1", clock)
    assert log.add("push", "content", 2)
    assert not any(log.add("push", "content", 2) for _ in range(10_000))
    assert log.add("webhook", "signature", 1), "one reason hid another"
    assert len(lines(root)) == 2
    clock.now += INTERVAL
    assert log.add("push", "content", 1)
    assert [line["left_out"] for line in lines(root)] == [0, 0, 20_000]


def test_year_of_flood_leaves_the_decisions_where_they_are(root):
    log = RefusalLog(root, "a" * 40)
    for what, codes in REFUSALS.items():
        assert all(log.add(what, code, 999_999) for code in codes)
    size = (root / "audit" / f"{'a' * 40}.jsonl").stat().st_size
    assert size * 365 * 24 * 3600 / INTERVAL < audit.DECISION_BYTES


@pytest.mark.parametrize("what", REFUSALS)
def test_controller_tells_and_starts_no_job(machine, serving, what):
    (machine.root / "audit").mkdir()
    for code in REFUSALS[what]:
        answer = machine.client().ask("refused", what=what, code=code, count="1")
        assert answer == {"written": True}
    assert [line["event"] for line in lines(machine.root)] == [f"{what}.refused"] * len(REFUSALS[what])
    assert machine.client().ask("jobs") == {"jobs": []}
    assert machine.worked() == []


def test_locked_bot_is_told_of_too(machine, serving):
    (machine.root / "audit").mkdir()
    (machine.root / "locks" / "bot1").touch()
    assert machine.client().ask("refused", what="webhook", code="replay", count="2") == {"written": True}


def test_log_that_cannot_be_written_is_told(machine, serving):
    with pytest.raises(Refusal) as caught:
        machine.client().ask("refused", what="webhook", code="replay", count="2")
    assert caught.value.status == 500
