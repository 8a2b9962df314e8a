"""What a promotion or a rollback would do; reads only, apart from what it fetches into the bot's own repository."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..adapters.git_repo import run_git
from ..checkout import commit as commit_of
from ..errors import Conflict, InvalidInput
from ..workspace import workspace_entries
from . import repository
from .bundles import fetch_bundle
from .gateway import GatewayControl
from .journal import read_journal
from .names import FETCHED, check_proposal_name, check_sha
from .records import SOURCES, HistoryEntry, read_denials, read_history, was_approved
from .recovery import resume
from .state import BotPromotion, load, refuse_locked
from .tree_rules import TreeEntry, TreeLimits, check_tree, read_tree

_MAX_ACTOR = 100
_SHOWN = 10
#: Sources that hear of merges later than they happen, perhaps in another order.
_LATE = ("webhook", "polling")


@dataclass(frozen=True)
class PromotionRequest:
    """What somebody decided.

    :param root: clawfactory_root.
    :param actor: who, for history and audit.
    :param source: one of :data:`.records.SOURCES`.
    :param sha: commit to promote; empty for the newest of the branch. For a rollback: empty for the one before.
    :param proposal: name of a proposal (without ``proposal/``) to merge first.
    :param expected: commit that the proposal must be at; empty for whatever it is at.
    :param bundle: Git bundle with a commit of the operator's own as its ``HEAD``, which becomes the tip of ``main``.
    :param delivery: number of the webhook's delivery; one that was seen before is refused.
    :param rollback: go back to a commit that was approved before.
    :param check: only to look; what an interrupted promotion left stays as it is.
    :param wait_seconds: for another promotion of the bot to end.
    """

    root: Path
    bot: str
    actor: str
    source: str
    sha: str = ""
    proposal: str = ""
    expected: str = ""
    bundle: Path | None = None
    delivery: str = ""
    rollback: bool = False
    check: bool = False
    wait_seconds: float = 30.0


@dataclass(frozen=True)
class PromotionPlan:
    """What would be done.

    :param current: commit that is approved.
    :param target: what it is to become; for a proposal the tree that the merge would have.
    :param proposal_commit: where the proposal is that would be merged first, empty without.
    :param entries: ``{name, kind}`` of the new tree's top-level workspace entries.
    :param added: names of entries that come, ``removed`` of those that go.
    :param recreate: the set of entries changes, so the gateway has to be made anew.
    """

    request: PromotionRequest
    bot: BotPromotion
    current: str
    target: str
    proposal_commit: str
    entries: tuple[dict[str, str], ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    recreate: bool

    @property
    def changed(self) -> bool:
        """Whether anything would be done."""
        return self.current != self.target

    @cached_property
    def statistics(self) -> dict[str, int]:
        """``{files, added, removed}``, numbers of files and lines.

        :raises CoreError: git cannot tell.
        """
        if not self.changed:
            return {"files": 0, "added": 0, "removed": 0}
        options = ("--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "-z")
        listed = run_git(self.bot.origin, "diff", *options, self.current, self.target, "--", uid=self.bot.uid)
        rows = [row.split("\t") for row in listed.split("\0") if row]
        return {
            "files": len(rows),
            "added": sum(int(row[0]) for row in rows if row[0] != "-"),
            "removed": sum(int(row[1]) for row in rows if row[1] != "-"),
        }

    @cached_property
    def diff(self) -> str:
        """The change as git shows it, cut at a bound; looked up when it is asked for.

        :raises CoreError: git cannot tell.
        """
        return repository.diff(self.bot.origin, self.bot.uid, self.current, self.target) if self.changed else ""

    def to_dict(self) -> dict[str, Any]:
        """For an answer: plain data, without the diff."""
        return {
            "current": self.current,
            "target": self.target,
            "proposal_commit": self.proposal_commit,
            "changed": self.changed,
            "added": list(self.added),
            "removed": list(self.removed),
            "recreate": self.recreate,
            "statistics": dict(self.statistics),
        }


def plan_promotion(request: PromotionRequest, gateway: GatewayControl | None = None) -> PromotionPlan:
    """What a promotion, or a rollback, would do. What an interrupted one left is brought to its end first.

    :param gateway: ``None`` for the bot's container on this machine's engine.
    :raises InvalidInput: a value is refused, or the commit is not in the repository, not on its branch, or has a tree
        that may not be approved.
    :raises Conflict: the bot is locked, approved is not as it was promoted, the proposal is denied, is at another
        commit than expected or conflicts, or the delivery was seen before.
    :raises CoreError: the repository or the remote cannot be read.
    """
    bot = load(request.root, request.bot)
    _check_request(bot, request)
    _settle(bot, request, gateway)
    if request.rollback:
        # The way out where somebody changed the approved tree.
        current = commit_of(bot.approved)
        return compare(request, bot, current, _earlier(bot, request.sha, current))
    with ThreadPoolExecutor(1) as beside:
        # What the remote or the bot has is fetched while the approved tree is looked at.
        checked = beside.submit(check_approved, bot)
        try:
            proposal_commit, target = _wanted(bot, request)
        finally:
            current = checked.result()
    late = request.source in _LATE and target != current
    if late and _is_settled(bot, request, target, current):
        target = current
    return compare(request, bot, current, target, proposal_commit)


def compare(
    request: PromotionRequest, bot: BotPromotion, current: str, target: str, proposal_commit: str = ""
) -> PromotionPlan:
    """The plan of going from one commit to another.

    :raises InvalidInput: the target's tree may not be approved.
    """
    before = workspace_entries(bot.approved)
    after = before if current == target else entries_of(_checked_tree(bot, target))
    known = {(entry["name"], entry["kind"]) for entry in before}
    wanted = {(entry["name"], entry["kind"]) for entry in after}
    return PromotionPlan(
        request,
        bot,
        current,
        target,
        proposal_commit,
        entries=tuple(after),
        added=tuple(sorted(name for name, _ in wanted - known)),
        removed=tuple(sorted(name for name, _ in known - wanted)),
        recreate=known != wanted,
    )


def check_approved(bot: BotPromotion) -> str:
    """The commit that is approved, if its tree is as it was promoted.

    :raises Conflict: it is not, or the repository does not know it.
    """
    current = commit_of(bot.approved)
    if not current:
        raise Conflict(f"{bot.approved} is no checkout; run: ansible-playbook site.yml -l {bot.bot}")
    if not repository.contains(bot.origin, bot.uid, current):
        raise Conflict(
            f"{bot.approved} is at {current}, which is not on the branch in {bot.origin}; see who put it there, "
            "and name a commit that was approved before to playbooks/rollback.yml"
        )
    changed = drift(bot)
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise Conflict(
            f"{bot.approved} is not as it was promoted: {', '.join(changed[:_SHOWN])}{more}; see who changed it, and "
            f"undo it with: git -C {bot.approved} reset --hard, and git clean -xd"
        )
    return current


def drift(bot: BotPromotion) -> list[str]:
    """Paths of the approved tree that are not as they were promoted.

    :raises CoreError: git cannot tell.
    """
    options = (
        "--no-optional-locks",
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=all",
        "--ignored=traditional",
    )
    listed = run_git(bot.approved, *options, "--no-renames", uid=bot.uid)
    return sorted(entry[3:] for entry in listed.split("\0") if len(entry) > 3)


def limits_of(bot: BotPromotion) -> TreeLimits:
    """Limits of a tree, as the role settled them.

    :raises InvalidInput: it names one that does not exist.
    """
    try:
        return TreeLimits(**bot.settings.limits)
    except TypeError as error:
        raise InvalidInput(f"{bot.bot}: promotion_limits: {error}; correct it and run site.yml -l {bot.bot}") from error


def entries_of(tree: list[TreeEntry]) -> list[dict[str, str]]:
    """Top-level entries of the workspace, as :func:`..workspace.workspace_entries` finds them in a checkout."""
    found = []
    for entry in tree:
        parts = entry.path.split(b"/")
        if len(parts) == 2 and parts[0] == b"workspace":
            kind = "directory" if entry.kind == "tree" else "file"
            found.append({"name": parts[1].decode(), "kind": kind})
    return sorted(found, key=lambda entry: entry["name"])


def _checked_tree(bot: BotPromotion, target: str) -> list[TreeEntry]:
    tree = read_tree(bot.origin, target, bot.uid)
    problems = check_tree(tree, limits_of(bot))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
        raise InvalidInput(f"{target} may not be approved: {shown}{more}; correct it in a new commit")
    return tree


def _check_request(bot: BotPromotion, request: PromotionRequest) -> None:
    if request.source not in SOURCES:
        raise InvalidInput(f"source {request.source!r} is unknown; known are {', '.join(SOURCES)}")
    if not request.actor or len(request.actor) > _MAX_ACTOR or not request.actor.isprintable():
        raise InvalidInput(
            f"actor {request.actor[:_MAX_ACTOR]!r} is no name; give 1 to {_MAX_ACTOR} printable characters"
        )
    if sum((bool(request.proposal), bool(request.sha or request.rollback), request.bundle is not None)) > 1:
        raise InvalidInput("a proposal, a commit or a rollback, and a commit of your own exclude each other; name one")
    for sha in (request.sha, request.expected):
        if sha:
            check_sha(sha)
    refuse_locked(bot)
    if request.delivery and any(entry.delivery == request.delivery for entry in read_history(bot)):
        raise Conflict(f"delivery {request.delivery} was seen before; nothing is done a second time")


def _settle(bot: BotPromotion, request: PromotionRequest, gateway: GatewayControl | None) -> None:
    journal = read_journal(bot)
    if journal is not None and request.check:
        raise Conflict(
            f"a promotion of {bot.bot} to {journal.to_commit} goes on, or was interrupted ({journal.phase}); wait for "
            "it, or run without --check, which brings it to its end first"
        )
    if journal is not None:
        resume(request.root, request.bot, gateway, wait_seconds=request.wait_seconds)


def _wanted(bot: BotPromotion, request: PromotionRequest) -> tuple[str, str]:
    """Commit of the proposal, empty without one, and what is to be approved."""
    if request.proposal:
        return _merged(bot, request)
    return "", _brought(bot, request.bundle) if request.bundle else _newest(bot, request)


def _brought(bot: BotPromotion, bundle: Path) -> str:
    """The operator's own commit, which has to follow on ``main``."""
    if bot.settings.remote.url:
        raise Conflict(
            f"{bot.bot} has a remote, which is the authority; push to {bot.settings.remote.branch} there instead"
        )
    commit = fetch_bundle(bot.origin, bot.uid, bundle)
    main = repository.main_commit(bot.origin, bot.uid)
    if not repository.is_ancestor(bot.origin, bot.uid, main, commit) and not repository.on_main_line(
        bot.origin, bot.uid, commit
    ):
        raise Conflict(
            f"{commit} does not follow on main, which is at {main}; fetch that with playbooks/clone.yml, rebase on "
            "machine/main, and try again"
        )
    return commit


