"""What somebody should be told about a bot, once when it begins and once when it is over; never through the bot."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import audit
from .errors import CoreError, InvalidInput
from .files import write_atomic
from .names import check_bot_name
from .readiness import ready_status
from .snapshots.chains import list_snapshots
from .snapshots.schedule import COPY, SNAPSHOT, read_run
from .status import bot_status

_MOST_BYTES = 1 << 16
_MOST_TEXT = 500
#: Told at once; what may pass by itself (a restart) is told when it is there at two looks.
_AT_ONCE = ("locked", "audit")


@dataclass(frozen=True)
class AlertSettings:
    """What role ``alerts`` settled for a bot: ``<root>/alerts/<bot>.json``.

    :param webhook: URL that gets a POST; secret, empty for none.
    :param mail: address, empty for none.
    :param snapshot_hours: age of the newest snapshot that is too old; 0 does not look.
    :param since: when it was settled: a new bot has no snapshot yet.
    """

    webhook: str
    mail: str
    snapshot_hours: int
    since: datetime


@dataclass(frozen=True)
class Told:
    """What a look came to.

    :param begun: problems that are told for the first time, by kind.
    :param over: kinds that were told and are over.
    :param all: all problems of now, by kind.
    """

    begun: dict[str, str]
    over: tuple[str, ...]
    all: dict[str, str]

    @property
    def any(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.begun or self.over)


def settings_path(root: Path, bot: str) -> Path:
    """Where a bot's settings are, 0600: the webhook's address is a secret."""
    return root / "alerts" / f"{bot}.json"


def read_alert_settings(root: Path, bot: str) -> AlertSettings:
    """Settings of a bot.

    :raises InvalidInput: it has none, or they are not what the role wrote.
    """
    check_bot_name(bot)
    path = settings_path(root, bot)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
        return AlertSettings(str(found["webhook"]), str(found["mail"]), int(found["snapshot_hours"]), since)
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = type(error).__name__
        raise InvalidInput(f"{path} cannot be used ({reason}); run: ansible-playbook site.yml -l {bot}") from None


def find_problems(
    root: Path, bot: str, machine: Mapping[str, Any], settings: AlertSettings, now: datetime
) -> dict[str, str]:
    """Problems of a bot by kind: ``locked``, ``down``, ``deaf``, ``snapshot``, ``copy``, ``audit``.

    :param machine: facts by ``machine.describe_machine``.
    """
    status = bot_status(bot, machine)
    found: dict[str, str] = {}
    if status["state"] == "locked":
        found["locked"] = f"locked {status['lock']}"
    elif status["state"] in ("absent", "stopped", "down"):
        running = [name for name, part in status["containers"].items() if part["status"] == "running"]
        found["down"] = f"it is {status['state']}; running: {', '.join(running) or 'nothing'}"
    elif status["state"] != "starting":
        port = machine["allocations"][bot]["gateway_port"]
        problem = probe(int(port)) or ("a part of it is unhealthy" if status["state"] == "unhealthy" else "")
        found |= {"deaf": problem} if problem else {}
    for kind, problem in (
        ("snapshot", _snapshot_problem(root, bot, settings, now)),
        ("copy", _run_problem(root, bot, COPY)),
        ("audit", _audit_problem(root, bot)),
    ):
        found |= {kind: problem} if problem else {}
    # File names and the words of who locked may have control characters in them.
    return {kind: "".join(c if c.isprintable() else "?" for c in text)[:_MOST_TEXT] for kind, text in found.items()}


def probe(port: int, seconds: float = 10.0) -> str:
    """Why a bot's gateway does not answer through its proxy; empty if it does."""
    try:
        status = ready_status(port, seconds)
    except OSError as error:
        return f"port {port} does not answer: {error or type(error).__name__}"
    return "" if status == 200 else f"port {port} answers {status} to /readyz"


def _snapshot_problem(root: Path, bot: str, settings: AlertSettings, now: datetime) -> str:
    failed = _run_problem(root, bot, SNAPSHOT)
    if failed or not settings.snapshot_hours:
        return failed
    try:
        records = list_snapshots(root / "snapshots" / bot)
    except CoreError as error:
        return str(error)
    times = [datetime.fromisoformat(record.started.replace("Z", "+00:00")) for record in records if not record.problem]
    newest = max([*times, settings.since])
    if now - newest <= timedelta(hours=settings.snapshot_hours):
        return ""
    return f"no snapshot since {newest.strftime('%Y-%m-%d %H:%M')} UTC ({settings.snapshot_hours} hours are allowed)"


def _run_problem(root: Path, bot: str, kind: str) -> str:
    try:
        run = read_run(root, bot, kind)
    except InvalidInput as error:
        return str(error)
    return f"the last one failed: {run.why}" if run is not None and run.why else ""


def _audit_problem(root: Path, bot: str) -> str:
    for path in (root / "audit" / f"{bot}.jsonl", root / "audit" / bot / "broker.jsonl"):
        try:
            problems = audit.verify(path).problems
        except (CoreError, OSError) as error:
            problems = (f"{path} cannot be read: {error}",)
        if problems:
            return problems[0]
    return ""


def tell_changes(path: Path, problems: Mapping[str, str], send: Callable[[Told], None]) -> Told:
    """Send what changed since the last look, and remember it; nothing is sent of what was told before.

    :param path: where it is remembered.
    :raises CoreError: it could not be sent; the next look tries again.
    """
    seen, told = _remembered(path)
    begun = {kind: text for kind, text in problems.items() if kind not in told and (kind in seen or kind in _AT_ONCE)}
    changes = Told(begun, tuple(kind for kind in told if kind not in problems), dict(problems))
    now = {"seen": sorted(problems), "told": sorted({*told, *begun} & set(problems))}
    if changes.any:
        # What is seen counts in any case, what is told only when it was.
        _remember(path, {"seen": sorted(problems), "told": sorted(told)})
        send(changes)
    _remember(path, now)
    return changes


def _remembered(path: Path) -> tuple[set[str], list[str]]:
    try:
        found = json.loads(path.read_bytes()[:_MOST_BYTES])
        return set(map(str, found["seen"])), [str(kind) for kind in found["told"]]
    except FileNotFoundError:
        return set(), []
    except (ValueError, KeyError, TypeError):
        # Told twice is better than never.
        return set(), []


def _remember(path: Path, state: Mapping[str, list[str]]) -> None:
    write_atomic(path, json.dumps(state).encode() + b"\n", mode=0o600)


def message(bot: str, told: Told) -> dict[str, Any]:
    """What is sent, as data; ``text`` and ``content`` are the line that chat services show."""
    machine = socket.gethostname()
    parts = [f"{kind}: {text}" for kind, text in told.begun.items()]
    parts += [f"{kind} is over" for kind in told.over]
    text = f"ClawFactory: {bot} on {machine}: {'; '.join(parts)}"
    return {
        "bot": bot, "machine": machine, "begun": told.begun, "over": list(told.over), "problems": told.all,
        "text": text, "content": text,
    }  # fmt: skip
