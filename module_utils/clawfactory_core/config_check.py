"""Is an operator's file one that the bot may run with? OpenClaw's own word, and ours on what carries the isolation."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import overrides
from .adapters.docker_engine import run_once
from .config_install import MANAGED, OPERATOR, VALIDATED_IN, VALIDATION_ENVIRONMENT
from .errors import Conflict, CoreError
from .files import write_atomic
from .json5 import Json5Error, Places, parse

#: Bytes of an operator's file; the job's request has to hold it.
LARGEST_TEXT = 65536
_MOST_PROBLEMS = 100
_LONGEST = 1000
_LEFT_SECONDS = 3600.0
# What it prints on standard error, warnings mostly, is no part of the report.
_COMMAND = [
    "sh",
    "-c",
    "openclaw config validate --json 2>/tmp/said; code=$?; [ $code -le 1 ] || cat /tmp/said; exit 0",
]

#: Takes a directory with both files, returns what ``openclaw config validate --json`` printed.
Ask = Callable[[Path], str]


@dataclass(frozen=True)
class Problem:
    """Why a file is refused.

    :param path: of the setting, with dots; empty for the text as a whole.
    :param line: in the operator's file, from 1, as is ``column``; 0 when the place is not in it.
    """

    path: str
    message: str
    line: int = 0
    column: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_text(text: str, managed: str, staging: Path, ask: Ask) -> list[Problem]:
    """What speaks against a file; nothing is installed.

    :param text: of ``operator.json5``.
    :param managed: text of ``openclaw.json``, which includes it.
    :param staging: directory on this machine in which the candidate may lie for a moment.
    :raises CoreError: OpenClaw could not be asked.
    """
    try:
        value, places = parse(text)
    except Json5Error as error:
        return [Problem("", error.message, error.line, error.column)]
    if not isinstance(value, Mapping):
        return [Problem("", "the file has to hold one object, in braces", 1, 1)]
    own = [Problem(path, f"is not yours to set: {overrides.reason(path)}") for path in overrides.protected_in(value)]
    own += [
        Problem(path, "holds a secret in plain text; put it into secrets_env and refer to it as ${NAME}")
        for path in overrides.plain_secrets(value)
    ]
    found = own or _ask(text, managed, staging, ask)
    return [_placed(problem, places) for problem in found[:_MOST_PROBLEMS]]


def asking_image(definition: Path, bot: str, uid: int) -> Ask:
    """Ask the OpenClaw of the image that the bot's gateway is made from, in a container that is thrown away.

    :param definition: file with the role's ``host_container``.
    :raises Conflict: there is none.
    """
    try:
        image = json.loads(definition.read_bytes())["image"]
    except (OSError, ValueError, KeyError, TypeError):
        raise Conflict(f"{bot} has no {definition}; run: ansible-playbook site.yml -l {bot}") from None

    def ask(candidate: Path) -> str:
        return run_once(
            str(image), _COMMAND, user=f"{uid}:{uid}", mount=(candidate, VALIDATED_IN), env=VALIDATION_ENVIRONMENT
        )

    return ask


def _ask(text: str, managed: str, staging: Path, ask: Ask) -> list[Problem]:
    staging.mkdir(mode=0o755, parents=True, exist_ok=True)
    _sweep(staging)
    candidate = Path(tempfile.mkdtemp(prefix=".config-", dir=staging))
    try:
        candidate.chmod(0o755)  # another user reads it: that of the container
        for name, content in ((OPERATOR, text), (MANAGED, managed)):
            write_atomic(candidate / name, content.encode(), mode=0o644)
        return read_report(ask(candidate))
    finally:
        shutil.rmtree(candidate, ignore_errors=True)  # what stays is swept later


def _sweep(staging: Path) -> None:
    """Remove candidates of processes that were killed."""
    for left in staging.glob(".config-*"):
        if time.time() - left.lstat().st_mtime > _LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)  # another process may be doing the same


def read_report(printed: str) -> list[Problem]:
    """Problems that ``openclaw config validate --json`` names; none when it takes the file.

    :raises CoreError: it printed no report.
    """
    try:
        report = json.loads(printed)
        if report["valid"] is True:
            return []
        found = [Problem(str(issue["path"])[:_LONGEST], str(issue["message"])[:_LONGEST]) for issue in report["issues"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CoreError(f"OpenClaw did not say what it thinks of the configuration: {printed[-_LONGEST:]}") from error
    return found or [Problem("", "OpenClaw does not take it, and does not say why")]


def _placed(problem: Problem, places: Places) -> Problem:
    """The problem with the place of its setting, or of the nearest one around it that is in the file."""
    if problem.line or problem.path in ("", "<root>"):
        return problem
    keys: tuple[str | int, ...] = ()
    place = (0, 0)
    for part in problem.path.replace("[", ".").replace("]", "").split("."):
        options: tuple[str | int, ...] = (part, int(part)) if part.isdecimal() and len(part) < 9 else (part,)
        following = next(((*keys, option) for option in options if (*keys, option) in places), None)
        if following is None:
            break
        keys, place = following, places[following]
    return Problem(problem.path, problem.message, *place)
