#!/usr/bin/env python3
"""Inventory script: bots from a list of machines, in the group ``bots`` and in one for each machine.

The list is ``machines.yml`` beside the directory of this file, or what a command prints (YAML or JSON) that stands in
``CLAWFACTORY_MACHINES_COMMAND``, for example ``terraform output -json machines``. Needs PyYAML, as Ansible does.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parent.parent / "machines.yml"


def machines() -> Any:
    """The list as it is written."""
    command = os.environ.get("CLAWFACTORY_MACHINES_COMMAND")
    if not command:
        return yaml.safe_load(FILE.read_text(encoding="utf-8"))
    done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, check=True)
    return yaml.safe_load(done.stdout)


def inventory(found: Any) -> dict[str, Any]:
    """What Ansible wants to know.

    :raises ValueError: the list is none of machines with bots; the text says where.
    """
    if not isinstance(found, dict):
        raise ValueError(f"no machines by name but {type(found).__name__}")
    groups: dict[str, Any] = {"bots": {"children": sorted(found)}}
    variables: dict[str, Any] = {}
    for machine, described in found.items():
        bots = described.get("bots") if isinstance(described, dict) else None
        if not isinstance(bots, dict):
            raise ValueError(f"machine {machine} needs bots: a mapping of names to their variables, {{}} for none")
        twice = sorted({*bots} & {*variables})
        if twice:
            raise ValueError(f"machine {machine} has {', '.join(twice)}, which an earlier machine has, too")
        variables |= {bot: own or {} for bot, own in bots.items()}
        shared = {name: value for name, value in described.items() if name != "bots"}
        groups[machine] = {"hosts": list(bots), "vars": shared}
    # With it Ansible does not call this once for each bot.
    return {**groups, "_meta": {"hostvars": variables}}


def main() -> int:
    """Print it; the exit status is 1 if there is no list that can be used."""
    try:
        json.dump(inventory(machines()), sys.stdout)
    except (OSError, ValueError, yaml.YAMLError, subprocess.CalledProcessError) as error:
        source = os.environ.get("CLAWFACTORY_MACHINES_COMMAND") or FILE
        sys.stderr.write(f"{source}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
