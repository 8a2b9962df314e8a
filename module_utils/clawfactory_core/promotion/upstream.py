"""Brings a bot's own fork of OpenClaw up to date: a merge on a branch of the fork, which is only proposed.

Both repositories are fetched into ``upstream.git`` beside the bot's own, which is kept, since they are large.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from ..adapters.git_repo import GitCall, call_git, run_git
from ..errors import CoreError, InvalidInput
from . import repository
from .events import audit
from .remotes import CHECKED, Remote, check_branch, fetch_branch, open_remote
from .ssh import is_ssh, parse_ssh
from .state import BotPromotion, load, promotion_lock, refuse_locked

_VERSION = re.compile(r"v?[0-9]+(?:\.[0-9]+){1,3}")
_SECONDS = 1800.0


@dataclass(frozen=True)
class UpstreamRequest:
    """What is merged into what.

    :param root: clawfactory_root.
    :param fork: URL of the bot's own OpenClaw; a login in it is used, else the bot's token if it is on the same host.
    :param branch: of the fork.
    :param upstream: URL to update from, without a login.
    :param version: tag there; empty for the newest.
    :param check: do all but the push.
    """

    root: Path
    bot: str
    actor: str
    fork: str = field(repr=False)
    branch: str
    upstream: str
    version: str = ""
    check: bool = False


@dataclass(frozen=True)
class UpstreamResult:
    """What is proposed.

    :param version: tag that was merged.
    :param branch: of the fork that it is proposed on.
    :param commit: the merge; in check mode its would-be tree; the fork's own if it has that version already.
    :param changed: whether there was anything to propose.
    :param files: number of files that differ from the fork.
    """

    version: str
    branch: str
    commit: str
    changed: bool
    files: int


def propose_upstream(request: UpstreamRequest) -> UpstreamResult:
    """Merge a version of upstream on the branch ``proposal/upstream-<version>`` of the fork.

    :raises InvalidInput: a value is refused, or upstream has no such tag.
    :raises Conflict: files conflict (they are named), or the bot is locked; nothing was changed.
    :raises CoreError: one of the two cannot be reached, or refuses.
    """
    bot = load(request.root, request.bot)
    refuse_locked(bot)
    check_branch(request.branch)
    if not request.fork:
        raise InvalidInput(f"{request.bot} has no fork; set gateway_fork_repository")
    fork = _with_login(Remote(request.fork, request.branch), bot)
    with promotion_lock(bot, f"an update from upstream by {request.actor}"):
        work = _work_repository(bot)
        version = request.version or _newest(work, bot.uid, request.upstream)
        if not _VERSION.fullmatch(version):
            raise InvalidInput(f"version {version!r} is no tag of a version; use one such as v2026.9.6")
        return _propose(request, bot, work, fork, version)


def _propose(request: UpstreamRequest, bot: BotPromotion, work: Path, fork: Remote, version: str) -> UpstreamResult:
    name = f"upstream-{version.removeprefix('v')}"
    branch = f"proposal/{name}"
    theirs = _fetch_tag(work, bot.uid, request.upstream, version)
    ours = fetch_branch(work, bot.uid, fork, request.branch)
    if not ours:
        raise InvalidInput(f"the fork has no branch {request.branch}; correct promotion_upstream_branch")
    if _holds(work, bot.uid, ours, theirs):
        return UpstreamResult(version, request.branch, ours, False, 0)
    proposed = fetch_branch(work, bot.uid, fork, branch)
    if proposed and _holds(work, bot.uid, proposed, theirs) and _holds(work, bot.uid, proposed, ours):
        return UpstreamResult(version, branch, proposed, False, _differing(work, bot.uid, ours, proposed))
    tree = repository.merge_trees(work, bot.uid, name, ours, theirs)
    files = _differing(work, bot.uid, ours, tree)
    if request.check:
        return UpstreamResult(version, branch, tree, True, files)
    # An earlier proposal becomes a parent: a branch moves forward only, at the fork too.
    parents = [word for parent in (ours, theirs, proposed) if parent for word in ("-p", parent)]
    message = f"Update to OpenClaw {version}\n\nAsked for by {request.actor}\n"
    made = call_git(work, GitCall(bot.uid, stdin=message.encode()), "commit-tree", tree, *parents, "-F", "-")
    commit = made.output.decode().strip()
    repository.push_branch(work, bot.uid, fork, commit, branch)
    said = {"actor": request.actor, "version": version, "branch": branch, "commit": commit}
    audit(bot, "upstream.proposed", said)
    return UpstreamResult(version, branch, commit, True, files)


def _work_repository(bot: BotPromotion) -> Path:
    path = bot.repositories / "upstream.git"
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True)
        os.chown(path, bot.uid, bot.uid if os.geteuid() == 0 else -1)
    if not (path / "HEAD").exists():
        run_git(path, "init", "--quiet", "--bare", "--initial-branch", "main", "--template=", uid=bot.uid)
    return path


def _newest(work: Path, uid: int, upstream: str) -> str:
    access = open_remote(Remote(upstream))
    call = GitCall(uid, environment=access.environment, settings=access.settings)
    listed = call_git(work, call, "ls-remote", "--quiet", "--tags", "--refs", "--", access.url).output
    tags = (line.rpartition("refs/tags/")[2] for line in listed.decode("utf-8", "replace").splitlines())
    versions = [tag for tag in tags if _VERSION.fullmatch(tag)]
    if not versions:
        raise InvalidInput(f"{access.url} has no tag of a version; name one with -e upstream_version=…")
    return max(versions, key=lambda tag: [int(number) for number in tag.removeprefix("v").split(".")])


def _fetch_tag(work: Path, uid: int, upstream: str, version: str) -> str:
    access = open_remote(Remote(upstream))
    kept = f"refs/upstream/{version}"
    settings = (*CHECKED, *access.settings)
    call = GitCall(uid, environment=access.environment, settings=settings, timeout=_SECONDS)
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    try:
        call_git(work, call, "fetch", *options, "--", access.url, f"+refs/tags/{version}:{kept}")
    except CoreError as error:
        raise CoreError(f"{version} of {access.url} cannot be fetched: {error}") from error
    return run_git(work, "rev-parse", "--verify", "--end-of-options", f"{kept}^{{commit}}", uid=uid)


def _holds(work: Path, uid: int, commit: str, other: str) -> bool:
    call = GitCall(uid, answers=(0, 1))
    return call_git(work, call, "merge-base", "--is-ancestor", other, commit).code == 0


def _differing(work: Path, uid: int, before: str, after: str) -> int:
    listed = run_git(work, "diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after, "--", uid=uid)
    return sum(1 for path in listed.split("\0") if path)


def _with_login(fork: Remote, bot: BotPromotion) -> Remote:
    """The fork with the bot's own token or key, if that goes to the same server anyway."""
    if is_ssh(fork.url):
        same = is_ssh(bot.remote.url) and parse_ssh(fork.url) == parse_ssh(bot.remote.url)
        return replace(fork, keys=bot.remote.keys) if same else fork
    address, remote = urlsplit(fork.url), bot.remote
    own = urlsplit(remote.url)
    same = address.scheme == "https" and (address.scheme, address.hostname) == (own.scheme, own.hostname)
    if same and not address.username and remote.token:
        return replace(fork, user=remote.user, token=remote.token)
    return fork
