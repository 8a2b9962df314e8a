"""A bot's repositories on its machine, and the approved checkout that its gateway reads.

``origin.git`` is the authority: made from the template offline, else a copy of the remote's branch. The bot's pushes
come into ``proposals.git``. Until something is promoted, approved is the tip of ``main``.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .adapters.git_repo import run_git
from .checkout import commit
from .errors import CoreError, InvalidInput
from .files import sync_directory
from .promotion.checkouts import checkout
from .promotion.repository import MAIN, Remote, fetch_remote, main_commit
from .promotion.tree_rules import check_tree, read_tree

BRANCH = "main"
_SHOWN = 5


@dataclass(frozen=True)
class RepositoryRequest:
    """:param origin: bare repository that is the authority.
    :param approved: checkout bound into the gateway.
    :param template: directory to make a new repository from.
    :param remote: URL of the bot's repository, perhaps with a login; empty works offline.
    :param owner: user and group id of the repositories and the checkout.
    :param branch: branch of the remote that is the authority.
    :param user: name for the remote.
    :param token: password for the remote.
    :param keys: directory of what ssh needs, with an SSH address.
    """

    bot: str
    origin: Path
    approved: Path
    template: Path
    remote: str
    owner: int
    branch: str = BRANCH
    user: str = ""
    token: str = field(default="", repr=False)
    keys: Path | None = None

    @property
    def proposals(self) -> Path:
        """Bare repository that the bot's pushes come into, beside :attr:`origin` whose objects it borrows."""
        return self.origin.with_name("proposals.git")


@dataclass
class RepositoryPlan:
    """What is missing."""

    request: RepositoryRequest
    make_origin: bool
    make_proposals: bool
    make_approved: bool

    @property
    def changed(self) -> bool:
        """Whether anything is missing."""
        return self.make_origin or self.make_proposals or self.make_approved

    @property
    def needs_template(self) -> bool:
        """Whether the template is what a repository is made from."""
        return self.make_origin and not self.request.remote


def plan_repository(request: RepositoryRequest) -> RepositoryPlan:
    """What is missing; reads only."""
    return RepositoryPlan(
        request,
        make_origin=not (request.origin / "HEAD").exists(),
        make_proposals=not (request.proposals / "HEAD").exists(),
        make_approved=not commit(request.approved),
    )


def apply_repository(plan: RepositoryPlan) -> None:
    """Make what is missing, each aside and then renamed.

    :raises CoreError: git fails; what exists is complete.
    """
    request = plan.request
    if plan.make_origin:
        if request.remote:
            _copy_remote(request)
        else:
            _make_origin(request)
    if plan.make_proposals:
        _make_proposals(request)
    if plan.make_approved:
        _make_approved(request)


def adopt_repository(request: RepositoryRequest, source: Path) -> None:
    """Make what is missing from a bare repository: its ``main`` is the authority, every other branch a proposal.

    :param source: readable by the owner; its configuration and hooks must be ours.
    :raises CoreError: git fails; what exists is complete.
    """
    uid = request.owner
    fetch = ("fetch", "--quiet", "--no-write-fetch-head", "--", str(source))
    if not (request.origin / "HEAD").exists():
        bare = _bare(request.origin.with_name(".origin.partial"), uid)
        run_git(bare, *fetch, f"{MAIN}:{MAIN}", uid=uid)
        _check(bare, uid, main_commit(bare, uid))
        _finish(bare, request.origin, owner=uid)
    if not (request.proposals / "HEAD").exists():
        _make_proposals(request)
    branches = run_git(source, "for-each-ref", "--format=%(refname)", "refs/heads", uid=uid).split()
    others = [f"{branch}:{branch}" for branch in branches if branch != MAIN]
    if others:
        run_git(request.proposals, *fetch, *others, uid=uid)


