"""Filters that turn a bot's inventory variables into what the roles need. The logic is in ``clawfactory_core``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import UndefinedError

_MODULE_UTILS = str(Path(__file__).resolve().parent.parent / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from clawfactory_core import configuration, machines, remote_access, sandbox_config  # noqa: E402 - found by the path above
from clawfactory_core.errors import CoreError  # noqa: E402 - found by the path above
from clawfactory_core.promotion.ssh import is_ssh  # noqa: E402 - found by the path above
from clawfactory_core.remote_key import RemoteKeyRequest  # noqa: E402 - found by the path above

P = ParamSpec("P")
R = TypeVar("R")


def _reported(function: Callable[P, R]) -> Callable[P, R]:
    """Hand the core's message to Ansible, without the traceback that would bury it."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CoreError as error:
            raise AnsibleFilterError(str(error)) from None

    return call


@_reported
def bot_plan(variables: Mapping[str, Any], bot: str) -> dict[str, Any]:
    """``hostvars[bot] | clawfactory_bot_plan(bot)``: see ``BotPlan.to_dict`` for the keys."""
    return configuration.parse_bot(bot, variables).to_dict()


@_reported
def openclaw_config(
    variables: Mapping[str, Any],
    bot: str,
    *,
    port: int,
    proxy_address: str,
    egress_address: str,
    egress_port: int = 3128,
    allowed_origins: list[str] | None = None,
    sandbox: Mapping[str, Any] | None = None,
    workspace: str = configuration.WORKSPACE,
) -> str:
    """``hostvars[bot] | clawfactory_openclaw_config(bot, port=…, …)``: text of the managed ``openclaw.json``."""
    gateway = configuration.GatewaySettings(
        port=int(port),
        proxy_address=proxy_address,
        egress_address=egress_address,
        egress_port=int(egress_port),
        allowed_origins=tuple(allowed_origins or ()),
        sandbox=sandbox_config.parse_sandbox(sandbox or {}),
        workspace=workspace,
    )
    return configuration.to_json(configuration.render_config(configuration.parse_bot(bot, variables), gateway))


def key_problems(variables: Mapping[str, Any], bot: str, available: list[str]) -> list[str]:
    """``hostvars[bot] | clawfactory_key_problems(bot, names)``: which keys of providers and channels have no value."""
    try:
        configuration.require_keys(configuration.parse_bot(bot, variables), available)
    except CoreError as error:
        return [str(error)]
    return []


def wanted_secrets(bots: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``bots | clawfactory_wanted_secrets(hostvars)``: what the machine is asked whether it has, by bot.

    A bot with a variable that cannot be used is left out: its own tasks say why, and the others of its machine go on.
    """
    found = {}
    for bot in bots:
        variables = hostvars[bot]
        try:
            wanted = {
                "values": {name: variables["secrets_env"][name] for name in variables.get("secrets_env", {})},
                "used": [key.env for key in configuration.parse_bot(bot, variables).keys],
                "snapshot_key": variables.get("secrets_snapshot_key", "machine"),
                "snapshot_recipient": variables.get("secrets_snapshot_recipient", ""),
                "remote_key": variables.get("secrets_remote_key", ""),
                "remote": remote_wanted(variables),
            }
        except (CoreError, AnsibleError, UndefinedError, TypeError):
            continue
        remote = wanted["remote"]
        texts = (*wanted["values"].values(), *list(wanted.values())[2:-1], remote["url"], *remote["host_keys"])
        if all(isinstance(text, str) for text in texts):
            found[bot] = wanted
    return found


def remote_wanted(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Where a bot's repository is, with the defaults of role ``promotion``, which hostvars do not know."""
    url = variables.get("promotion_remote_url", variables.get("bot_repository", ""))
    return {"url": url, "host_keys": list(variables.get("promotion_remote_host_keys", []))}


def any_over_ssh(bots: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> bool:
    """``bots | clawfactory_any_over_ssh(hostvars)``: whether the machine needs what SSH takes."""
    for bot in bots:
        try:
            url = remote_wanted(hostvars[bot])["url"]
        except (AnsibleError, UndefinedError, TypeError):
            continue  # its own tasks say why
        if isinstance(url, str) and is_ssh(url):
            return True
    return False


def remote_problems(url: str, host_keys: Any, key: Any) -> list[str]:
    """``promotion_remote_url | clawfactory_remote_problems(host keys, private key)``: why it cannot be used."""
    if not isinstance(host_keys, list) or not all(isinstance(line, str) for line in (*host_keys, key)):
        return ["promotion_remote_host_keys is a list of lines, and secrets_remote_key is text; write them so"]
    try:
        RemoteKeyRequest(url, tuple(host_keys), key).check()
    except CoreError as error:
        return [str(error)]
    return []


@_reported
def remote_access_plan(
    bot: str, hostvars: Mapping[str, Mapping[str, Any]], init: str, mates: list[str]
) -> dict[str, Any]:
    """``bot | clawfactory_remote_access(hostvars, init, mates)``: see ``parse_remote_access`` for the keys."""
    return remote_access.parse_remote_access(bot, hostvars[bot], init, {mate: hostvars[mate] for mate in mates})


@_reported
def tunnel_credentials(variables: Mapping[str, Any], bot: str) -> dict[str, str]:
    """``hostvars[bot] | clawfactory_tunnel_credentials(bot)``: what cloudflared logs in with; a secret."""
    return remote_access.tunnel_credentials(bot, variables)


def published(
    recorded: Mapping[str, Any],
    access: Mapping[str, Any],
    version: str,
    bots: list[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    leaving: list[str],
) -> dict[str, Any]:
    """``host_machine.remote_access | clawfactory_published(plan, version, bots, hostvars, leaving)``: see the core.

    :param bots: of this run on the machine; one of which the run does not know the ports is as it was.
    """
    found = {}
    for name in bots:
        place = hostvars[name].get("host_bot")
        if place is not None:
            repository = hostvars[name].get("controller_github_repository", "")
            found[name] = {
                "gateway_port": int(place["gateway_port"]),
                "controller_port": int(place["controller_port"]),
                "webhook": bool(access.get("webhook") and repository),
            }
    return remote_access.published(recorded, access, version, found, leaving)


@_reported
def machine(variables: Mapping[str, Any]) -> str:
    """``hostvars[host] | clawfactory_machine``: key of the machine the host lives on."""
    return machines.machine_key(variables)


@_reported
def leader(play_hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]], inventory_hostname: str) -> str:
    """``ansible_play_hosts_all | clawfactory_leader(hostvars, inventory_hostname)``: who does the per-machine work."""
    return machines.leader(play_hosts, hostvars, inventory_hostname)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names under which playbooks call them."""
        return {
            "clawfactory_bot_plan": bot_plan,
            "clawfactory_openclaw_config": openclaw_config,
            "clawfactory_key_problems": key_problems,
            "clawfactory_wanted_secrets": wanted_secrets,
            "clawfactory_any_over_ssh": any_over_ssh,
            "clawfactory_remote_problems": remote_problems,
            "clawfactory_remote_access": remote_access_plan,
            "clawfactory_remote_addresses": remote_access.addresses,
            "clawfactory_published": published,
            "clawfactory_serve_routes": remote_access.serve_routes,
            "clawfactory_tunnel_credentials": tunnel_credentials,
            "clawfactory_machine": machine,
            "clawfactory_leader": leader,
        }