def _newest(bot: BotPromotion, request: PromotionRequest) -> str:
    known = bool(request.sha) and repository.on_main_line(bot.origin, bot.uid, request.sha)
    if known:
        return request.sha
    if bot.settings.remote.url:
        main = repository.fetch_remote(bot.origin, bot.uid, bot.remote)
    else:
        main = repository.main_commit(bot.origin, bot.uid)
    if request.sha not in ("", main) and not repository.on_main_line(bot.origin, bot.uid, request.sha):
        where = f"branch {bot.settings.remote.branch} of the remote" if bot.settings.remote.url else "main"
        raise InvalidInput(f"commit {request.sha} is not on {where}; merge it there first, or name another one")
    return request.sha or main


def _is_settled(bot: BotPromotion, request: PromotionRequest, target: str, current: str) -> bool:
    """Whether what a source that comes late, or again and again, asks for was decided already.

    :raises Conflict: it was decided otherwise, and somebody should hear of it.
    """
    if _is_behind(bot, target, current):
        return True
    undone = next((entry for entry in read_history(bot) if _undid(entry, target)), None)
    if undone is not None and request.source == "webhook":
        how = f"was rolled back by {undone.actor}" if undone.rollback else "did not stay"
        raise Conflict(f"{target} {how} at {undone.time}; promote it by the dashboard or playbooks/promote.yml")
    return undone is not None


