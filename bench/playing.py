"""Runs of playbooks that are measured, and the lines that every program here ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = Path(sys.executable).with_name("ansible-playbook")


def command(inventory: Path, playbook: str, *arguments: str) -> list[str]:
    """The command that runs a playbook."""
    return [str(_PROGRAM), "-i", str(inventory), playbook, *arguments]


def environment() -> dict[str, str]:
    """What it runs with."""
    return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


def output(inventory: Path, playbook: str, *arguments: str) -> str:
    """Run a playbook; what it printed."""
    words = command(inventory, playbook, *arguments)
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return done.stdout


def play(inventory: Path, playbook: str, *arguments: str) -> float:
    """Run a playbook; its wall time in seconds."""
    started = time.monotonic()
    output(inventory, playbook, *arguments)
    return time.monotonic() - started


def docker(*arguments: str, text: str = "") -> str:
    """Output of a docker command."""
    done = subprocess.run(["docker", *arguments], input=text, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def report(ratios: Mapping[str, float], goals: Mapping[str, float], as_json: bool) -> None:
    """The last lines: one per figure, and before them all as one JSON object if that is wanted."""
    if as_json:
        print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))
    for name, value in ratios.items():
        print(f"ratio {name} {value:.2f} goal <= {goals[name]:g}")
