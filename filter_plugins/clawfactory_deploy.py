"""Filters of the control node: image tags, container digests, what follows from a bot's slot."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import UndefinedError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from clawfactory_core import allocation, configuration, container, endpoints, machines, status, versions
from clawfactory_core.errors import CoreError
from clawfactory_core.listening import check_ports_free
from clawfactory_core.machine import refuse_bot
from clawfactory_core.promotion.ssh import is_ssh, parse_ssh

_IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def context_files(context: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Files of a build context as ``(name in the context, path)``, sorted.

    Paths are text: there are hundreds of files, and every bot of a run looks at each of them.

    :param context: ``[{"src": file or directory, "dest": name in the context, "." for its top}]``.
    """
    found = []
    for part in context:
        source, destination = Path(part["src"]), part["dest"]
        if not source.exists():
            raise AnsibleFilterError(f"{source} does not exist")
        if source.is_file():
            found.append((Path(destination).as_posix(), str(source)))
        for directory, below, files in os.walk(source):
            below[:] = [name for name in below if name not in _IGNORED]
            start = os.path.normpath(os.path.join(destination, os.path.relpath(directory, source)))
            for name in files:
                path = os.path.join(directory, name)
                if not name.endswith(".pyc") and os.path.isfile(path):
                    found.append((name if start == "." else f"{start}/{name}", path))
    return sorted(found)


def image_reference(image: Mapping[str, Any], *parts: str) -> str:
    """``name:version-digest`` of an image: the digest covers its files, arguments and everything in ``parts``."""
    total = hashlib.sha256()
    for name, path in context_files(image["context"]):
        with open(path, "rb", buffering=0) as file:
            total.update(name.encode() + b"\0" + file.read() + b"\0")
    for text in (*(f"{key}={value}" for key, value in sorted(image.get("args", {}).items())), *parts):
        total.update(str(text).encode() + b"\0")
    version = f"{image['version']}-" if image.get("version") else ""
    return f"{image['name']}:{version}{total.hexdigest()[:12]}"


