"""Takes over a bot of the original ClawFactory, the shell scripts: its state, secrets, key, snapshots and repository.

The original's directory is only read. What it holds is data of a bot that may be hostile: no link is followed, only
plain files are opened, and git sees neither configuration nor hooks of its clone. What the bot has here already stays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .adapters.git_repo import run_git
from .errors import Conflict, InvalidInput
from .files import sync_directory, write_atomic
from .names import check_bot_name
from .repository import RepositoryRequest, adopt_repository
from .secrets import read_env
from .snapshots.keys import write_new
from .snapshots.names import parse_file_name
from .tokens import token_problem

#: In the directory of the bot; holds where it came from.
RECORD = "taken-over.json"
#: Of the original's ``state/``: installed anew at the bot's start.
_REBUILT = frozenset({"installed"})
_IDENTITY = re.compile(r"^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}$", re.MULTILINE)
_SHELL_LINE = re.compile(r"(?P<name>\w+)=(?P<quote>[\"']?)(?P<value>[^\"'\s]*)(?P=quote)")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WEBHOOK = {"GITHUB_WEBHOOK_SECRET": "CONTROLLER_WEBHOOK_SECRET"}
#: Of a repository, all that holds objects and branches; configuration, hooks and alternates stay behind.
_GIT_DATA = ("HEAD", "packed-refs", "objects", "refs")
_LEFT_BY_GIT = ("objects/info/alternates", "objects/info/http-alternates")

#: Returns the recipient of an age identity; see ``adapters.age``.
RecipientOf = Callable[[str], str]


@dataclass(frozen=True)
class TakeoverRequest:
    """:param source: directory of the original, the one that holds ``bot_repos``.
    :param bot: name there and here.
    :param paths: of the bot here, as :func:`.allocation.describe` gives them.
    :param mounts: directories on the machine that running containers have mounted, by container.
    :param keep_key: whether the private snapshot key may lie on this machine.
    """

    source: Path
    root: Path
    bot: str
    paths: Mapping[str, str]
    gateway_uid: int
    controller_uid: int
    mounts: Mapping[str, Iterable[str]] = field(default_factory=dict)
    keep_key: bool = True


@dataclass
class TakeoverPlan:
    """:param taken: what is, or was, taken: ``state``, ``secrets``, ``key``, ``snapshots``, ``repository``.
    :param left: what stays behind, and why, for the operator.
    """

    request: TakeoverRequest
    changed: bool
    taken: list[str]
    left: list[str]
    repository: Path | None = None


def plan_takeover(request: TakeoverRequest) -> TakeoverPlan:
    """What there is to take; reads only.

    :raises InvalidInput: there is no such bot at the source.
    :raises Conflict: it runs there, or a bot of this name has a state here.
    """
    bot = check_bot_name(request.bot)
    home = request.source / "bot_repos" / bot
    state = home / "state"
    record = _read_record(Path(request.paths["bot"]) / RECORD)
    if record.get("done"):
        return TakeoverPlan(request, False, [], [])
    if not _is_directory(state):
        known = ", ".join(sorted(path.parent.name for path in (request.source / "bot_repos").glob("*/state")))
        raise InvalidInput(
            f"{bot}: {state} is no directory; takeover_from is the directory that holds bot_repos; "
            f"bots there: {known or 'none'}"
        )
    for container, mounted in sorted(request.mounts.items()):
        if any(Path(path).is_relative_to(home) for path in mounted):
            raise Conflict(f"{bot} runs there, in container {container}; stop it first: ./clawfactory.sh -i {bot} stop")
    if not record and _has_content(Path(request.paths["state"])):
        raise Conflict(
            f"{bot} has a state here already ({request.paths['state']}); give the bot another name, or remove it with "
            f"playbooks/remove.yml -l {bot} -e remove_purge=true -e remove_confirm={bot}"
        )
    secrets = request.source / "secrets" / bot
    taken = ["state"]
    repository = next((home / name for name in ("approved", "code") if _is_directory(home / name / ".git")), None)
    if any(_is_file(secrets / name) for name in ("gateway.env", "controller.env")):
        taken.append("secrets")
    if request.keep_key and _is_file(secrets / "snapshot.key"):
        taken.append("key")
    if _archives(request):
        taken.append("snapshots")
    if repository is not None:
        taken.append("repository")
    return TakeoverPlan(request, True, taken, [], repository)


def apply_takeover(plan: TakeoverPlan, recipient_of: RecipientOf) -> None:
    """Take it; each piece is made aside and renamed, and a run that was cut off is taken up again.

    :raises CoreError: a piece cannot be taken; what is here is complete, and nothing at the source has changed.
    """
    request = plan.request
    # Says that what lies here from now on is of this takeover, so that the next run may go on.
    _write_record(request, done=False)
    if "secrets" in plan.taken:
        _take_env_files(plan)
    if "key" in plan.taken:
        _take_key(plan, recipient_of)
    if "snapshots" in plan.taken:
        for archive in _archives(request):
            _take_archive(archive, request)
    if plan.repository is not None:
        _take_repository(plan, plan.repository)
    _take_state(plan)
    _write_record(request, done=True)


def _take_state(plan: TakeoverPlan) -> None:
    request = plan.request
    state = Path(request.paths["state"])
    if _has_content(state):
        return  # renamed by the run before, which was cut off then
    aside = state.with_name(".state.takeover")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    source = request.source / "bot_repos" / request.bot / "state"
    plan.left += copy_tree(source, aside, request.gateway_uid, left_out=_REBUILT)
    # Of the layout; the bot's own is in the copy.
    (aside / "workspace").mkdir(mode=0o700, exist_ok=True)
    for path in (aside, aside / "workspace"):
        os.chown(path, request.gateway_uid, request.gateway_uid)
    os.sync()
    for path in (state / "workspace", state):
        if path.exists():
            path.rmdir()
    os.replace(aside, state)
    sync_directory(state.parent)


def copy_tree(source: Path, destination: Path, uid: int, left_out: frozenset[str] = frozenset()) -> list[str]:
    """Copy directories, files and links (as links) of a tree that somebody hostile may have written.

    :param destination: an empty directory.
    :param uid: user and group of everything in the copy.
    :param left_out: names of the tree's top.
    :returns: what was left out, with the reason.
    """
    left = []
    for path, directories, files, descriptor in os.fwalk(source, follow_symlinks=False):
        below = Path(path).relative_to(source)
        here = destination / below
        if below == Path("."):
            directories[:] = [name for name in directories if name not in left_out]
        for name in list(directories):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                (here / name).mkdir(mode=0o700)
            else:
                directories.remove(name)
                files.append(name)
        for name in files:
            reason = _copy_entry(descriptor, name, here / name, uid)
            if reason:
                left.append(f"{below / name}: {reason}")
        _keep_attributes(here, os.fstat(descriptor), uid)
    return left


def _copy_entry(directory: int, name: str, target: Path, uid: int) -> str:
    """Copy one entry that is no directory; why it is left out, empty if it is not."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=directory), target)
        os.chown(target, uid, uid, follow_symlinks=False)
        return ""
    if not stat.S_ISREG(found.st_mode):
        return "neither a file, a directory nor a link"
    try:
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    with os.fdopen(descriptor, "rb") as reader:
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode):
            return "changed while it was copied"
        with target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
    _keep_attributes(target, now, uid)
    return ""


