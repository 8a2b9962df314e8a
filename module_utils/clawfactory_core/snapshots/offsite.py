"""Copies of a bot's snapshots away from its machine: made, pruned by a retention of their own, and fetched back.

With them goes what was approved, where the machine alone has it (:mod:`.history`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from ..adapters.rclone import Rclone
from ..errors import CoreError, InvalidInput
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
    with _listed(place) as records:
        going = plan_prune(records, keep, now)
    for record in going:
        place.delete(record.file_name)
        if record.kind != "legacy":
            place.delete(record_name(record.id, record.kind))
    histories = packed_histories(place.sizes())[: -keep.last or None]
    for name in histories:
        place.delete(name)
    return [record.file_name for record in going] + histories


def fetch_history(root: Path, bot: str, place: Rclone, identities: Sequence[str], owner: int) -> str:
    """Make a bot's repository from the newest copy of what was approved.

    :param owner: user id that the repositories belong to.
    :returns: the commit that is approved now; empty if there is no such copy.
    :raises InvalidInput: there is no private key.
    :raises CoreError: as :func:`.history.adopt_history`.
    """
    histories = packed_histories(place.sizes())
    if not histories:
        return ""
    identities = identities or read_identities(root, bot)
    if not identities:
        raise InvalidInput(f"no private key to open {histories[-1]} with; add -e restore_key_file=PATH")
    origin = _origin(root, bot)
    request = RepositoryRequest(bot, origin, origin.with_name("approved"), Path(), "", owner)
    with tempfile.TemporaryDirectory(prefix="clawfactory-offsite-") as held:
        place.download(Path(held), [histories[-1]])
        return adopt_history(request, Path(held) / histories[-1], identities)


def _origin(root: Path, bot: str) -> Path:
    return root / "bot_repos" / check_bot_name(bot) / "origin.git"


def fetch_chain(place: Rclone, name: str, into: Path) -> list[str]:
    """Fetch a snapshot with all that it builds upon.

    :param name: as for :func:`.chains.find_to_restore`.
    :param into: directory to make, of root alone; what was there is gone.
    :returns: names of its archives, the full one first.
    :raises InvalidInput: there is no such copy.
    :raises BrokenChain: something that it builds upon is not there.
    """
    with _listed(place) as records:
        if not records:
            raise InvalidInput(f"{place.place} (snapshots_offsite_remote) has no copy of a snapshot")
        chain = chain_of(records, find_to_restore(records, name))
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o700, parents=True)
    wanted = [record.file_name for record in chain]
    wanted += [record_name(record.id, record.kind) for record in chain if record.kind != "legacy"]
    place.download(into, wanted)
    return wanted[: len(chain)]


@contextmanager
def _listed(place: Rclone) -> Iterator[list[SnapshotRecord]]:
    """What is there, by its records alone: beside them lie files as long as the archives, without their contents."""
    sizes = {name: size for name, size in place.sizes().items() if parse_file_name(name)}
    with tempfile.TemporaryDirectory(prefix="clawfactory-offsite-") as held:
        directory = Path(held)
        if sizes:
            place.download(directory, [_RECORDS])
        for name, size in sizes.items():
            with (directory / name).open("xb") as stub:
                os.truncate(stub.fileno(), size)
        yield list_snapshots(directory)
