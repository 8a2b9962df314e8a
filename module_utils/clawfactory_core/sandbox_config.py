"""OpenClaw's settings for sandboxed tools (docs/gateway/config-agents/sandbox.md of the npm package openclaw)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .bot_plan import Reader

MODES = ("off", "non-main", "all")
SCOPES = ("session", "agent", "shared")
WORKSPACE_ACCESS = ("none", "ro", "rw")
#: A model that answers only while ``playbooks/verify.yml`` runs, on the gateway's own loopback; no other has to exist.
PROBE_PROVIDER, PROBE_MODEL, PROBE_PORT = "clawfactory-verify", "probe", 18999


@dataclass(frozen=True)
class SandboxSettings:
    """Where a bot's tools run.

    The broker forces user, limits and hardening whatever is asked; they stand here because OpenClaw compares the
    containers that it finds with its own settings.

    :param mode: ``off``, ``non-main`` or ``all``.
    :param scope: ``session``, ``agent`` or ``shared``: who shares a sandbox.
    :param workspace_access: ``none``, ``ro`` or ``rw``.
    :param image: reference of the sandbox image.
    :param network: ``none``, or the name of the bot's sandbox network.
    :param uid: user and group of the tools, the gateway's.
    :param memory_mb: limit of each sandbox, MiB.
    :param cpus: processors of each sandbox.
    :param pids: processes and threads of each sandbox.
    :param idle_hours: hours without use after which OpenClaw removes a sandbox.
    :param max_age_days: days after which it removes one in any case.
    """

    mode: str = "off"
    scope: str = "agent"
    workspace_access: str = "rw"
    image: str = ""
    network: str = "none"
    uid: int = 0
    memory_mb: int = 1024
    cpus: float = 1.0
    pids: int = 256
    idle_hours: int = 24
    max_age_days: int = 7


_KINDS = {"str": str, "int": int, "float": float}


def parse_sandbox(raw: Mapping[str, Any]) -> SandboxSettings:
    """Settings from a role's variables, whose numbers may be text (Ansible's templates make them so)."""
    kinds = {field.name: _KINDS[str(field.type)] for field in fields(SandboxSettings)}
    return SandboxSettings(**{name: kinds[name](value) for name, value in raw.items()})


def render_sandbox(bot: str, settings: SandboxSettings) -> dict[str, Any]:
    """Everything that OpenClaw has to know to run a bot's tools in sandboxes: ``agents``, ``models`` and ``tools``.

    :raises InvalidInput: mode, scope or access is unknown.
    """
    for variable, value, known in (
        ("gateway_sandbox_mode", settings.mode, MODES),
        ("gateway_sandbox_scope", settings.scope, SCOPES),
        ("gateway_sandbox_workspace_access", settings.workspace_access, WORKSPACE_ACCESS),
    ):
        if value not in known:
            raise Reader(bot, variable, known).unknown(value)
    # Elevated runs a tool in the gateway itself.
    tools: dict[str, Any] = {"elevated": {"enabled": False}}
    if settings.mode == "off":
        return {"agents": {"defaults": {"sandbox": {"mode": "off"}}}, "tools": tools}
    if settings.mode == "all":
        # `auto` would run a tool in the gateway where there is no sandbox.
        tools["exec"] = {"host": "sandbox"}
    return {
        "agents": {"defaults": {"sandbox": _sandbox(bot, settings)}},
        "models": {"providers": {PROBE_PROVIDER: _probe()}},
        "tools": tools,
    }


def _sandbox(bot: str, settings: SandboxSettings) -> dict[str, Any]:
    return {
        "mode": settings.mode,
        "backend": "docker",
        "scope": settings.scope,
        "workspaceAccess": settings.workspace_access,
        "docker": {
            "image": settings.image,
            "containerPrefix": f"clawfactory-{bot}-sbx-",
            "workdir": "/workspace",
            "readOnlyRoot": True,
            "tmpfs": ["/tmp", "/var/tmp", "/run"],  # noqa: S108 - in the sandbox
            "network": settings.network,
            "user": f"{settings.uid}:{settings.uid}",
            "capDrop": ["ALL"],
            "memory": f"{settings.memory_mb}m",
            "cpus": settings.cpus,
            "pidsLimit": settings.pids,
        },
        # A sandboxed browser needs a published port, and nothing of a bot but its proxy has one.
        "browser": {"enabled": False},
        "prune": {"idleHours": settings.idle_hours, "maxAgeDays": settings.max_age_days},
    }


def _probe() -> dict[str, Any]:
    # No models in the list: OpenClaw would take the first one of any provider as default for a bot that has none.
    return {
        "api": "openai-completions",
        "apiKey": "clawfactory-verify",
        "baseUrl": f"http://127.0.0.1:{PROBE_PORT}/v1",
        "models": [],
    }
