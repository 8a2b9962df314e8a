"""Jobs on snapshots that are there: verify, restore, rename, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import Conflict, CoreError, InvalidInput
from ..snapshots.settings import read_identities, read_settings
from .protocol import Refusal, Request
from .work import Report, Work

ON_SNAPSHOTS = ("snapshot_verify", "snapshot_restore", "snapshot_rename", "snapshot_delete")
_MAX_DETAIL = 4000


def check_snapshot_request(root: Path, bot: str, request: Request) -> None:
    """:raises Refusal: 409, snapshots are not set up, or the key that it needs is not on this machine."""
    try:
        read_settings(root, bot)
        identities = read_identities(root, bot)
    except InvalidInput as error:
        raise Refusal(409, "Not set up", str(error)) from None
    if identities:
        return
    name = request.fields["snapshot"]
    playbook = {
        "snapshot_restore": f"playbooks/restore.yml -l {bot} -e restore_name={name} -e restore_key_file=PATH",
        "snapshot_contents": f"playbooks/restore.yml -l {bot} -e restore_name={name} -e restore_key_file=PATH "
        """-e '{"restore_paths": ["workspace"], "restore_destination": "DIRECTORY"}'""",
        "snapshot_verify": f"playbooks/snapshots.yml -l {bot} -e snapshots_verify=content -e snapshots_name={name} "
        "-e snapshots_key_file=PATH",
    }.get(request.op)
    if playbook and request.fields.get("how") != "digest":
        detail = f"the private age key of {bot} is not on this machine; where it is, run: ansible-playbook {playbook}"
        raise Refusal(409, "No key here", detail)


def _verify(work: Work, report: Report) -> dict[str, Any]:
    from ..snapshots.chains import find, list_snapshots
    from ..snapshots.settings import bot_directories
    from ..snapshots.verify import verify_snapshot

    state, directory = bot_directories(work.root, work.bot)
    settings = read_settings(work.root, work.bot)
    how = work.options["how"]
    found = verify_snapshot(
        directory,
        find(list_snapshots(directory), work.options["snapshot"]),
        read_identities(work.root, work.bot) or None,
        content=how == "content",
        staging=state.parent,
        owner=settings.controller_uid,
        limits=settings.read_limits,
        progress=report,
    )
    if not found.ok:
        raise Refusal(422, "Does not pass", found.problem[:_MAX_DETAIL])
    return {"snapshot": work.options["snapshot"], "how": how, "checks": len(found.checks)}


def _contents(work: Work, report: Report) -> dict[str, Any]:
    """A question, not a job: its answer is written down nowhere."""
    from ..snapshots.chains import chain_of, find, list_snapshots
    from ..snapshots.digests import unescape_path
    from ..snapshots.settings import bot_directories
    from ..snapshots.verify import unpacked_aside

    name, path = work.options["snapshot"], work.options.get("path", "")
    check_snapshot_request(work.root, work.bot, Request("snapshot_contents", {"snapshot": name}))
    state, directory = bot_directories(work.root, work.bot)
    records = list_snapshots(directory)
    chain = chain_of(records, find(records, name))
    limits = read_settings(work.root, work.bot).read_limits
    identities, wanted = read_identities(work.root, work.bot), unescape_path(path) if path else b""
    try:
        with unpacked_aside(directory, chain, identities, state.parent, limits, report, wanted) as aside:
            found = aside.unpacked
    except (Conflict, InvalidInput):
        raise
    except CoreError as error:
        raise Refusal(422, "Does not pass", str(error)[:_MAX_DETAIL]) from error
    return {"path": path, "count": found.count, "bytes": found.bytes, "listing": found.listing}


def _restore(work: Work, report: Report) -> dict[str, Any]:
    from ..snapshots.live_restore import restore_live

    before = restore_live(work.root, work.bot, work.options["snapshot"], actor=work.actor, report=report)
    return {"snapshot": work.options["snapshot"], "before": before}


def _rename(work: Work, _report: Report) -> dict[str, Any]:
    from ..snapshots.maintain import rename_snapshot

    rename_snapshot(work.root, work.bot, work.options["snapshot"], work.options["new_label"], actor=work.actor)
    return {"snapshot": work.options["snapshot"], "label": work.options["new_label"]}


def _delete(work: Work, _report: Report) -> dict[str, Any]:
    from ..snapshots.maintain import delete_snapshot

    delete_snapshot(work.root, work.bot, work.options["snapshot"], actor=work.actor)
    return {"snapshot": work.options["snapshot"]}


SNAPSHOT_WORK: dict[str, Callable[[Work, Report], dict[str, Any]]] = {
    "snapshot_contents": _contents,
    "snapshot_verify": _verify,
    "snapshot_restore": _restore,
    "snapshot_rename": _rename,
    "snapshot_delete": _delete,
}
