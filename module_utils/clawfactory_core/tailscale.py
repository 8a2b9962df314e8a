"""Tailscale Serve: brings its routes to what is wanted and leaves those of others alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Conflict, CoreError

#: 'serve' asks and waits where the tailnet has no HTTPS yet; nobody would answer here.
_SECONDS = 30


@dataclass(frozen=True, order=True)
class Route:
    """``https://<machine>:<port><path>`` leads to ``target``."""

    port: int
    path: str
    target: str


@dataclass(frozen=True)
class ServePlan:
    """Routes to take away and to set, in this order."""

    gone: tuple[Route, ...]
    due: tuple[Route, ...]

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return bool(self.gone or self.due)


Run = Callable[[list[str]], str]


def run_tailscale(arguments: list[str]) -> str:
    """Run ``tailscale``; what it prints.

    :raises CoreError: it failed, or waited for an answer.
    """
    command = ["tailscale", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise CoreError("there is no program tailscale on the machine; the role installs it") from None
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise CoreError(
            f"'{' '.join(command)}' did not end within {_SECONDS} s: {text.strip()[-400:]} - HTTPS certificates have "
            "to be enabled for the tailnet (admin console, DNS)"
        ) from None
    except subprocess.CalledProcessError as error:
        said_last = (error.stderr or error.stdout).strip()[-400:]
        raise CoreError(f"'{' '.join(command)}' ended with {error.returncode}: {said_last}") from None
    return done.stdout


def read_status(run: Run) -> dict[str, Any]:
    """What Serve has, as ``tailscale serve status --json`` tells it; empty for nothing."""
    text = run(["serve", "status", "--json"])
    try:
        return dict(json.loads(text) or {}) if text.strip() else {}
    except (TypeError, ValueError):
        raise CoreError("'tailscale serve status --json' printed no JSON; update tailscale (1.52 or later)") from None


def plan_serve(
    status: Mapping[str, Any], hostname: str, wanted: Iterable[Route], applied: Iterable[Route]
) -> ServePlan:
    """Compare.

    :param status: by :func:`read_status`.
    :param applied: routes that were set here earlier; only those are changed or taken away.
    :raises Conflict: a port is open to the internet (Funnel), serves something else, or a path is somebody else's.
    """
    targets = {(route.port, route.path): route for route in wanted}
    ours = {(route.port, route.path): route for route in applied}
    for port in sorted({port for port, _ in targets}):
        _refuse_port(status, hostname, port)
    due = []
    for place, route in targets.items():
        there = _handler(status, hostname, *place)
        if there == {"Proxy": route.target}:
            continue
        if there is not None and place not in ours:
            raise Conflict(
                f"https://{hostname}:{route.port}{route.path} leads to {json.dumps(there)} already, which is not "
                f"ClawFactory's; take it away: tailscale serve --https={route.port} --set-path={route.path} off"
            )
        due.append(route)
    gone = [
        route
        for place, route in ours.items()
        if place not in targets and _handler(status, hostname, *place) == {"Proxy": route.target}
    ]
    return ServePlan(tuple(gone), tuple(due))


def _refuse_port(status: Mapping[str, Any], hostname: str, port: int) -> None:
    if (status.get("AllowFunnel") or {}).get(f"{hostname}:{port}"):
        raise Conflict(
            f"port {port} of {hostname} is open to the whole internet (Funnel), and no bot goes there; "
            f"end that: tailscale funnel --https={port} off"
        )
    tcp = (status.get("TCP") or {}).get(str(port))
    if tcp and not tcp.get("HTTPS"):
        raise Conflict(
            f"port {port} of {hostname} serves {json.dumps(tcp)} already; end that, or give the bot other ports"
        )


def _handler(status: Mapping[str, Any], hostname: str, port: int, path: str) -> Any:
    web = (status.get("Web") or {}).get(f"{hostname}:{port}") or {}
    return (web.get("Handlers") or {}).get(path)


def apply_serve(plan: ServePlan, run: Run) -> None:
    """Do it. Never with ``funnel``."""
    for route in plan.gone:
        run(["serve", "--yes", f"--https={route.port}", f"--set-path={route.path}", "off"])
    for route in plan.due:
        run(["serve", "--bg", "--yes", f"--https={route.port}", f"--set-path={route.path}", route.target])