def _undid(entry: HistoryEntry, commit: str) -> bool:
    if entry.rollback:
        return entry.from_commit == commit and entry.result == "promoted"
    return entry.to_commit == commit and entry.result == "restored"


def _is_behind(bot: BotPromotion, target: str, current: str) -> bool:
    return run_git(bot.origin, "rev-list", "--max-count=1", f"{current}..{target}", "--", uid=bot.uid).strip() == ""


def _earlier(bot: BotPromotion, sha: str, current: str) -> str:
    if not sha:
        done = (entry for entry in read_history(bot) if entry.result == "promoted" and not entry.rollback)
        sha = next((entry.from_commit for entry in done if entry.to_commit == current), "")
        if not sha:
            raise InvalidInput(f"{bot.bot}: nothing was approved before {current}; name a commit that was")
    if not was_approved(bot, sha):
        raise InvalidInput(f"commit {sha} was never approved for {bot.bot}; promote it, or name one of its history")
    return repository.resolve_commit(bot.origin, bot.uid, sha)


def _merged(bot: BotPromotion, request: PromotionRequest) -> tuple[str, str]:
    """Commit of the proposal, and the tree that its merge would have."""
    name = check_proposal_name(request.proposal)
    if bot.settings.remote.url:
        raise Conflict(
            f"{bot.bot} has a remote, which is the authority; merge proposal/{name} into {bot.settings.remote.branch} "
            "there, and promote that"
        )
    if name in read_denials(bot):
        raise Conflict(f"proposal/{name} is denied ({read_denials(bot)[name].reason}); reopen it first")
    found = repository.fetch_proposals(bot.origin, bot.proposals, bot.uid)
    if name not in found:
        raise InvalidInput(f"{bot.bot} has no proposal/{name}; it has {', '.join(sorted(found)) or 'none'}")
    commit = repository.resolve_commit(bot.origin, bot.uid, FETCHED + name)
    if request.expected and commit != request.expected:
        raise Conflict(f"proposal/{name} is at {commit} now, not at {request.expected}; look at it again")
    main = repository.main_commit(bot.origin, bot.uid)
    if repository.contains(bot.origin, bot.uid, commit):
        return commit, main
    return commit, repository.merge_trees(bot.origin, bot.uid, name, main, commit)
