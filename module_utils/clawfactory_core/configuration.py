"""From a bot's inventory variables to what its parts need: keys, egress rules and OpenClaw's configuration.

``parse_bot`` reads and refuses; ``render_config`` writes the ``openclaw.json`` that the gateway role owns. Both know
variables and addresses, no files. No secret ever passes through here, only names of environment variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import endpoints, overrides
from .bot_plan import BotPlan, NeededKey, ProviderPlan, Reader
from .bot_providers import bare_model, parse_providers, secret_ref
from .catalog import CHANNELS_BY_NAME, PLUGIN_OF_PROVIDER
from .errors import InvalidInput
from .names import check_bot_name
from .sandbox_config import PROBE_MODEL, PROBE_PROVIDER, SandboxSettings, render_sandbox

EGRESS_MODES = ("allowlist", "open", "none")
#: Made by ClawFactory for every bot; a setting may refer to them without anybody having to supply them.
OWN_ENV = ("OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN")
OPERATOR_INCLUDE = "./operator.json5"
WORKSPACE = "/home/node/.openclaw/workspace"

_REFERRED = "a value that is referred to"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


@dataclass(frozen=True)
class GatewaySettings:
    """What a bot's place on its machine adds to its configuration.

    :param port: published gateway port on 127.0.0.1.
    :param proxy_address: address of the bot's proxy on its inside network.
    :param egress_address: address of the bot's egress on its inside network.
    :param allowed_origins: further origins from which a browser may use the control UI.
    :param sandbox: where the bot's tools run.
    """

    port: int
    proxy_address: str
    egress_address: str
    egress_port: int = 3128
    allowed_origins: tuple[str, ...] = ()
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    workspace: str = WORKSPACE

    @property
    def egress_url(self) -> str:
        """The only way out of the gateway's network."""
        return f"http://{self.egress_address}:{self.egress_port}"


def parse_bot(bot: str, variables: Mapping[str, Any]) -> BotPlan:
    """Check a bot's variables and work out what follows from them.

    :param variables: inventory variables; read are ``bot_providers``, ``bot_channels``, ``bot_default_model``,
        ``egress_mode``, ``egress_allow_extra`` and ``gateway_config``, all optional.
    :raises InvalidInput: names bot, variable and value, what is known, and the way out.
    """
    check_bot_name(bot)
    providers = parse_providers(bot, variables.get("bot_providers"))
    channels = _parse_channels(bot, variables.get("bot_channels"))
    free = _parse_overrides(Reader(bot, "gateway_config"), variables.get("gateway_config"))
    mode = variables.get("egress_mode", "allowlist")
    if mode not in EGRESS_MODES:
        raise Reader(bot, "egress_mode", EGRESS_MODES).unknown(mode)
    extra = _parse_hosts(bot, variables.get("egress_allow_extra"))
    special = tuple(plan.endpoint for plan in providers if plan.endpoint and not plan.endpoint.ordinary)
    hosts = [host for plan in providers for host in plan.hosts]
    hosts += [host for name in channels for host in CHANNELS_BY_NAME[name].hosts]
    closed = mode == "none"
    return BotPlan(
        bot=bot,
        providers=providers,
        channels=channels,
        egress_mode=str(mode),
        egress_hosts=() if closed else endpoints.collapse([*hosts, *extra]),
        endpoints=() if closed else special,
        keys=_needed_keys(providers, channels, free),
        default_model=_default_model(bot, variables.get("bot_default_model"), providers),
        overrides=free,
    )


def missing_keys(plan: BotPlan, available: Iterable[str]) -> tuple[NeededKey, ...]:
    """Required keys of which no value is at hand, in order of their names."""
    present = {*available, *OWN_ENV}
    return tuple(key for key in plan.keys if key.required and key.env not in present)


def require_keys(plan: BotPlan, available: Iterable[str]) -> None:
    """Refuse a bot that lacks a key.

    :param available: names of the environment variables that have a value.
    :raises InvalidInput: lists exactly the missing names, who wants each, where it comes from and how to set it.
    """
    missing = missing_keys(plan, available)
    if not missing:
        return
    lines = [
        f"{key.env} ({key.title}) for {key.wanted_by}" + (f", from {key.key_url}" if key.key_url else "")
        for key in missing
    ]
    raise InvalidInput(
        f"bot '{plan.bot}': secrets_env: no value for {'; '.join(lines)}. Put it into secrets_env of {plan.bot} in the "
        f"inventory, encrypted: ansible-vault encrypt_string --stdin-name {missing[0].env} (docs/api-keys.md); "
        "or take the provider or channel out of bot_providers or bot_channels"
    )


def _parse_channels(bot: str, raw: object) -> dict[str, dict[str, Any]]:
    reader = Reader(bot, "bot_channels", tuple(sorted(CHANNELS_BY_NAME)))
    channels: dict[str, dict[str, Any]] = {}
    for entry in reader.entries(raw):
        name = entry.pop("name")
        row = CHANNELS_BY_NAME.get(name)
        if row is None:
            raise reader.unknown(name)
        if name in channels:
            raise reader.refuse(name, "occurs twice; name it once")
        fixed = [key for key in (*(key.field for key in row.keys), *row.settings, "proxy") if key in entry]
        if fixed:
            raise reader.refuse(fixed[0], f"this setting of {name} is ClawFactory's; leave it out (keys: secrets_env)")
        _check_free(reader, {"channels": {name: entry}})
        channels[name] = entry
    return channels