def _keep_attributes(path: Path, found: os.stat_result, uid: int) -> None:
    os.chown(path, uid, uid)
    os.chmod(path, stat.S_IMODE(found.st_mode) & 0o777 | stat.S_IRUSR)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _take_env_files(plan: TakeoverPlan) -> None:
    """Values that the inventory gives win later: role ``secrets`` keeps what it finds here."""
    request = plan.request
    theirs = request.source / "secrets" / request.bot
    tokens = _tokens(request)
    gateway = _env(theirs / "gateway.env")
    found = _env(theirs / "controller.env")
    controller = {ours: found.pop(name) for name, ours in _WEBHOOK.items() if name in found}
    if f"{request.bot}_gateway_token" in tokens:
        gateway["OPENCLAW_GATEWAY_TOKEN"] = tokens[f"{request.bot}_gateway_token"]
    if f"{request.bot}_controller_token" in tokens:
        controller["CONTROLLER_TOKEN"] = tokens[f"{request.bot}_controller_token"]
    for values, name in ((gateway, "OPENCLAW_GATEWAY_TOKEN"), (controller, "CONTROLLER_TOKEN"),
                         (controller, "CONTROLLER_WEBHOOK_SECRET")):  # fmt: skip
        problem = token_problem(values[name]) if name in values else ""
        if problem:
            del values[name]
            plan.left.append(f"{name} {problem}; a new one is made")
    plan.left += [f"controller.env {name}: has no counterpart" for name in sorted(found)]
    ours = request.root / "secrets" / request.bot
    ours.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, values in (("gateway.env", gateway), ("controller.env", controller)):
        text = "".join(f"{key}={value}\n" for key, value in sorted((values | read_env(ours / name)).items()))
        write_atomic(ours / name, text.encode(), mode=0o600)


