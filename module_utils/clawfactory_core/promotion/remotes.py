"""A bot's repository elsewhere: reached with credentials that travel in git's environment alone."""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError, InvalidInput

#: Every object that comes in is looked at, as GitHub does: https://git-scm.com/docs/git-fsck#_fsck_messages
CHECKED = (("transfer.fsckObjects", "true"), ("fetch.fsckObjects", "true"))
#: Where what was fetched of a remote's branch is kept, in ``origin.git``.
_FETCHED = "refs/remote/"
_BRANCH = re.compile(r"(?!.*(\.\.|//|/\.|\.lock(/|$)|[./]$))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_LOGIN = re.compile(r"(?<=://)[^/]*@")
_SSH = re.compile(r"ssh://|[^/:]+@[^/:]+:|[a-z+]*ssh://")
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
    """

    url: str = field(repr=False)
    branch: str = "main"
    user: str = ""
    token: str = field(default="", repr=False)


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
    if not url.startswith(("http://", "https://")):
        return RemoteAccess(_without_password(url), {}, ())
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
        listed = call_git(origin, call, "ls-remote", "--quiet", "--", access.url, reference).output
        if reference.encode() not in listed.split():
            return ""
        call_git(origin, call, *fetch)
    return kept


def push_branch(origin: Path, uid: int, remote: Remote, commit: str, branch: str) -> None:
    """Push one commit to a branch of a remote, forward only.

    :raises CoreError: the remote cannot be reached, refuses, or has something newer.
    """
    access, call = _call(remote, uid)
    reference = f"refs/heads/{check_branch(branch)}"
    call_git(origin, call, "push", "--quiet", "--no-verify", "--", access.url, f"{commit}:{reference}")


def _call(remote: Remote, uid: int) -> tuple[RemoteAccess, GitCall]:
    if _SSH.match(remote.url):
        _refuse_nameless(uid)
    access = open_remote(remote)
    return access, GitCall(uid, environment=access.environment, settings=(*CHECKED, *access.settings))


def _refuse_nameless(uid: int) -> None:
    """ssh ends at once for a user id that has no name, and a bot's have none."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise InvalidInput(
            f"a repository is reached by SSH only by a user with a name on this machine, and {uid} has none; "
            "use its https:// address"
        ) from None


def _without_password(url: str) -> str:
    """An address that is not HTTP. For SSH the user belongs to the address, others have none."""
    scheme, separator, rest = url.partition("://")
    login, at, _ = rest.partition("/")[0].rpartition("@")
    if not (separator and at):
        return url
    user = f"{login.partition(':')[0]}@" if scheme.endswith("ssh") else ""
    return f"{scheme}://{user}{rest[len(login) + 1 :]}"
