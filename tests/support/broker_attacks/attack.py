"""One row of the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..broker_client import API, Wire, http
from .scene import Scene

REFUSED = frozenset({400, 403})
MISSING = frozenset({404})
# What a request may get that is no request, or none that this server speaks.
MALFORMED = frozenset({400, 403, 405, 408, 411, 413, 414, 415, 417, 431, 501, 505})
DONE = frozenset({200, 201, 204})
SILENT = frozenset({0})


@dataclass(frozen=True)
class Attack:
    """What is sent and what has to come back.

    :param kind: class of the attack.
    :param name: what is tried, in a few words.
    :param wire: makes the bytes.
    :param expected: for each answer on the connection, the statuses that are right; 0 stands for none.
    :param real: the same bytes work on a raw engine socket, which a test shows on an engine of its own.
    :param tamed: the broker may also accept the call and make of it a container within the policy.
    :param audited: a refusal has to have its audit line.
    :param slow: takes as long as the broker's time limits; such attacks are made at the same time.
    :param variant: another spelling of a trick of which others are made in every run. The broker lets a client have
        five refusals a second, so that these are left out unless asked for.
    """

    kind: str
    name: str
    wire: Callable[[Scene], Wire | bytes]
    expected: tuple[frozenset[int], ...] = (REFUSED,)
    real: bool = True
    tamed: bool = False
    audited: bool = True
    slow: bool = False
    variant: bool = False

    @property
    def id(self) -> str:
        """Class and name."""
        return f"{self.kind}: {self.name}"


def variant(maker: Callable[..., Attack]) -> Callable[..., Attack]:
    """The same, marked as another spelling; see :attr:`Attack.variant`."""
    return lambda *arguments, **named: replace(maker(*arguments, **named), variant=True)


def variants(attacks: Iterable[Attack], kept: int = 0) -> Iterator[Attack]:
    """Mark attacks as spellings of the same trick, all but the first few."""
    for number, attack in enumerate(attacks):
        yield replace(attack, variant=number >= kept)


def create(
    kind: str, name: str, patch: Mapping[str, Any], *, new: str = "$new", real: bool = True, tamed: bool = False,
) -> Attack:  # fmt: skip
    """A container that differs from an allowed one at these keys."""
    return Attack(kind, name, lambda scene: scene.creation(patch, new), real=real, tamed=tamed)


def host(kind: str, name: str, real: bool = True, tamed: bool = False, **changes: Any) -> Attack:
    """A container that differs from an allowed one at these keys of its ``HostConfig``."""
    return create(kind, name, {"HostConfig": changes}, real=real, tamed=tamed)


def call(
    kind: str, name: str, line: str, body: Any = None, *, expected: frozenset[int] = REFUSED, real: bool = True,
    audited: bool = True, headers: tuple[str, ...] = (),
) -> Attack:  # fmt: skip
    """A call: ``METHOD /path`` below the API's version, and a JSON body."""
    method, path = line.split(" ", 1)

    def wire(scene: Scene) -> bytes:
        text = json.dumps(scene.fill(body)) if body is not None else ("" if method == "POST" else None)
        return http(method, API + scene.fill(path), text, *(scene.fill(header) for header in headers))

    return Attack(kind, name, wire, (expected,), real=real, audited=audited)
