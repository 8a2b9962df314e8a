"""Copies of a bot's snapshots away from its machine: made, pruned by a retention of their own, and fetched back.

With them goes what was approved, where the machine alone has it (:mod:`.history`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from ..adapters.rclone import Rclone
from ..errors import Conflict, CoreError, InvalidInput
from ..locks import check_unlocked
from ..names import check_bot_name
from ..repository import RepositoryRequest
from .chains import Retention, chain_of, find_to_restore, list_snapshots, plan_prune
from .history import HISTORIES, adopt_history, pack_history, packed_histories
from .names import parse_file_name, record_name
from .records import SnapshotRecord, timestamp
from .schedule import COPY, begin_run, write_run
from .settings import bot_directories, read_identities, read_recipients, read_settings, settings_path

#: Archives, and their records. Beside packed histories nothing else of the directory leaves the machine.
_ARCHIVES, _RECORDS = "*.age", "*.json"
# What may be fetched of a place that somebody else may have written to: of all records together, and of one history.
_MAX_RECORDS, _MAX_HISTORY = 64 << 20, 1 << 30


@dataclass(frozen=True)
class Offsite:
    """Where copies go.

    :param remote: ``remote:path`` of rclone; each bot has a directory below it.
    :param keep: what stays there.
    :param prune: whether the rest is deleted from here; not where the credentials only let one add files.
    :param history: whether what was approved is copied too: the bot's repository has no remote.
    """

    remote: str
    keep: Retention
    prune: bool
    history: bool


def read_offsite(root: Path, bot: str) -> Offsite | None:
    """What role ``snapshots`` settled; ``None`` if copies are not wanted.

    :raises InvalidInput: the settings are not what the role wrote.
    """
    check_bot_name(bot)
    path = settings_path(root, bot)
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("offsite")
        if not found:
            return None
        keep = Retention(**{field.name: int(found["keep"][field.name]) for field in fields(Retention)})
        # What the role wrote before histories were copied has none.
        return Offsite(str(found["remote"]), keep, bool(found["prune"]), bool(found.get("history", False)))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be used ({error!r}); run: ansible-playbook site.yml -l {bot}") from None


def config_path(root: Path, bot: str) -> Path:
    """rclone's configuration of a bot, 0600."""
    return root / "secrets" / bot / "rclone.conf"


def open_place(root: Path, bot: str, offsite: Offsite, source: str = "") -> Rclone:
    """The directory of a bot at the remote.

    :param bot: whose configuration is used.
    :param source: whose copies; ``bot``'s own if empty.
    """
    check_bot_name(source or bot)
    place = f"{offsite.remote.rstrip('/')}/{source or bot}"
    return Rclone(config_path(root, bot), place, root / "secrets" / bot / "rclone.known_hosts")


def copy_snapshots(place: Rclone, directory: Path) -> None:
    """Copy what is not there yet; archives before the records that speak of them.

    :param directory: ``<clawfactory_root>/snapshots/<bot>``.
    :raises Conflict: the bot is locked.
    :raises CoreError: the remote cannot be used; what was copied stays.
    """
    check_unlocked(directory.parent.parent, directory.name)
    place.upload(directory, [_ARCHIVES])
    place.upload(directory, [_RECORDS])


def copy_noted(root: Path, bot: str) -> list[str]:
    """Copy and prune as settled, and note what it came to.

    :returns: names of the archives that were deleted there.
    :raises CoreError: it failed, which is noted too.
    """
    offsite = read_offsite(root, bot)
    if offsite is None:
        raise InvalidInput(f"{bot}: snapshots_offsite_remote is empty; nothing is to be copied")
    directory = bot_directories(root, bot)[1]
    this = begin_run()
    write_run(root, bot, this, COPY)
    now = datetime.now(timezone.utc)
    try:
        place = open_place(root, bot, offsite)
        copy_snapshots(place, directory)
        origin = _origin(root, bot)
        if offsite.history and (origin / "HEAD").exists():
            pack_history(origin, directory, read_recipients(root, bot, read_settings(root, bot).recipients), now)
            place.upload(directory, [HISTORIES])
        pruned = prune_copies(place, offsite.keep, now) if offsite.prune else []
        this = replace(this, snapshot=next((record.id for record in list_snapshots(directory)), ""))
    except (CoreError, OSError) as error:
        this = replace(this, problem=str(error))
        raise
    finally:
        write_run(root, bot, replace(this, finished=timestamp(datetime.now(timezone.utc))), COPY)
    return pruned


