"""How the bots of a machine are reached from elsewhere: Tailscale Serve, or a Cloudflare tunnel with Access in front.

Controllers share the name of the machine, each below ``/<bot>/controller``. Every gateway has an origin of its own (a
port with Tailscale, a name with Cloudflare): a page of a gateway that was taken over must be a stranger to the
controllers and to the other gateways, and a path does not make it one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .bot_plan import Reader
from .errors import CoreError, InvalidInput
from .tailscale import Route, Run, plan_serve, read_status, run_tailscale

KINDS = ("none", "tailscale", "cloudflare")
_HTTPS = 443
_NO_ACCESS = "without Cloudflare Access nothing is published"
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{2,9}}")
_TEAM = re.compile(_LABEL)
_AUDIENCE = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[A-Za-z0-9_-]{8,200}(?:\?[A-Za-z0-9=&]{1,100})?")


def parse_remote_access(
    bot: str, variables: Mapping[str, Any], init: str, mates: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What a machine's variables ask for.

    :param variables: of one of its bots.
    :param init: init system of the machine: ``systemd`` or something else.
    :param mates: variables of the machine's bots in this run, by bot; all of them have to ask for the same.
    :returns: ``{"kind": "none"}``, or also ``hostname`` and for Cloudflare ``team``, ``audiences``, ``tunnel`` (its id)
        and ``webhook``; nothing of it is secret.
    :raises InvalidInput: names variable, value (no secret's) and the way out.
    """
    kind = variables.get("remote_access", "none")
    if kind not in KINDS:
        raise Reader(bot, "remote_access", KINDS).unknown(kind)
    for mate, theirs in mates.items():
        if theirs.get("remote_access", "none") != kind:
            other = theirs.get("remote_access", "none")
            why = f"{mate} of the same machine has {other}; set it once, in the machine's group"
            raise Reader(bot, "remote_access").refuse(kind, why)
    if kind == "none":
        return {"kind": kind}
    if init != "systemd":
        raise Reader(bot, "remote_access").refuse(kind, "it needs a machine with systemd; set it to none")
    access = {"kind": kind, "hostname": _hostname(bot, kind, variables)}
    if kind == "tailscale":
        key = variables.get("remote_access_tailscale_authkey", "")
        if key and not (isinstance(key, str) and _KEY.fullmatch(key)):
            raise InvalidInput(
                f"bot '{bot}': remote_access_tailscale_authkey is no auth key; make one, or leave it empty"
            )
        return access
    return {**access, **_access_settings(bot, variables), "tunnel": tunnel_credentials(bot, variables)["TunnelID"]}


def _hostname(bot: str, kind: str, variables: Mapping[str, Any]) -> str:
    name, example = variables.get("remote_access_hostname", ""), "bots.example.com"
    if kind == "tailscale":
        example = "machine.tail1234.ts.net"
    reader = Reader(bot, "remote_access_hostname")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise reader.refuse(name, f"give the whole name of the machine in lower case, without a port, like {example}")
    if kind == "tailscale" and not name.endswith(".ts.net"):
        raise reader.refuse(name, f"names of a tailnet end in .ts.net, like {example} ('tailscale status' shows it)")
    if kind == "cloudflare" and not _NAME.fullmatch(f"{bot}-{name}"):
        raise reader.refuse(
            name, f"the gateway's name would be {bot}-{name}, and a part of a name has at most 63 letters"
        )
    return name