def _take_key(plan: TakeoverPlan, recipient_of: RecipientOf) -> None:
    request = plan.request
    ours = request.root / "secrets" / request.bot
    public, private = ours / "snapshot.pub", ours / "snapshot.key"
    match = _IDENTITY.search(_text(request.source / "secrets" / request.bot / "snapshot.key"))
    if match is None:
        plan.left.append("snapshot.key: holds no age identity; a new one is made")
        return
    recipient = recipient_of(match[0])
    if _text(public).strip() not in ("", recipient) or private.exists():
        return
    ours.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The public one first: alone it is only a recipient, the private one alone would stop the deployment.
    if not public.exists():
        write_new(public, f"{recipient}\n", 0o600)
    write_new(private, f"# public key: {recipient}\n{match[0]}\n", 0o600)


def _take_archive(archive: Path, request: TakeoverRequest) -> None:
    target = Path(request.paths["snapshots"]) / archive.name
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(archive, _OPEN), "rb") as reader, partial.open("xb") as writer:
        found = os.fstat(reader.fileno())
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())
    os.chmod(partial, 0o600)
    os.chown(partial, request.controller_uid, request.controller_uid)
    os.utime(partial, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(partial, target)
    sync_directory(target.parent)


def _take_repository(plan: TakeoverPlan, clone: Path) -> None:
    """``main`` becomes the authority here, every other branch a proposal."""
    request = plan.request
    uid = request.controller_uid
    home = Path(request.paths["bot"])
    copied = home / ".clone.takeover"
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir(mode=0o700)
    try:
        for name in _GIT_DATA:
            if _is_directory(clone / ".git" / name):
                (copied / name).mkdir()
                copy_tree(clone / ".git" / name, copied / name, uid)
            elif _is_file(clone / ".git" / name):
                write_atomic(copied / name, (clone / ".git" / name).read_bytes(), mode=0o600)
                os.chown(copied / name, uid, uid)
        for name in _LEFT_BY_GIT:
            (copied / name).unlink(missing_ok=True)
        os.chown(copied, uid, uid)
        run_git(copied, "config", "core.bare", "true", uid=uid)
        wanted = RepositoryRequest(
            request.bot, Path(request.paths["origin"]), Path(request.paths["approved"]), Path(), "", uid
        )
        adopt_repository(wanted, copied)
    finally:
        shutil.rmtree(copied, ignore_errors=True)
    plan.left.append("repository: what was not committed stays at the source")


def _archives(request: TakeoverRequest) -> list[Path]:
    directory = request.source / "snapshots" / request.bot
    names = [path for path in sorted(directory.glob("*.tar.age")) if _is_file(path)]
    return [path for path in names if (file := parse_file_name(path.name)) is not None and file.kind == "legacy"]


def _tokens(request: TakeoverRequest) -> dict[str, str]:
    lines = _text(request.source / "secrets" / "tokens.env").splitlines()
    matches = [_SHELL_LINE.fullmatch(line.strip().removeprefix("export ")) for line in lines]
    return {match["name"]: match["value"] for match in matches if match}


def _env(path: Path) -> dict[str, str]:
    """``KEY=value`` lines as Docker reads them; a line that is none is refused by its number."""
    return read_env(path) if _is_file(path) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if _is_file(path) else ""


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _has_content(state: Path) -> bool:
    """Whether there is more in a state than what the layout makes."""
    if not state.exists():
        return False
    return any(path.name != "workspace" or any(path.iterdir()) for path in state.iterdir())


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged ({error}); remove it to begin again") from error
    return found if isinstance(found, dict) else {}


def _write_record(request: TakeoverRequest, *, done: bool) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({"source": str(request.source), "time": now, "done": done}, indent=2) + "\n"
    write_atomic(Path(request.paths["bot"]) / RECORD, text.encode(), mode=0o644)
