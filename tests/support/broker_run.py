"""Runs the table of attacks against a broker, and says of each attack what is wrong with how it went."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from .broker_attacks.attack import Attack
from .broker_client import Reply, Wire
from .broker_policy import violations
from .broker_stage import Fingerprint, Stage, differences

_AT_ONCE = 12


@dataclass(frozen=True)
class Outcome:
    """How an attack went.

    :param statuses: of all answers; 0 stands for none.
    :param changes: what was different on the engine afterwards.
    :param outside: what a container that came of it is outside of the policy.
    """

    statuses: tuple[int, ...]
    closed: bool
    raw: bytes
    changes: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    made: bool = False

    def problems(self, attack: Attack) -> list[str]:
        """What is wrong; nothing if the attack was refused as it should be."""
        wrong = [f"changed the engine: {change}" for change in self.changes]
        wrong += [f"made a container outside of the policy: {what}" for what in self.outside]
        if self.made and attack.tamed:
            return wrong
        expected = attack.expected
        if len(self.statuses) != len(expected) or any(
            status not in right for status, right in zip(self.statuses, expected, strict=False)
        ):
            wanted = [sorted(right) for right in expected]
            wrong.append(f"answered {self.statuses} and not {wanted}: {self.raw[-600:]!r}")
        if not self.closed and not attack.slow and self.statuses[-1] not in (404, 409, 429):
            wrong.append(f"the connection is still open after {self.statuses}")
        return wrong


@dataclass
class Audit:
    """The broker's audit log on the machine.

    :param path: of the file; what was rotated away is beside it.
    """

    path: Path
    _begin: int = field(default=0, init=False)

    def lines(self) -> list[dict[str, Any]]:
        """All lines that can be read, the oldest first."""
        files = [each for each in (self.path.with_name(f"{self.path.name}.1"), self.path) if each.exists()]
        return [json.loads(line) for each in files for line in each.read_text().splitlines() if line.startswith("{")]

    def mark(self) -> None:
        """Forget what has been written so far."""
        self._begin = len(self.lines())

    def fresh(self) -> list[dict[str, Any]]:
        """Refused calls written since :meth:`mark`."""
        return [line for line in self.lines()[self._begin :] if line["event"] == "broker.refused"]


def run(
    attacks: Sequence[Attack], stage: Stage, settings: Mapping[str, Any], approved: Sequence[str],
    ignore: Collection[str] = (),
) -> dict[str, Outcome]:  # fmt: skip
    """Make every attack; outcomes by :attr:`Attack.id`.

    Those that may make a container go one by one, the others some at a time. The engine is compared after each group,
    and if it changed, the attacks of that group are made again one by one, to find out which it was. An engine has
    other users, too: what happens by itself does not happen again with the same attack, three times in a row.
    """
    slow = [attack for attack in attacks if attack.slow]
    alone = [attack for attack in attacks if attack.tamed and not attack.slow]
    others = iter([attack for attack in attacks if not attack.tamed and not attack.slow])
    outcomes: dict[str, Outcome] = {}
    stage.begin(ignore)
    with ThreadPoolExecutor(1) as aside:
        late = aside.submit(_send, stage, slow)
        before = stage.fingerprint(ignore)
        for attack in alone:
            outcomes[attack.id] = _made(stage, attack, settings, approved)
        before, _ = _settle(stage, before, ignore, outcomes, alone)
        while group := list(islice(others, _AT_ONCE)):
            outcomes |= {attack.id: _outcome(reply) for attack, reply in zip(group, _send(stage, group), strict=True)}
            before, changes = _settle(stage, before, ignore, outcomes, group)
            if changes:
                for attack in group:
                    before, outcomes[attack.id] = _again(stage, attack, before, ignore)
        outcomes |= {attack.id: _outcome(reply) for attack, reply in zip(slow, late.result(), strict=True)}
    return outcomes


def _send(stage: Stage, attacks: Sequence[Attack]) -> list[Reply]:
    wires = []
    for attack in attacks:
        wire = attack.wire(stage.scene)
        wires.append(wire if isinstance(wire, Wire) else Wire(((wire, 0),), answers=len(attack.expected)))
    return stage.scene.client.send_all(wires)


def _outcome(reply: Reply) -> Outcome:
    return Outcome(tuple(reply.statuses) or (0,), reply.closed, reply.raw, made=reply.status == 201)


def _again(stage: Stage, attack: Attack, before: Fingerprint, ignore: Collection[str]) -> tuple[Fingerprint, Outcome]:
    for _ in range(3):
        before = _rest(stage, before, ignore)
        outcome = _outcome(_send(stage, [attack])[0])
        before, changes = _settle(stage, before, ignore, {attack.id: outcome}, [attack])
        if not changes:
            return before, outcome
    return before, replace(outcome, changes=tuple(changes))


def _rest(stage: Stage, before: Fingerprint, ignore: Collection[str]) -> Fingerprint:
    """The engine once nothing has changed for a moment; builds of others may take a while."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.5)
        after = stage.fingerprint(ignore)
        if not differences(before, after):
            break
        before = after
    return before


def _made(stage: Stage, attack: Attack, settings: Mapping[str, Any], approved: Sequence[str]) -> Outcome:
    """An attack that may end in a container within the policy; whatever comes of it is looked at and removed."""
    outcome = _outcome(_send(stage, [attack])[0])
    if not outcome.made:
        return outcome
    name = stage.scene.words["new"]
    outside = tuple(violations(stage.machine.inspect(name), settings, approved))
    stage.machine.raw.ask("DELETE", f"/containers/{name}?force=1&v=1")
    return replace(outcome, outside=outside)


def _settle(
    stage: Stage,
    before: Fingerprint,
    ignore: Collection[str],
    outcomes: Mapping[str, Outcome],
    group: Sequence[Attack],
) -> tuple[Fingerprint, list[str]]:
    """The engine as it is now, and what changed; a container that should not be there is removed first."""
    after = stage.fingerprint(ignore)
    changes = differences(before, after)
    if changes and any(outcomes[attack.id].made for attack in group if attack.id in outcomes):
        for key in ("new", "evil"):
            stage.machine.raw.ask("DELETE", f"/containers/{stage.scene.words[key]}?force=1&v=1")
        after = stage.fingerprint(ignore)
    return after, changes


def unaudited(
    outcomes: Mapping[str, Outcome], attacks: Sequence[Attack], lines: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Refusals of which the audit has no line, by status."""
    refused = Counter(
        status for attack in attacks if attack.audited for status in outcomes[attack.id].statuses if 400 <= status < 500
    )
    written = Counter(int(line["status"]) for line in lines)
    return [f"{count - written[status]} with {status}" for status, count in refused.items() if written[status] < count]


def groups(attacks: Sequence[Attack]) -> Iterator[tuple[str, int]]:
    """Number of attacks of each class."""
    yield from Counter(attack.kind for attack in attacks).items()