def _parse_hosts(bot: str, raw: object) -> list[str]:
    reader = Reader(bot, "egress_allow_extra")
    if raw is None:
        return []
    if not isinstance(raw, (list, tuple)):
        raise reader.refuse(raw, "has to be a list of host names, like ['example.org', '.example.net']")
    hosts = []
    for item in raw:
        try:
            hosts.append(endpoints.check_allowed_host(item if isinstance(item, str) else ""))
        except ValueError as error:
            raise reader.refuse(item, str(error)) from None
    return hosts


def _parse_overrides(reader: Reader, raw: object) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise reader.refuse(
            type(raw).__name__, "has to be a mapping of OpenClaw settings, like {logging: {level: debug}}"
        )
    _check_free(reader, raw)
    _check_plugins(reader, raw.get("plugins", {}))
    return overrides.merge({}, raw)


def _check_plugins(reader: Reader, plugins: object) -> None:
    """The two lists of plugins are joined with ours, so they have to be lists."""
    rule = "plugins and plugins.load are mappings, plugins.load.paths and plugins.deny lists of text; correct them"
    load = plugins.get("load", {}) if isinstance(plugins, Mapping) else None
    if not isinstance(plugins, Mapping) or not isinstance(load, Mapping):
        raise reader.refuse("plugins", rule)
    for names in (load.get("paths", []), plugins.get("deny", [])):
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise reader.refuse("plugins", rule)
    if not isinstance(plugins.get("entries", {}), Mapping):
        raise reader.refuse("plugins", "plugins.entries is a mapping; write {} for nothing")


def _check_free(reader: Reader, settings: Mapping[str, Any]) -> None:
    bad = overrides.non_text_keys(settings)
    if bad:
        raise reader.refuse(bad[0], "this name is not text in YAML; put it in quotes")
    protected = overrides.protected_in(settings)
    if protected:
        ways = "; ".join(f"{path}: {overrides.reason(path)}" for path in protected)
        raise reader.refuse(protected[0], f"this setting carries the bot's isolation and cannot be changed ({ways})")
    plain = overrides.plain_secrets(settings)
    if plain:
        # The value itself must not appear in the message.
        way = "put it into secrets_env and write '${ITS_NAME}' here"
        raise reader.refuse(plain[0], f"holds a secret in plain text; {way}")


def _default_model(bot: str, raw: object, providers: tuple[ProviderPlan, ...]) -> str:
    if raw in (None, ""):
        return providers[0].model if providers else ""
    reader = Reader(bot, "bot_default_model")
    for plan in providers:
        if isinstance(raw, str) and raw.startswith(f"{plan.id}/"):
            model = bare_model(reader, plan.id, raw)
            known = [str(entry["id"]) for entry in plan.settings.get("models", ())]
            if known and model not in known:
                way = f"add it to 'models' of {plan.id} in bot_providers"
                raise reader.refuse(raw, f"{plan.id} declares {', '.join(known)}; {way}")
            return raw
    have = ", ".join(f"{plan.id}/…" for plan in providers) or "none, because bot_providers is empty"
    raise reader.refuse(raw, f"names no provider of this bot; possible are {have}")


def _needed_keys(
    providers: tuple[ProviderPlan, ...], channels: Mapping[str, Mapping[str, Any]], free: Mapping[str, Any]
) -> tuple[NeededKey, ...]:
    needed = [plan.key for plan in providers if plan.key is not None]
    for name, settings in channels.items():
        row = CHANNELS_BY_NAME[name]
        needed += [NeededKey(key.env, f"channel {name}", key.title, row.key_url, key.required) for key in row.keys]
        needed += [NeededKey(env, f"settings of {name}", _REFERRED) for env in overrides.references(settings)]
    needed += [NeededKey(env, "gateway_config", _REFERRED) for env in overrides.references(free)]
    merged: dict[str, NeededKey] = {}
    for key in needed:
        first = merged.setdefault(key.env, key)
        if first is not key:
            both = f"{first.wanted_by}, {key.wanted_by}"
            merged[key.env] = replace(first, wanted_by=both, required=first.required or key.required)
    return tuple(merged[env] for env in sorted(merged) if env not in OWN_ENV)


def render_config(plan: BotPlan, gateway: GatewaySettings) -> dict[str, Any]:
    """Write OpenClaw's configuration: defaults, over them the operator's free settings, over those what isolates.

    The result includes ``operator.json5``, over which OpenClaw lays everything written here; only lists are joined.

    :raises InvalidInput: an address or origin of ``gateway`` is unusable.
    """
    config = overrides.merge(_defaults(plan), plan.overrides)
    config = overrides.merge(config, _isolation(plan, gateway))
    _join_plugins(config, plan)
    _allow_probe(config)
    return config