def _make_origin(request: RepositoryRequest) -> None:
    work = _fresh(request.origin.with_name(".template.partial"))
    shutil.copytree(request.template, work, symlinks=True, dirs_exist_ok=True)
    placeholder = work / "workspace" / "bot_save"
    if placeholder.is_dir():
        placeholder.rename(work / "workspace" / f"{request.bot}_save")
    _set_access(work, request.owner)
    uid = request.owner
    run_git(work, "init", "--quiet", "--initial-branch", BRANCH, "--template=", uid=uid)
    run_git(work, "add", "--all", uid=uid)
    run_git(work, "commit", "--quiet", "--message", f"{request.bot}: from the ClawFactory template", uid=uid)
    bare = _bare(request.origin.with_name(".origin.partial"), uid)
    run_git(bare, "fetch", "--quiet", "--no-write-fetch-head", "--", str(work), f"{MAIN}:{MAIN}", uid=uid)
    _finish(bare, request.origin, owner=uid)
    shutil.rmtree(work)


def _copy_remote(request: RepositoryRequest) -> None:
    """Copy the remote's branch, or where a checkout of it is approved already, that one's history."""
    uid = request.owner
    bare = _bare(request.origin.with_name(".origin.partial"), uid)
    try:
        approved = commit(request.approved)
        if approved:
            # Made before origin.git was kept with a remote; the next promotion fetches what is newer.
            source = ("--", str(request.approved), f"{approved}:{MAIN}")
            run_git(bare, "fetch", "--quiet", "--no-write-fetch-head", *source, uid=uid)
        else:
            remote = Remote(request.remote, request.branch, request.user, request.token, request.keys)
            _check(bare, uid, fetch_remote(bare, uid, remote))
    except CoreError as error:
        shutil.rmtree(bare, ignore_errors=True)
        # The cause may show the login.
        raise CoreError(f"{request.bot}: cannot make {request.origin.name} from the remote: {error}") from None
    _finish(bare, request.origin, owner=uid)


def _make_proposals(request: RepositoryRequest) -> None:
    """An empty repository that borrows what ``origin.git`` has, by a path that is the same in the controller."""
    bare = _bare(request.proposals.with_name(".proposals.partial"), request.owner)
    (bare / "objects" / "info").mkdir(exist_ok=True)
    borrowed = os.path.relpath(request.origin / "objects", request.proposals / "objects")
    (bare / "objects" / "info" / "alternates").write_text(f"{borrowed}\n", encoding="utf-8")
    _finish(bare, request.proposals, owner=request.owner)


def _make_approved(request: RepositoryRequest) -> None:
    if request.approved.is_dir() and any(request.approved.iterdir()):
        raise CoreError(f"{request.approved} holds files but no commit; move it away and run again")
    uid = request.owner
    tip = main_commit(request.origin, uid)
    try:
        _check(request.origin, uid, tip)
        if request.approved.exists():
            request.approved.rmdir()
        checkout(request.origin, uid, tip, request.approved)
    except CoreError as error:
        raise CoreError(f"{request.bot}: cannot make the approved checkout: {error}") from error


def _check(repository: Path, uid: int, tip: str) -> None:
    """:raises InvalidInput: the tree of a commit may not be approved."""
    problems = [str(problem) for problem in check_tree(read_tree(repository, tip, uid))]
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise InvalidInput(f"commit {tip} may not be approved: {'; '.join(problems[:_SHOWN])}{more}")


def _bare(path: Path, uid: int) -> Path:
    """A new bare repository, on ``main``, without hooks."""
    _fresh(path)
    os.chown(path, uid, uid)
    run_git(path, "init", "--quiet", "--bare", "--initial-branch", BRANCH, "--template=", uid=uid)
    return path


def _fresh(path: Path) -> Path:
    """An empty directory; what an interrupted run left is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    return path


def _finish(path: Path, destination: Path, *, owner: int) -> None:
    _set_access(path, owner)
    os.replace(path, destination)
    sync_directory(destination.parent)


def _set_access(path: Path, owner: int) -> None:
    """Give everything to ``owner`` alone."""
    for directory, _, files in os.walk(path):
        os.chown(directory, owner, owner)
        os.chmod(directory, 0o700)
        for name in files:
            item = Path(directory, name)
            os.chown(item, owner, owner, follow_symlinks=False)
            if not item.is_symlink():
                os.chmod(item, 0o700 if item.stat().st_mode & 0o100 else 0o600)
