"""The attacks on the broker (`tests/broker`) work without one: the same bytes on the raw socket of a test machine.

The images are those of the bot that the end-to-end tests deploy.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_attacks import LEAST, MADE
from tests.support.broker_attacks.attack import Attack
from tests.support.broker_peer import WORKS, peer

TEMPLATE = Path(__file__).parents[2] / "bot_template" / "workspace"
GATEWAY = "clawfactory-test/gateway:latest"


def _real() -> list[Attack]:
    """Some of each class, or all of them if asked for."""
    most = None if os.environ.get("CLAWFACTORY_ALL_ATTACKS") else 16
    found = []
    for kind in LEAST:
        found += [attack for attack in MADE if attack.kind == kind and attack.real and not attack.slow][:most]
    return found


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def statuses() -> Iterator[dict[str, list[int]]]:
    """What the machine's engine answered to each."""
    sandboxes = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-sandbox").splitlines()
    assert sandboxes, "this engine has no image clawfactory-sandbox; run: ./clawfactory test broker"
    gateway = docker("create", GATEWAY)
    try:
        with peer(gateway, sandboxes[0], sorted(entry.name for entry in TEMPLATE.iterdir())) as stage:
            yield stage.try_out(_real())
    finally:
        docker("rm", gateway)


def test_attacks_that_are_said_to_be_real_are(statuses: dict[str, list[int]]) -> None:
    tame = {name: answers for name, answers in statuses.items() if not answers or answers[-1] not in WORKS}
    assert tame == {}
    assert len(statuses) >= 140


@pytest.mark.parametrize("kind", LEAST)
def test_a_good_part_of_each_class_is_real(kind: str) -> None:
    made = [attack for attack in MADE if attack.kind == kind]
    assert sum(attack.real for attack in made) * 3 >= len(made)
