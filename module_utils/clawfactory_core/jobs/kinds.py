"""What each kind of job does, in a process of its own, and what refuses it before it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import Conflict, CoreError, InvalidInput
from ..killswitch import record
from ..locks import read_lock
from ..snapshots.chains import list_snapshots
from ..snapshots.records import SnapshotRecord
from ..snapshots.settings import bot_directories, read_settings
from .config_kinds import CONFIG_WORK, settle_config
from .protocol import KINDS, Refusal, Request
from .questions import audit_page, audit_verification, egress_info, memory_info
from .records import JobRecord
from .snapshot_kinds import ON_SNAPSHOTS, SNAPSHOT_WORK, check_snapshot_request
from .work import Report, Work

_HOUR = 3600.0
_DAY = 86400.0
#: Snapshots of a bot that may be deleted in a day.
MAX_DELETIONS = 20
_PATIENCE = 10.0  # seconds
_MAX_DETAIL = 4000
_MAX_WARNINGS = 100


def source_of(request: Request) -> str:
    """Where a job that is asked for comes from."""
    if request.op == "snapshot" and request.fields["actor"] == "agent":
        return "agent"
    return request.fields.get("source", "dashboard")


def check_request(root: Path, bot: str, request: Request, jobs: Iterable[JobRecord]) -> None:
    """See whether a job may be asked for.

    :param jobs: those of the bot that are known.
    :raises Refusal: it may not, now or at all.
    """
    check_unlocked(root, bot)
    if request.op == "snapshot":
        _check_snapshot(root, bot, request, jobs)
    elif request.op in ON_SNAPSHOTS:
        check_snapshot_request(root, bot, request)
        if request.op == "snapshot_delete":
            _check_deletions(bot, jobs)
    elif not (root / "promotion" / bot / "settings.json").is_file():
        raise Refusal(
            409, "Not set up", f"{bot} has no settings for promotions; run: ansible-playbook site.yml -l {bot}"
        )
    delivery = request.fields.get("delivery")
    if delivery is not None and any(job.options.get("delivery") == delivery for job in jobs):
        raise Refusal(409, "Seen before", f"delivery {delivery} was accepted before; a delivery counts once")


def check_unlocked(root: Path, bot: str) -> None:
    """:raises Refusal: 423, the bot is locked."""
    lock = read_lock(root, bot)
    if lock is not None:
        raise Refusal(423, "Locked", lock.refusal)


def throw_lock(root: Path, bot: str, request: Request) -> dict[str, str]:
    """Lock a bot; the guard, whom the lock tells, does the rest. What may do that needs rights this service has not.

    :returns: the lock that is there now.
    :raises OSError: there is none.
    """
    reason = record.printable(" ".join(request.fields.get("reason", "").split()), record.MAX_REASON)
    record.mark(root, record.Record(bot, request.fields["actor"], record.now(), reason, source="dashboard"))
    lock = read_lock(root, bot)
    return lock.to_dict() if lock else {}


def _check_snapshot(root: Path, bot: str, request: Request, jobs: Iterable[JobRecord]) -> None:
    try:
        allowed = read_settings(root, bot).agent_per_hour
    except InvalidInput as error:
        raise Refusal(409, "Not set up", str(error)) from None
    if source_of(request) != "agent":
        return
    if allowed < 1:
        raise Refusal(429, "Not allowed", f"{bot} itself may ask for no snapshots (snapshots_agent_per_hour is 0)")
    # A clock that was set back must not keep the agent from ever asking again, nor let it ask without end.
    ages = [abs(_age(job)) for job in jobs if job.source == "agent"]
    recent = [age for age in ages if age < _HOUR]
    if len(recent) >= allowed:
        wait = max(1, round((_HOUR - max(recent, default=0.0)) / 60))
        raise Refusal(429, "Too many", f"{bot} asks for at most {allowed} snapshots in an hour; ask in {wait} minutes")


def _check_deletions(bot: str, jobs: Iterable[JobRecord]) -> None:
    # Whoever takes the controller over must not be able to delete in one go what the bot would be restored from.
    recent = [job for job in jobs if job.kind == "snapshot_delete" and abs(_age(job)) < _DAY]
    if len(recent) >= MAX_DELETIONS:
        detail = f"{MAX_DELETIONS} snapshots of {bot} were deleted from here within a day; the retention deletes more"
        raise Refusal(429, "Too many", detail)


def _age(job: JobRecord) -> float:
    asked = datetime.strptime(job.asked, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return (datetime.now(timezone.utc) - asked).total_seconds()


def snapshot_entries(root: Path, bot: str) -> list[dict[str, Any]]:
    """The bot's snapshots as answers have them, oldest first."""
    return [_entry(record) for record in reversed(list_snapshots(bot_directories(root, bot)[1]))]