def prune_copies(place: Rclone, keep: Retention, now: datetime) -> list[str]:
    """Delete copies that the retention does not keep, a chain as a whole.

    :returns: names of their archives.
    """
    sizes = place.sizes()
    with _listed(place, sizes) as records:
        going = plan_prune(records, keep, now)
    for record in going:
        place.delete(record.file_name)
        if record.kind != "legacy":
            place.delete(record_name(record.id, record.kind))
    histories = packed_histories(sizes)[: -keep.last or None]
    for name in histories:
        place.delete(name)
    return [record.file_name for record in going] + histories


def fetch_history(root: Path, bot: str, place: Rclone, identities: Sequence[str], owner: int) -> str:
    """Make a bot's repository from the newest copy of what was approved.

    :param owner: user id that the repositories belong to.
    :returns: the commit that is approved now; empty if there is no such copy.
    :raises InvalidInput: there is no private key.
    :raises Conflict: the copy is too large, or there is too little room for it.
    :raises CoreError: as :func:`.history.adopt_history`.
    """
    sizes = place.sizes()
    histories = packed_histories(sizes)
    if not histories:
        return ""
    newest = histories[-1]
    identities = identities or read_identities(root, bot)
    if not identities:
        raise InvalidInput(f"no private key to open {newest} with; add -e restore_key_file=PATH")
    if sizes[newest] > _MAX_HISTORY:
        raise Conflict(f"{newest} has {sizes[newest]} bytes, more than the {_MAX_HISTORY} that a history may have")
    origin = _origin(root, bot)
    request = RepositoryRequest(bot, origin, origin.with_name("approved"), Path(), "", owner)
    with tempfile.TemporaryDirectory(prefix="clawfactory-offsite-") as held:
        # As it is, decrypted, and as the repository that it is checked in; then as the bot's.
        _check_space(Path(held), 3 * sizes[newest], 0)
        _check_space(root, 2 * sizes[newest], read_settings(root, bot).read_limits.min_free_bytes)
        place.download(Path(held), {newest: sizes[newest]})
        return adopt_history(request, Path(held) / newest, identities)


def _origin(root: Path, bot: str) -> Path:
    return root / "bot_repos" / check_bot_name(bot) / "origin.git"


def fetch_chain(place: Rclone, name: str, into: Path, min_free_bytes: int) -> list[str]:
    """Fetch a snapshot with all that it builds upon.

    :param name: as for :func:`.chains.find_to_restore`.
    :param into: directory to make, of root alone; what was there is gone.
    :param min_free_bytes: what must stay free where that is.
    :returns: names of its archives, the full one first.
    :raises InvalidInput: there is no such copy.
    :raises BrokenChain: something that it builds upon is not there.
    :raises Conflict: there is too little room for it.
    """
    sizes = place.sizes()
    with _listed(place, sizes) as records:
        if not records:
            raise InvalidInput(f"{place.place} (snapshots_offsite_remote) has no copy of a snapshot")
        chain = chain_of(records, find_to_restore(records, name))
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o700, parents=True)
    wanted = [record.file_name for record in chain]
    wanted += [record_name(record.id, record.kind) for record in chain if record.kind != "legacy"]
    fetched = {name: sizes[name] for name in wanted if name in sizes}
    _check_space(into, sum(fetched.values()), min_free_bytes)
    place.download(into, fetched)
    return wanted[: len(chain)]


def _check_space(directory: Path, needed: int, min_free_bytes: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed + min_free_bytes:
        raise Conflict(
            f"the copy needs {needed} bytes and {min_free_bytes} are to stay free, but {directory} has {free}; "
            "make room there"
        )


@contextmanager
def _listed(place: Rclone, sizes: Mapping[str, int]) -> Iterator[list[SnapshotRecord]]:
    """What is there, by its records alone: beside them lie files as long as the archives, without their contents.

    :param sizes: as the place tells them.
    """
    found = {name: file for name in sizes if (file := parse_file_name(name))}
    archives = {name: sizes[name] for name in found}
    # By their own names: one of somebody else's making could be a pattern.
    names = {record_name(file.id, file.kind) for file in found.values()}
    records = {name: sizes[name] for name in names & set(sizes)}
    if sum(records.values()) > _MAX_RECORDS:
        raise Conflict(f"{place.place} has more than {_MAX_RECORDS} bytes of records; they are not of our making")
    with tempfile.TemporaryDirectory(prefix="clawfactory-offsite-") as held:
        directory = Path(held)
        if records:
            place.download(directory, records)
        for name, size in archives.items():
            with (directory / name).open("xb") as stub:
                os.truncate(stub.fileno(), size)
        yield list_snapshots(directory)
