"""Whether a running container is the one that is wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def spec_digest(container: Mapping[str, Any]) -> str:
    """Digest of a wanted container (16 hex characters), kept in its label ``clawfactory.spec``.

    What a container is made of cannot be changed after it was made, so the label speaks for all of it; what Docker does
    let one change is compared with the engine's own word by :func:`is_current`.
    """
    text = json.dumps(container, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_current(container: Mapping[str, Any], live: Mapping[str, Any] | None, images: Mapping[str, str]) -> bool:
    """Whether ``live`` (see ``machine.describe_machine``) runs exactly as ``container`` asks.

    :param images: tag to image id on the engine.
    """
    if live is None or live["status"] != "running":
        return False
    wanted_networks = {entry["name"]: entry["ipv4_address"] for entry in container.get("networks", ())}
    if "network_mode" in container:
        wanted_networks = {container["network_mode"]: ""}
    return bool(
        live["spec"] == spec_digest(container)
        and live["image_id"] == images.get(container["image"])
        and live["networks"] == wanted_networks
        and live["restart_policy"] == "unless-stopped"
        and live["memory"] == int(container["memory_mb"]) * 2**20
        and live["nano_cpus"] == round(float(container["cpus"]) * 10**9)
        and live["pids_limit"] == int(container["pids"])
    )


def entry_mounts(entries: Iterable[Mapping[str, str]], approved: str, workspace: str) -> list[dict[str, Any]]:
    """Read-only binds of the approved workspace's top-level entries over the live workspace.

    :param entries: as :func:`.workspace.workspace_entries` gives them.
    :param approved: checkout on the machine.
    :param workspace: the live workspace's path in the container.
    """
    return [
        {
            "source": f"{approved}/workspace/{entry['name']}",
            "target": f"{workspace}/{entry['name']}",
            "type": "bind",
            "read_only": True,
        }
        for entry in entries
    ]