def _allow_probe(config: dict[str, Any]) -> None:
    """Where an operator allows chosen models only, the one that verifies the sandbox is among them."""
    allowed = config["agents"]["defaults"].get("modelPolicy", {}).get("allow")
    if allowed and PROBE_PROVIDER in config["models"]["providers"]:
        allowed.append(f"{PROBE_PROVIDER}/{PROBE_MODEL}")


def _join_plugins(config: dict[str, Any], plan: BotPlan) -> None:
    """Add our plugins and denials to the operator's, which would otherwise take their place."""
    plugins = config["plugins"]
    paths = [CHANNELS_BY_NAME[name].plugin_path for name in sorted(plan.channels)]
    entries = plan.overrides.get("plugins", {}).get("entries", {})
    unwanted = {plugin for provider in plan.providers for plugin in _unwanted_plugins(provider)}
    # Without the denial OpenClaw asks npm for them at every first start, for minutes, because npm is not reachable.
    # Those of the image it would copy, 12,000 files, before it is ready.
    unwanted |= {name for name, row in CHANNELS_BY_NAME.items() if row.plugin_path} - set(config["channels"])
    denied = sorted(plugin for plugin in unwanted if plugin not in entries)
    if any(paths):
        load = plugins.setdefault("load", {})
        load["paths"] = list(dict.fromkeys([*filter(None, paths), *load.get("paths", ())]))
    if denied:
        plugins["deny"] = list(dict.fromkeys([*denied, *plugins.get("deny", ())]))


def _unwanted_plugins(provider: ProviderPlan) -> tuple[str, ...]:
    """Plugins that OpenClaw would fetch because of a provider that works without."""
    if provider.row.repeatable and provider.id in PLUGIN_OF_PROVIDER:
        return (PLUGIN_OF_PROVIDER[provider.id],)
    return provider.row.unwanted_plugins


def to_json(config: Mapping[str, Any]) -> str:
    """Text of a configuration, the same for the same content; ``$include`` comes first because it sorts first."""
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _defaults(plan: BotPlan) -> dict[str, Any]:
    """Settings the operator may change. Nothing calls home; what would, is not on the allow-list anyway."""
    agent: dict[str, Any] = {"model": {"primary": plan.default_model}} if plan.default_model else {}
    plugins = {name: {"enabled": True} for name in sorted(plan.channels)}
    return {
        "agents": {"defaults": agent},
        "channels": {name: _channel(name, settings) for name, settings in plan.channels.items()},
        "discovery": {"mdns": {"mode": "off"}},
        # A shell in the gateway, with all its keys in the environment, offered to every browser with the token.
        "gateway": {"terminal": {"enabled": False}},
        "models": {
            "catalogRefresh": {"enabled": False},
            "providers": {provider.id: provider.settings for provider in plan.providers if provider.settings},
        },
        "plugins": {"entries": plugins},
        "telemetry": {"enabled": False},
        "update": {"auto": {"enabled": False}, "checkOnStart": False},
    }


def _channel(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Who may talk to the bot is decided by pairing unless the operator says otherwise; that is OpenClaw's default."""
    row = CHANNELS_BY_NAME[name]
    keys = {key.field: secret_ref(key.env) for key in row.keys}
    # The configuration is read-only for the bot, so an attempt of the chat to write it could only fail.
    return {"enabled": True, "configWrites": False, **row.settings, **keys, **settings}


def _isolation(plan: BotPlan, gateway: GatewaySettings) -> dict[str, Any]:
    """Settings that hold whatever else is said; :data:`overrides.PROTECTED` names them."""
    for origin in gateway.allowed_origins:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            reader = Reader(plan.bot, "gateway_allowed_origins")
            raise reader.refuse(origin, "write an origin like https://bot.example.org, without a path")
    origins = [f"http://127.0.0.1:{gateway.port}", f"http://localhost:{gateway.port}", *gateway.allowed_origins]
    proxied = [name for name in plan.channels if CHANNELS_BY_NAME[name].proxied]
    isolation = {
        "$include": OPERATOR_INCLUDE,
        "agents": {"defaults": {"workspace": gateway.workspace}},
        "channels": {name: {"proxy": gateway.egress_url} for name in proxied},
        "gateway": {
            "allowRealIpFallback": False,
            "auth": {"mode": "token", "token": secret_ref("OPENCLAW_GATEWAY_TOKEN")},
            "bind": "lan",
            "controlUi": {
                "allowedOrigins": list(dict.fromkeys(origins)),
                "dangerouslyAllowHostHeaderOriginFallback": False,
                "dangerouslyDisableDeviceAuth": False,
            },
            "mode": "local",
            "port": 18789,
            "tailscale": {"mode": "off"},
            "trustedProxies": [gateway.proxy_address],
        },
        # In egress mode `none` too: a proxy that refuses says why, a missing one looks like a broken network.
        "proxy": {"enabled": True, "loopbackMode": "gateway-only", "proxyUrl": gateway.egress_url},
        "secrets": {"providers": {"default": {"source": "env"}}},
    }
    return overrides.merge(isolation, render_sandbox(plan.bot, gateway.sandbox))
