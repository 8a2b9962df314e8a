"""Which bots of an inventory share a machine, and which of them does the work that is done once per machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InvalidInput

_LOCAL = ("local",)
_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "libssh")
LOCAL_MACHINE = "localhost"


def machine_key(variables: Mapping[str, Any]) -> str:
    """Name the machine behind an inventory host.

    Two hosts with the same key are the same machine. Aliases of one machine (a name and its address) give different
    keys; write the same ``ansible_host`` for all bots of a machine.

    :param variables: variables of the host; read are ``inventory_hostname`` and the ``ansible_connection``,
        ``ansible_host`` and ``ansible_port`` of the connection.
    :returns: ``localhost``, ``<host>:<port>`` for SSH, or ``<connection>:<host>`` for other connections.
    :raises InvalidInput: the host has no name.
    """
    name = variables.get("inventory_hostname")
    if not name:
        raise InvalidInput("a host without inventory_hostname; pass hostvars[<host>]")
    connection = str(variables.get("ansible_connection") or "ssh")
    short = connection.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
    if short in _LOCAL:
        return LOCAL_MACHINE
    host = str(variables.get("ansible_host") or name).lower()
    if short.rsplit(".", 1)[-1] in _SSH:
        return f"{host}:{variables.get('ansible_port') or 22}"
    return f"{connection}:{host}"


def leader(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]], host: str) -> str:
    """The host that does the per-machine work for ``host``.

    :param hosts: hosts of the play in their order, so that the answer holds under ``--limit``.
    :param variables: variables per host (``hostvars``).
    :returns: the first of ``hosts`` on the machine of ``host``.
    :raises InvalidInput: ``host`` is not in the play.
    """
    ordered = list(hosts)
    if host not in ordered:
        raise InvalidInput(f"host {host!r} is not part of this play; its hosts are {', '.join(ordered) or 'none'}")
    machine = machine_key(variables[host])
    return next(other for other in ordered if machine_key(variables[other]) == machine)


def by_leader(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Which hosts share a machine, by the first of each; every host's variables are asked for once."""
    machines: dict[str, list[str]] = {}
    for host in hosts:
        machines.setdefault(machine_key(variables[host]), []).append(host)
    return {together[0]: together for together in machines.values()}


def mates(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]], host: str) -> list[str]:
    """All of ``hosts`` on the machine of ``host``, itself included, in the order of the play."""
    machine = machine_key(variables[host])
    return [other for other in hosts if machine_key(variables[other]) == machine]
