"""A bot's repository on its machine, and the approved checkout that its gateway reads.

Until something is promoted, approved is the tip of ``main``: of the configured remote, or of an offline repository made
from the template.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from .adapters.git_repo import run_git
from .errors import CoreError
from .files import sync_directory
from .machine import commit
from .workspace import workspace_entries

BRANCH = "main"


@dataclass(frozen=True)
class RepositoryRequest:
    """:param origin: bare repository that is the authority offline.
    :param approved: checkout bound into the gateway.
    :param template: directory to make a new repository from.
    :param remote: URL of the bot's repository; empty works offline.
    :param owner: user and group id of the checkout.
    """

    bot: str
    origin: Path
    approved: Path
    template: Path
    remote: str
    owner: int


@dataclass
class RepositoryPlan:
    """What is missing."""

    request: RepositoryRequest
    make_origin: bool
    make_approved: bool

    @property
    def changed(self) -> bool:
        """Whether anything is missing."""
        return self.make_origin or self.make_approved


def plan_repository(request: RepositoryRequest) -> RepositoryPlan:
    """What is missing; reads only."""
    offline = not request.remote
    return RepositoryPlan(
        request,
        make_origin=offline and not (request.origin / "HEAD").exists(),
        make_approved=not commit(request.approved),
    )


def apply_repository(plan: RepositoryPlan) -> None:
    """Make what is missing, each aside and then renamed.

    :raises CoreError: git fails; what exists is complete.
    """
    request = plan.request
    if plan.make_origin:
        _make_origin(request)
    if plan.make_approved:
        _make_approved(request)


def _make_origin(request: RepositoryRequest) -> None:
    work = _fresh(request.origin.with_name(".template.partial"))
    shutil.copytree(request.template, work, dirs_exist_ok=True)
    placeholder = work / "workspace" / "bot_save"
    if placeholder.is_dir():
        placeholder.rename(work / "workspace" / f"{request.bot}_save")
    _set_access(work, request.owner, public=False)
    uid = request.owner
    run_git(work, "init", "--quiet", "--initial-branch", BRANCH, "--template=", uid=uid)
    run_git(work, "add", "--all", uid=uid)
    run_git(work, "commit", "--quiet", "--message", f"{request.bot}: from the ClawFactory template", uid=uid)
    bare = _fresh(request.origin.with_name(".origin.partial"))
    os.chown(bare, uid, uid)
    run_git(bare, "clone", "--quiet", "--bare", "--template=", str(work), str(bare), uid=uid)
    _finish(bare, request.origin, owner=uid, public=False)
    shutil.rmtree(work)


def _make_approved(request: RepositoryRequest) -> None:
    if request.approved.is_dir() and any(request.approved.iterdir()):
        raise CoreError(f"{request.approved} holds files but no commit; move it away and run again")
    source = request.remote or str(request.origin)
    checkout = _fresh(request.approved.with_name(".approved.partial"))
    os.chown(checkout, request.owner, request.owner)
    clone = ("clone", "--quiet", "--template=", "--no-hardlinks", "--branch", BRANCH, "--", source, str(checkout))
    try:
        run_git(checkout, *clone, uid=request.owner)
        workspace_entries(checkout)
    except CoreError as error:
        shutil.rmtree(checkout, ignore_errors=True)
        text = _without_login(f"cannot make the approved checkout from {source}: {error}", source)
        raise CoreError(f"{request.bot}: {text}") from None  # the cause may show the login
    if request.approved.exists():
        request.approved.rmdir()
    _finish(checkout, request.approved, owner=request.owner, public=True)


def _without_login(text: str, url: str) -> str:
    """``text`` without what stands before the ``@`` in ``url``; git repeats it in some of its messages."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    user, _, password = login.partition(":")
    for piece in (f"{login}@", f"{user}@", password, unquote(password)) if at else ():
        # A shorter password is in ordinary words too.
        text = text.replace(piece, "") if piece.endswith("@") or len(piece) > 3 else text
    return text


def _fresh(path: Path) -> Path:
    """An empty directory; what an interrupted run left is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    return path


def _finish(path: Path, destination: Path, *, owner: int, public: bool) -> None:
    _set_access(path, owner, public=public)
    if (path / ".git").is_dir():
        # The gateway needs the files only, and the remote's address may hold a login.
        os.chmod(path / ".git", 0o700)
    os.replace(path, destination)
    sync_directory(destination.parent)


def _set_access(path: Path, owner: int, *, public: bool) -> None:
    """Give everything to ``owner``, readable by others if ``public``: the gateway has another user."""
    shared = 0o055 if public else 0
    for directory, _, files in os.walk(path):
        os.chown(directory, owner, owner)
        os.chmod(directory, 0o700 | shared)
        for name in files:
            item = Path(directory, name)
            os.chown(item, owner, owner, follow_symlinks=False)
            if not item.is_symlink():
                execute = 0o111 if item.stat().st_mode & 0o100 else 0
                os.chmod(item, (0o644 | execute) & (0o700 | shared))
