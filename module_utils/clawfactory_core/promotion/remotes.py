"""A bot's repository elsewhere: reached with credentials that travel in git's environment, or in files of ssh's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..adapters.git_repo import GitAnswer, GitCall, call_git
from ..errors import CoreError, InvalidInput
from .ssh import explain, is_ssh, parse_ssh, ssh_command

#: Every object that comes in is looked at, as GitHub does: https://git-scm.com/docs/git-fsck#_fsck_messages
CHECKED = (("transfer.fsckObjects", "true"), ("fetch.fsckObjects", "true"))
#: Where what was fetched of a remote's branch is kept, in ``origin.git``.
_FETCHED = "refs/remote/"
_BRANCH = re.compile(r"(?!.*(\.\.|//|/\.|\.lock(/|$)|[./]$))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_LOGIN = re.compile(r"(?<=://)[^/]*@")
_PLAIN = re.compile(r"(?:git|file)://|/")
# Git asks it for the login of one server only; what it prints comes from the environment, so no argument shows it.
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$CLAWFACTORY_GIT_USER" "$CLAWFACTORY_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True)
class Remote:
    """Where a bot's repository is, beside this machine.

    :param url: URL or absolute path; a login in it is used as ``user`` and ``token`` are.
    :param branch: branch there that is the authority.
    :param user: name for HTTP; most servers take any with a token.
    :param token: password for HTTP; handed to git by environment alone.
    :param keys: directory of what ssh needs, see :mod:`.ssh`; with an SSH address.
    """

    url: str = field(repr=False)
    branch: str = "main"
    user: str = ""
    token: str = field(default="", repr=False)
    keys: Path | None = None


@dataclass(frozen=True)
class RemoteAccess:
    """How git reaches a remote.

    :param url: without a login.
    :param environment: more variables for git, with the login.
    :param settings: more configuration for git.
    """

    url: str
    environment: Mapping[str, str] = field(repr=False)
    settings: tuple[tuple[str, str], ...]


def open_remote(remote: Remote) -> RemoteAccess:
    """Take the login out of a remote's address.

    :raises InvalidInput: the address, the branch or the login cannot be used.
    """
    check_branch(remote.branch)
    url, user, token = remote.url, remote.user, remote.token
    if not url or not url.isprintable() or url.startswith("-"):
        raise InvalidInput("the remote's address is empty or has a character that no address has; correct it")
    if not (user + token).isprintable():
        raise InvalidInput("the remote's login has a character that no login has; correct it")
    if is_ssh(url):
        return _open_ssh(remote)
    if not url.startswith(("http://", "https://")):
        if not _PLAIN.match(url):
            raise InvalidInput("the remote's address is of no kind that is taken; give one of https:// or ssh://")
        return RemoteAccess(_without_login(url), {}, ())
    parts = urlsplit(url)
    if parts.hostname is None:
        raise InvalidInput("the remote's address names no host; correct it")
    host = parts.netloc.rpartition("@")[2]
    bare = parts._replace(netloc=host).geturl()
    # "token@host" and "token:x-oauth-basic@host" are customary too: git sends them as they stand.
    user = user or unquote(parts.username or "")
    token = token or unquote(parts.password or "")
    if not (user or token):
        return RemoteAccess(bare, {}, ())
    login = {"CLAWFACTORY_GIT_USER": user or "x-access-token", "CLAWFACTORY_GIT_PASSWORD": token}
    return RemoteAccess(
        bare, login, (("credential.helper", ""), (f"credential.{parts.scheme}://{host}.helper", _HELPER))
    )


def shown_address(url: str) -> str:
    """An address for a message, without a login."""
    return _LOGIN.sub("", url)


def check_branch(branch: str) -> str:
    """:raises InvalidInput: ``branch`` is no name of a branch."""
    if not _BRANCH.fullmatch(branch):
        raise InvalidInput(f"branch {branch!r} is not valid; use letters, digits and inner dots, dashes and slashes")
    return branch


def fetch_branch(origin: Path, uid: int, remote: Remote, branch: str) -> str:
    """Fetch one branch of a remote; moves no branch here.

    :returns: the commit it is at, empty if the remote has no such branch.
    :raises CoreError: the remote cannot be reached or sends a damaged object.
    """
    kept = fetch_reference(origin, uid, remote, branch)
    if not kept:
        return ""
    answer = call_git(origin, GitCall(uid), "rev-parse", "--verify", "--end-of-options", f"{kept}^{{commit}}")
    return answer.output.decode().strip()


def fetch_reference(origin: Path, uid: int, remote: Remote, branch: str, forward: str = "") -> str:
    """Fetch one branch of a remote, and leave it to the caller to look at it.

    :param forward: full name of a branch here that moves to the same commit if that follows on where it is; it may
        also stay where it is.
    :returns: the reference that it is kept as, empty if the remote has no such branch.
    :raises CoreError: the remote cannot be reached or sends a damaged object.
    """
    access, call = _call(remote, uid)
    reference = f"refs/heads/{check_branch(branch)}"
    kept = f"{_FETCHED}{branch}"
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    fetch = ("fetch", *options, "--", access.url, f"+{reference}:{kept}")
    try:
        call_git(origin, call, *fetch, *((f"{reference}:{forward}",) if forward else ()))
    except CoreError:
        # No such branch, or it does not follow on ours, or an error: asked only now, as each question is a connection.
        listed = ask(origin, call, remote, "ls-remote", "--quiet", "--", access.url, reference).output
        if reference.encode() not in listed.split():
            return ""
        ask(origin, call, remote, *fetch)
    return kept


def push_branch(origin: Path, uid: int, remote: Remote, commit: str, branch: str) -> None:
    """Push one commit to a branch of a remote, forward only.

    :raises CoreError: the remote cannot be reached, refuses, or has something newer.
    """
    access, call = _call(remote, uid)
    reference = f"refs/heads/{check_branch(branch)}"
    ask(origin, call, remote, "push", "--quiet", "--no-verify", "--", access.url, f"{commit}:{reference}")


def ask(repository: Path, call: GitCall, remote: Remote, *arguments: str) -> GitAnswer:
    """Run git, which speaks to a remote.

    :raises CoreError: git fails; where ssh said why, with what to do about it.
    """
    try:
        return call_git(repository, call, *arguments)
    except CoreError as error:
        advice = explain(remote.url, remote.keys, str(error)) if remote.keys and is_ssh(remote.url) else ""
        if not advice:
            raise
        raise CoreError(f"{advice} ({error})") from error


def _call(remote: Remote, uid: int) -> tuple[RemoteAccess, GitCall]:
    access = open_remote(remote)
    return access, GitCall(uid, environment=access.environment, settings=(*CHECKED, *access.settings))


def _open_ssh(remote: Remote) -> RemoteAccess:
    parse_ssh(remote.url)
    if remote.keys is None:
        raise InvalidInput(
            "an SSH address is reached with the key of the bot's own repository, on the same server, alone; "
            "use the https:// address"
        )
    environment = {"GIT_SSH_COMMAND": ssh_command(remote.keys), "GIT_ALLOW_PROTOCOL": "ssh"}
    # Git would try the command out to find whose options it knows.
    return RemoteAccess(remote.url, environment, (("ssh.variant", "ssh"),))


def _without_login(url: str) -> str:
    """An address that is neither HTTP nor SSH: there is no login to use."""
    scheme, separator, rest = url.partition("://")
    login, at, _ = rest.partition("/")[0].rpartition("@")
    return f"{scheme}://{rest[len(login) + 1 :]}" if separator and at else url
