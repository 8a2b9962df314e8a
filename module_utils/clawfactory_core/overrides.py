"""An operator's free OpenClaw settings: how they are laid under ours, and what they may not touch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: Settings that carry isolation or authority, with the way to get what one may want from them. ``*`` is any key.
PROTECTED: Mapping[str, str] = {
    "$include": "put further settings into gateway_config itself",
    "agents.defaults.sandbox": "the sandbox belongs to the gateway role",
    "agents.defaults.workspace": "the approved workspace is bound there",
    "agents.entries.*.sandbox": "the sandbox belongs to the gateway role, for all agents alike",
    "agents.entries.*.tools.elevated": "tools run in the sandbox only",
    "agents.entries.*.tools.exec.host": "tools run in the sandbox only",
    "channels.*.accounts.*.proxy": "the egress proxy is the only way out",
    "channels.*.proxy": "the egress proxy is the only way out",
    "env": "put keys into secrets_env",
    "gateway.allowRealIpFallback": "the proxy sends X-Forwarded-For",
    "gateway.auth": "the gateway's token is OPENCLAW_GATEWAY_TOKEN in secrets_env, else generated",
    "gateway.bind": "the proxy publishes the gateway on 127.0.0.1",
    "gateway.controlUi.allowedOrigins": "name further origins in gateway_allowed_origins",
    "gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback": "name origins in gateway_allowed_origins",
    "gateway.controlUi.dangerouslyDisableDeviceAuth": "approve the device instead",
    "gateway.customBindHost": "the proxy publishes the gateway on 127.0.0.1",
    "gateway.mode": "the gateway always runs in mode local",
    "gateway.port": "the published port is gateway_port",
    "gateway.remote": "the gateway always runs in mode local",
    "gateway.tailscale": "put Tailscale on the machine, in front of the proxy",
    "gateway.tls": "TLS ends in front of the proxy",
    "gateway.trustedProxies": "only the bot's own proxy is trusted",
    "models.providers.clawfactory-verify": "playbooks/verify.yml needs it; choose another name",
    "proxy": "the egress proxy is the only way out; allow hosts with egress_allow_extra",
    "secrets.defaults": "references to keys read the environment",
    "secrets.providers.default": "references to keys read the environment",
    "tools.elevated": "tools run in the sandbox only",
    "tools.exec.host": "tools run in the sandbox only; gateway_sandbox_mode says whether there is one",
}
_REFERENCE = re.compile(r"(?<!\$)\$\{([A-Z_][A-Z0-9_]*)\}")
_ONLY_REFERENCES = re.compile(r"(?:\s*(?:Bearer|Bot|Basic|Token)?\s*\$\{[A-Z_][A-Z0-9_]*\})+\s*")
_SECRET_KEY = re.compile(
    r"(?:api_?key|token|password|passphrase|secret|private_?key|credentials?|authorization|cookie|x-api-key|api-key)$",
    re.IGNORECASE,
)
#: Values OpenClaw itself takes for "no key needed".
_NO_SECRET = ("", "ollama-local", "custom-local")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``above`` over ``below``: mappings merge key by key, anything else is replaced. Copies both."""
    merged = {key: _copy(value) for key, value in below.items()}
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = merge(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else _copy(value)
    return merged


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value


def protected_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of :data:`PROTECTED` that a configuration sets, or would wipe out by setting a key above them."""
    found: set[str] = set()
    for pattern in PROTECTED:
        found.update(_matches(config, pattern.split("."), ""))
    return tuple(sorted(found))


def _matches(value: Any, pattern: list[str], path: str) -> Iterator[str]:
    if not pattern:
        yield path
        return
    if not isinstance(value, Mapping):
        # `gateway: null` takes everything below it along; absent keys do not get here.
        yield path
        return
    head, rest = pattern[0], pattern[1:]
    for key in [key for key in value if head in ("*", key)]:
        yield from _matches(value[key], rest, f"{path}.{key}" if path else str(key))


def reason(path: str) -> str:
    """The way out for a path that :func:`protected_in` returned."""
    parts = path.split(".")
    for pattern, text in PROTECTED.items():
        names = pattern.split(".")
        if all(name in ("*", part) for name, part in zip(names, parts, strict=False)):
            return text
    raise KeyError(path)


def references(value: Any) -> frozenset[str]:
    """Names of all environment variables that a setting refers to, as ``${NAME}`` or as an env SecretRef."""
    if isinstance(value, str):
        return frozenset(_REFERENCE.findall(value))
    if isinstance(value, Mapping):
        found = frozenset[str]().union(*(references(item) for item in value.values()))
        if value.get("source") == "env" and isinstance(value.get("id"), str):
            found |= {value["id"]}
        return found
    if isinstance(value, (list, tuple)):
        return frozenset[str]().union(*(references(item) for item in value))
    return frozenset()


def plain_secrets(value: Any, path: str = "") -> tuple[str, ...]:
    """Paths at which a secret stands in plain text where a reference belongs."""
    if isinstance(value, Mapping):
        nested = [plain_secrets(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
        return tuple(sorted(entry for entries in nested for entry in entries))
    if isinstance(value, (list, tuple)):
        return tuple(entry for index, item in enumerate(value) for entry in plain_secrets(item, f"{path}.{index}"))
    key = path.rsplit(".", 1)[-1]
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _SECRET_KEY.search(key):
        return ()
    return () if value in _NO_SECRET or _ONLY_REFERENCES.fullmatch(str(value)) else (path,)


def non_text_keys(value: Any, path: str = "") -> tuple[str, ...]:
    """Paths whose key is not text (YAML turns ``1:`` and ``on:`` into other types), which JSON cannot carry."""
    if isinstance(value, Mapping):
        bad = [f"{path}.{key}".lstrip(".") for key in value if not isinstance(key, str)]
        nested = [non_text_keys(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()]
        return tuple(bad) + tuple(entry for entries in nested for entry in entries)
    if isinstance(value, (list, tuple)):
        return tuple(entry for index, item in enumerate(value) for entry in non_text_keys(item, f"{path}.{index}"))
    return ()