def image_with_reference(image: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    """The definition of an image with its ``reference``."""
    return {**image, "reference": image_reference(image, *parts)}


#: In the paths of files that are of a machine, and of none of its bots: those of role remote_access.
_OF_THE_MACHINE = ("/remote_access/", "/clawfactory-tunnel.service")


def machine_of(machine: Mapping[str, Any], bot: str) -> dict[str, Any]:
    """Facts of a machine without most of what is of its other bots: each bot keeps a copy.

    :param machine: facts by ``clawfactory_machine_info``.
    """
    # By keys alone: to look at a value is what costs, in a value that is a template until then.
    rendered = [path for path in machine["rendered"] if bot in path or any(part in path for part in _OF_THE_MACHINE)]
    own: dict[str, Any] = {name: _only(machine[name], [bot]) for name in ("approved", "secrets", "disk", "snapshots")}
    engine = machine["docker"]
    for name in ("networks", "containers"):
        named = [key for key in engine[name] if key.startswith(f"clawfactory-{bot}-")]
        engine = {**engine, name: _only(engine[name], named)}
    return {**machine, **own, "rendered": _only(machine["rendered"], rendered), "docker": engine}


def _only(found: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def places(
    mates: list[str], machine: Mapping[str, Any], hostvars: Mapping[str, Any], root: str, pool: str
) -> dict[str, dict[str, Any]]:
    """Every bot's place on its machine, worked out without asking it again: ``{due, description}``, or ``{refusal}``.

    :param mates: the bots of this run on the machine, in order; each takes its slot after those before it.
    :param machine: facts by ``clawfactory_machine_info``.
    """
    taken = dict(machine["allocations"])
    found: dict[str, dict[str, Any]] = {}
    for bot in mates:
        try:
            plan = _planned(bot, hostvars[bot], taken, Path(root), pool)
            # Also if it is refused below: its slot is its own.
            taken[bot] = plan.entry
            refuse_bot(bot, machine)
            check_ports_free(plan.description, plan.before, machine["listening"])
        except (CoreError, AnsibleError, UndefinedError, TypeError) as error:
            found[bot] = {"refusal": str(error)}
            continue
        drift = [path for path in machine["drift"] if _concerns(bot, Path(path).relative_to(root), taken)]
        found[bot] = {"due": plan.changed or bool(drift), "description": plan.description}
    return found


def place(found: Mapping[str, Mapping[str, Any]], bot: str) -> Mapping[str, Any]:
    """A bot's own of :func:`places`; refuses one that cannot have any."""
    if bot not in found:
        raise AnsibleFilterError(f"{bot} is not among the bots of its machine")
    if "refusal" in found[bot]:
        raise AnsibleFilterError(found[bot]["refusal"])
    return found[bot]


def _planned(
    bot: str, variables: Mapping[str, Any], taken: Mapping[str, Any], root: Path, pool: str
) -> allocation.AllocationPlan:
    ports = _wanted_ports(bot, variables)
    return allocation.plan_allocation(allocation.AllocationRequest(root=root, bot=bot, pool=pool, **ports), taken)


def _concerns(bot: str, path: Path, bots: Mapping[str, Any]) -> bool:
    """Whether a run for ``bot`` sees to a path below the root: to the machine's own and its own, to no other's."""
    return len(path.parts) < 2 or path.parts[1] == bot or path.parts[1] not in bots


def _wanted_ports(bot: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    ports: dict[str, Any] = {"host_ports": configuration.parse_bot(bot, variables).host_ports}
    for name in ("gateway_port", "controller_port"):
        value = variables.get(name)
        try:
            ports[name] = None if value is None else int(value)
        except (TypeError, ValueError):
            raise AnsibleFilterError(f"{bot}: {name} is {value!r}; give a number between 1 and 65535") from None
    return ports


def rendered_is_current(files: list[Mapping[str, Any]], rendered: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the machine has every file exactly so, by what ``clawfactory_machine_info`` saw of it.

    :param files: as for ``clawfactory_files``, each with content, owner, group and mode.
    """
    return all(
        rendered.get(item["path"])
        == {
            "sha256": hashlib.sha256(item["content"].encode()).hexdigest(),
            "mode": item["mode"],
            "owner": int(item["owner"]),
            "group": int(item["group"]),
        }
        for item in files
    )


def missing_networks(
    bot: Mapping[str, Any], engine: Mapping[str, Any], sandboxes: bool = False
) -> list[dict[str, Any]]:
    """A bot's networks that the engine lacks or has otherwise.

    :param sandboxes: whether its sandboxes have one.
    """
    compared = ("subnet", "internal", "bridge")
    wanted = [*bot["networks"].values(), *([bot["sandbox_network"]] if sandboxes else [])]
    live = engine["networks"]
    return [item for item in wanted if {key: item[key] for key in compared} != live.get(item["name"])]


def is_current(wanted: Mapping[str, Any], engine: Mapping[str, Any], name: str) -> bool:
    """Whether the container ``name`` on the engine is the wanted one."""
    return container.is_current(wanted, engine["containers"].get(name), engine["images"])


def services_of(urls: list[str]) -> dict[str, list[Any]]:
    """What an egress has to let through for these URLs.

    :returns: ``hosts`` for the plain allow-list, ``endpoints`` ``{host, port, private}`` for the rest.
    """
    hosts, others = [], []
    for url in urls:
        try:
            found = _ssh_endpoint(url) if is_ssh(url) else endpoints.parse_url(url)
        except ValueError as error:
            raise AnsibleFilterError(f"{url}: {error}") from None
        except CoreError as error:
            raise AnsibleFilterError(str(error)) from None
        if found.ordinary:
            hosts.append(found.host)
        else:
            others.append({"host": found.host, "port": found.port, "private": found.kind != "public"})
    return {"hosts": hosts, "endpoints": others}


def _ssh_endpoint(url: str) -> endpoints.Endpoint:
    """Never ordinary: the port is allowed for this host alone."""
    found = parse_ssh(url)
    return endpoints.Endpoint(found.host, found.port, False, endpoints.classify(found.host))


def older_than(version: str, than: str) -> bool:
    """``version | clawfactory_older_than(other)``: whether it came out before the other one."""
    try:
        return versions.is_older(version, than)
    except CoreError as error:
        raise AnsibleFilterError(str(error)) from error


def status_facts(bots: list[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Status of each bot, also of those whose machine did not answer."""
    return [dict(hostvars[bot].get("bot_status") or status.unreachable(bot)) for bot in bots]


def status_table(bots: list[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The same as lines of a table."""
    return status.table(status_facts(bots, hostvars))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by the names that playbooks use."""
        return {
            "clawfactory_image_reference": image_reference,
            "clawfactory_machine_of": machine_of,
            "clawfactory_place": place,
            "clawfactory_places": places,
            "clawfactory_workspace_mounts": container.entry_mounts,
            "clawfactory_missing_networks": missing_networks,
            "clawfactory_rendered_is_current": rendered_is_current,
            "clawfactory_image": image_with_reference,
            "clawfactory_mates": machines.mates,
            "clawfactory_by_leader": machines.by_leader,
            "clawfactory_services": services_of,
            "clawfactory_is_ssh": is_ssh,
            "clawfactory_older_than": older_than,
            "clawfactory_status": status.bot_status,
            "clawfactory_status_facts": status_facts,
            "clawfactory_status_table": status_table,
            "clawfactory_container_digest": container.spec_digest,
            "clawfactory_container_current": is_current,
        }
