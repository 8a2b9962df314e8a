"""What playbooks run in where nobody sits before a terminal: its definition can be built, and no playbook asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
PLAYBOOKS = [REPOSITORY / "site.yml", *sorted(REPOSITORY.glob("playbooks/**/*.yml"))]
TASKS = sorted(REPOSITORY.glob("roles/*/tasks/*.yml"))
ASKING = {"vars_prompt", "pause", "ansible.builtin.pause"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``ansible-builder`` makes of the definition, which it compares with its schema."""
    made = tmp_path_factory.mktemp("context")
    program = Path(sys.executable).with_name("ansible-builder")
    command = [str(program), "create", "--output-filename", "Dockerfile", "--context", str(made)]
    done = subprocess.run(
        [*command, "--file", str(REPOSITORY / "execution-environment.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_environment_installs_the_locked_packages_with_their_hashes_and_no_others(context: Path) -> None:
    lock = REPOSITORY / "requirements" / "execution.lock"
    assert (context / "_build" / "requirements" / "execution.lock").read_bytes() == lock.read_bytes()
    text = (context / "Dockerfile").read_text()
    # The stage between takes more, but nothing of it gets into the last one.
    base, _, rest = text.partition("FROM base AS builder")
    last = rest.partition("FROM base AS final")[2]
    installing = [line for line in (base + last).splitlines() if "pip install" in line or "ansible-galaxy" in line]
    assert len(installing) == 1
    assert "--require-hashes -r /tmp/execution.lock" in installing[0]
    assert "RUN /output/scripts/check_ansible" in last


def keys(found: Any) -> Iterator[str]:
    """Every key of a document, however deep."""
    if isinstance(found, dict):
        yield from found
        for value in found.values():
            yield from keys(value)
    elif isinstance(found, list):
        for value in found:
            yield from keys(value)


def test_nothing_asks() -> None:
    assert len(PLAYBOOKS) > 30 and len(TASKS) > 100
    asking = [path.name for path in (*PLAYBOOKS, *TASKS) if ASKING & {*keys(yaml.safe_load(path.read_text()))}]
    assert asking == []
    # Passwords of sudo and of the vault are asked for by options alone.
    assert "ask_" not in (REPOSITORY / "ansible.cfg").read_text()
