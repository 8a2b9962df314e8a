"""What role ``snapshots`` settled for a bot: ``<root>/snapshots/<bot>.json``, for modules and the own schedule."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..names import check_bot_name
from .chains import Retention
from .create import Limits, SnapshotRequest
from .tar_reader import ReadLimits

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_IDENTITY = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class SnapshotSettings:
    """Settings of one bot.

    :param controller_uid: who gets the archives.
    :param gateway_uid: the bot's own user, who gets what is restored.
    :param recipients: age recipients besides the bot's own.
    :param exclude: globs of what is left out besides the table of :mod:`.rules`.
    :param include: globs of what is taken although the table or ``exclude`` leaves it out.
    :param keep: how many snapshots of each kind stay: ``last``, ``daily``, ``weekly``, ``monthly``.
    :param max_chain: archives of a chain before the next full one.
    :param max_delta_percent: size of all increments, in percent of the full one, before the next full one.
    :param min_free_mb: MiB of the file system that stay free.
    :param max_entries: files and directories of a snapshot.
    :param max_mb: MiB of a snapshot's files.
    :param max_file_mb: MiB of one file.
    :param max_minutes: minutes a snapshot may take.
    :param agent_per_hour: snapshots that the bot itself may ask for in an hour.
    """

    controller_uid: int
    gateway_uid: int
    recipients: tuple[str, ...]
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    keep: Retention
    max_chain: int
    max_delta_percent: int
    min_free_mb: int
    max_entries: int
    max_mb: int
    max_file_mb: int
    max_minutes: int
    agent_per_hour: int

    @property
    def limits(self) -> Limits:
        """Limits in the units of :class:`.create.Limits`."""
        return Limits(
            max_entries=self.max_entries,
            max_bytes=self.max_mb * _MIB,
            max_file_bytes=self.max_file_mb * _MIB,
            max_seconds=self.max_minutes * 60,
        )

    @property
    def read_limits(self) -> ReadLimits:
        """Limits of reading, beside the state, what was made with :attr:`limits`; as much of the disk stays free."""
        free = max(ReadLimits.min_free_bytes, self.min_free_mb * _MIB)
        return ReadLimits(max_entries=self.max_entries, max_bytes=self.max_mb * _MIB, min_free_bytes=free)


def settings_path(root: Path, bot: str) -> Path:
    """Where a bot's settings are."""
    return root / "snapshots" / f"{bot}.json"


def read_settings(root: Path, bot: str) -> SnapshotSettings:
    """Settings of a bot.

    :raises InvalidInput: the bot has none yet, or the file is not what the role wrote.
    """
    check_bot_name(bot)
    path = settings_path(root, bot)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{bot} has no {path}; run: ansible-playbook site.yml -l {bot}") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON ({error}); run: ansible-playbook site.yml -l {bot}") from None
    try:
        return _parse(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{path} lacks something or has it in another form ({error!r}); run: ansible-playbook site.yml -l {bot}"
        ) from None


def _parse(found: dict[str, Any]) -> SnapshotSettings:
    values: dict[str, Any] = {
        name: tuple(str(item) for item in found[name]) for name in ("recipients", "exclude", "include")
    }
    keep = Retention(**{field.name: int(found["keep"][field.name]) for field in fields(Retention)})
    known = {*values, "keep"}
    found = {"agent_per_hour": 4, **found}  # what the role wrote before bots could ask has none
    values |= {field.name: int(found[field.name]) for field in fields(SnapshotSettings) if field.name not in known}
    return SnapshotSettings(keep=keep, **values)


def bot_directories(root: Path, bot: str) -> tuple[Path, Path]:
    """State of a bot, and the directory of its snapshots."""
    return root / "bot_repos" / bot / "state", root / "snapshots" / bot


def read_recipients(root: Path, bot: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """age recipients of a bot's snapshots, its own first.

    :raises InvalidInput: there is none, or one is none.
    """
    path = root / "secrets" / bot / "snapshot.pub"
    try:
        own = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        own = []
    if not own:
        raise InvalidInput(f"{path} has no recipient; run: ansible-playbook site.yml -l {bot}")
    found = tuple(dict.fromkeys([*own, *more]))
    for recipient in found:
        if not _RECIPIENT.fullmatch(recipient):
            raise InvalidInput(f"{recipient!r} is not an age recipient ('age1…', as age-keygen prints it)")
    return found


def parse_identities(text: str, where: str) -> tuple[str, ...]:
    """Private age keys of a key file's text.

    :param where: name of the file, for messages; the text itself is in none.
    :raises InvalidInput: a line is neither a comment nor a key, or there is no key.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(line for line in lines if line and not line.startswith("#"))
    bad = [number for number, line in enumerate(lines, 1) if line in found and not _IDENTITY.fullmatch(line)]
    if bad or not found:
        what = f"line {bad[0]} of {where} is no private age key" if bad else f"{where} has no private age key"
        raise InvalidInput(f"{what} ('AGE-SECRET-KEY-1…'); give the file that age-keygen or the role 'secrets' made")
    return found


def read_identities(root: Path, bot: str) -> tuple[str, ...]:
    """Private age keys on the machine: the one in use and those of before; none if they are on the control node.

    :raises InvalidInput: a file is no key file.
    """
    directory = root / "secrets" / bot
    paths = [directory / "snapshot.key", *sorted((directory / "snapshot.keys").glob("*.key"))]
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths if path.is_file() and not path.is_symlink()]
    found = [key for path, text in texts for key in parse_identities(text, str(path))]
    return tuple(dict.fromkeys(found))


def snapshot_request(
    root: Path, bot: str, *, label: str = "", kind: str = "auto", of_locked: bool = False
) -> SnapshotRequest:
    """What to ask :func:`.create.apply_snapshot` for, by the bot's settings.

    :raises InvalidInput: settings or recipients are missing or not usable.
    """
    settings = read_settings(root, bot)
    state, directory = bot_directories(root, bot)
    return SnapshotRequest(
        root=root,
        bot=bot,
        state=state,
        directory=directory,
        owner=settings.controller_uid,
        recipients=read_recipients(root, bot, settings.recipients),
        label=label,
        kind=kind,
        exclude=settings.exclude,
        include=settings.include,
        limits=settings.limits,
        max_chain=settings.max_chain,
        max_delta_ratio=settings.max_delta_percent / 100,
        min_free_bytes=settings.min_free_mb * _MIB,
        of_locked=of_locked,
    )