def _entry(record: SnapshotRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "time": record.started,
        "kind": record.kind,
        "size": record.size,
        "label": record.label,
        "parent": record.parent or None,
        "verified": record.verified or None,
        "problem": record.problem,
    }


def do_work(work: Work, report: Report) -> dict[str, Any]:
    """Do it, whatever it takes.

    :returns: the job's result.
    :raises Refusal: it failed, and why.
    """
    try:
        if work.kind in _CHANGES:
            check_unlocked(work.root, work.bot)
        return WORK[work.kind](work, report)
    except Refusal:
        raise
    except InvalidInput as error:
        raise Refusal(422, "Refused", _shortened(error)) from error
    except Conflict as error:
        raise Refusal(409, "Conflict", _shortened(error)) from error
    except (CoreError, OSError) as error:
        raise Refusal(500, "Failed", _shortened(error)) from error


def _shortened(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 1] + "…"


# The libraries behind these (git, docker, pyrage) are for the process that does the work, not for the service.


def _snapshot(work: Work, report: Report) -> dict[str, Any]:
    from ..snapshots.create import apply_snapshot
    from ..snapshots.settings import snapshot_request

    done = apply_snapshot(snapshot_request(work.root, work.bot, label=work.options.get("label", "")), report)
    return {**_entry(done.record), "warnings": done.warnings[:_MAX_WARNINGS]}


def _promotion(work: Work, report: Report) -> dict[str, Any]:
    from ..promotion.apply import apply_promotion
    from ..promotion.plan import PromotionRequest, plan_promotion

    request = PromotionRequest(
        root=work.root,
        bot=work.bot,
        actor=work.actor,
        source=work.source,
        sha=work.options.get("sha", ""),
        proposal=work.options.get("proposal", ""),
        expected=work.options.get("expected_sha", ""),
        delivery=work.options.get("delivery", ""),
        rollback=work.kind == "rollback",
    )
    done = apply_promotion(plan_promotion(request), report)
    if done.result == "restored":
        raise Refusal(422, "Restored", f"{done.from_commit} is live again: {done.reason}"[:_MAX_DETAIL])
    return {
        "result": done.result,
        "from": done.from_commit,
        "to": done.to_commit,
        "reason": done.reason,
        "snapshot": done.snapshot,
        "recreated": done.recreated,
    }


def _deny(work: Work, report: Report) -> dict[str, Any]:
    from ..promotion.decide import deny

    options = work.options
    denial = deny(work.root, work.bot, options["proposal"], options["reason"], actor=work.actor, source=work.source)
    return {"proposal": denial.name, "commit": denial.commit}


def _memory_backup(work: Work, report: Report) -> dict[str, Any]:
    from ..promotion.memory import backup_memory

    done = backup_memory(work.root, work.bot, actor=work.actor)
    return {
        "commit": done.commit,
        "changed": done.changed,
        "files": len(done.files),
        "left_out": len(done.left_out),
    }


def _resume(work: Work, report: Report) -> dict[str, Any]:
    from ..promotion.apply import resume

    # What died may hold the lock for another moment.
    outcome = resume(work.root, work.bot, wait_seconds=_PATIENCE)
    if settle_config(work.root, work.bot, _PATIENCE):
        outcome = "undone"
    return {"outcome": outcome}


def _promotion_info(work: Work, report: Report) -> dict[str, Any]:
    from ..promotion.info import promotion_info

    return promotion_info(work.root, work.bot)


#: What a process of its own can be asked for; the kinds of jobs, and what is never written down.
WORK: dict[str, Callable[[Work, Report], dict[str, Any]]] = {
    "snapshot": _snapshot,
    "promotion": _promotion,
    "rollback": _promotion,
    "deny": _deny,
    "memory_backup": _memory_backup,
    "resume": _resume,
    "promotion_info": _promotion_info,
    "memory_info": memory_info,
    "egress_info": egress_info,
    "audit": audit_page,
    "audit_verify": audit_verification,
    **SNAPSHOT_WORK,
    **CONFIG_WORK,
}
#: Not resume: a lock that is thrown in the middle of a promotion leaves something to be undone.
_CHANGES = frozenset(KINDS)