def _access_settings(bot: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    team, audiences = (
        variables.get("remote_access_cloudflare_team", ""),
        variables.get("remote_access_cloudflare_audiences"),
    )
    if not isinstance(team, str) or not _TEAM.fullmatch(team):
        why = f"{_NO_ACCESS}; give the team's name, what stands before .cloudflareaccess.com"
        raise Reader(bot, "remote_access_cloudflare_team").refuse(team, why)
    if (
        not isinstance(audiences, list)
        or not audiences
        or not all(isinstance(tag, str) and _AUDIENCE.fullmatch(tag) for tag in audiences)
    ):
        why = f"{_NO_ACCESS}; give a list of Application Audience (AUD) tags, 64 hex digits each"
        raise Reader(bot, "remote_access_cloudflare_audiences").refuse(audiences or [], why)
    webhook = variables.get("remote_access_cloudflare_webhook", False)
    if not isinstance(webhook, bool):
        raise Reader(bot, "remote_access_cloudflare_webhook").refuse(webhook, "write true or false")
    return {"team": team, "audiences": audiences, "webhook": webhook}


def tunnel_credentials(bot: str, variables: Mapping[str, Any]) -> dict[str, str]:
    """The content of the file that ``cloudflared tunnel create`` wrote, of which no word is in an error.

    :raises InvalidInput: it is not that.
    """
    given = variables.get("remote_access_cloudflare_credentials", "")
    try:
        found = given if isinstance(given, Mapping) else json.loads(given)
        credentials = {name: str(found[name]) for name in ("AccountTag", "TunnelSecret", "TunnelID")}
    except (KeyError, TypeError, ValueError):
        credentials = {}
    if not all(credentials.values()) or not _UUID.fullmatch(credentials.get("TunnelID", "")):
        raise InvalidInput(
            f"bot '{bot}': remote_access_cloudflare_credentials is not what 'cloudflared tunnel create' wrote to "
            "<tunnel id>.json; put the content of that file into the vault"
        )
    return credentials


def addresses(access: Mapping[str, Any], bot: str, gateway_port: int) -> dict[str, str]:
    """Where one bot is reached from elsewhere; empty where it is not.

    :returns: ``gateway_host`` and ``controller_host``, both as browsers send them in ``Host``; ``gateway_port`` and
        ``controller_port`` of the outside; ``gateway`` (an origin); ``prefix`` and ``controller`` (a URL).
    """
    if access["kind"] == "none":
        return {}
    name = access["hostname"]
    gateway = f"{name}:{gateway_port}" if access["kind"] == "tailscale" else f"{bot}-{name}"
    return {
        "gateway_host": gateway,
        "gateway_port": str(gateway_port if access["kind"] == "tailscale" else _HTTPS),
        "gateway": f"https://{gateway}",
        "controller_host": name,
        "controller_port": str(_HTTPS),
        "prefix": f"/{bot}/controller",
        "controller": f"https://{name}/{bot}/controller/",
    }


def published_file(root: Path) -> Path:
    """Where it stands what a machine publishes: a bot that is in no run stays published."""
    return root / "remote_access" / "published.json"


def read_published(root: Path) -> dict[str, Any]:
    """What the machine publishes: ``kind``, ``hostname``, ``version``, ``settings``, ``bots``.

    :raises CoreError: the file cannot be read; nobody may think then that nothing is published.
    """
    path = published_file(root)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"kind": "none", "bots": {}}
    except (OSError, ValueError) as error:
        raise CoreError(f"{path} cannot be read: {error}; restore it, or remove it and what it published") from error
    return dict(found)


def read_standing(root: Path, run: Run = run_tailscale) -> dict[str, Any]:
    """:func:`read_published`, with ``changed`` in it if Tailscale Serve has other routes than it was given, or Funnel.

    Then it equals nothing that is wanted, and the role sets the routes again or refuses the port.
    """
    record = read_published(root)
    if record["kind"] != "tailscale":
        return record
    routes = [Route(one["port"], one["path"], one["target"]) for one in serve_routes(record)]
    try:
        changed = plan_serve(read_status(run), record["hostname"], routes, routes).changed
    except CoreError:
        # The role asks again, and says what is wrong.
        changed = True
    return {**record, "changed": True} if changed else record


def published(
    recorded: Mapping[str, Any],
    access: Mapping[str, Any],
    version: str,
    bots: Mapping[str, Any],
    leaving: Iterable[str],
) -> dict[str, Any]:
    """What a machine is to publish: what is wanted of it now, for the bots it has and those of this run.

    :param recorded: by :func:`read_published`.
    :param access: by :func:`parse_remote_access`.
    :param version: of the program.
    :param bots: of this run, ``{bot: {gateway_port, controller_port, webhook}}``.
    :param leaving: bots that are no longer published.
    """
    nothing: dict[str, Any] = {"kind": "none", "bots": {}}
    if access["kind"] == "none":
        return nothing
    gone = set(leaving)
    kept = {name: bot for name, bot in {**recorded["bots"], **bots}.items() if name not in gone}
    return {**access, "version": version, "bots": dict(sorted(kept.items()))} if kept else nothing


def serve_routes(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What Tailscale Serve gets, ``{port, path, target}`` each.

    Serve cuts the path off before it passes a request on, so the target has it again. Below ``/<bot>`` is nothing but
    the controller, and a redirect to the gateway.
    """
    if record["kind"] != "tailscale":
        return []
    routes: list[dict[str, Any]] = []
    for name, bot in record["bots"].items():
        local = "http://127.0.0.1"
        routes += [
            {"port": _HTTPS, "path": f"/{name}", "target": f"{local}:{bot['controller_port']}/{name}"},
            {"port": int(bot["gateway_port"]), "path": "/", "target": f"{local}:{bot['gateway_port']}"},
        ]
    return routes
