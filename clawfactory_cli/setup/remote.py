"""What the wizard asks about the bot's repository, and what follows at GitHub."""

from __future__ import annotations

import re
import secrets as randomness
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import typer

from clawfactory_core.errors import CoreError, InvalidInput

from ..settings import GITHUB_API, REPOSITORY
from .asking import ask_one, ask_secret, ask_text
from .github import REPOSITORY_NAME, GitHub, check_api, template_files
from .secrets import SavedSecrets

_UPSTREAM = "openclaw/openclaw"
_POLL_SECONDS = 60
_FORK = ("gateway_image_source", "gateway_fork_repository", "gateway_fork_commit")
#: Addresses of a repository: with a scheme, or as ``git@host:owner/name.git``.
_ADDRESS = re.compile(
    r"(?:(?:https?|ssh)://(?:[^@/\s]+@)?(?P<host>[^/:\s]+)(?::\d+)?/|(?:[^@/\s]+@)(?P<server>[^/:\s]+):/?)"
    r"(?P<name>[^/\s]+/[^/\s]+?)(?:\.git)?/?"
)
_HOOK_PATH = "/webhook/github"
_REMOTE = ("bot_repository", "controller_github_repository", "controller_github_actors", "controller_poll_seconds")


@dataclass(frozen=True)
class Wanted:
    """What is to be made at GitHub.

    :param repository: of the bot, ``owner/name``.
    :param fork: of OpenClaw, ``owner/name``; empty for none.
    :param webhook: where merges are reported to; empty for nowhere.
    """

    github: GitHub
    repository: str
    fork: str
    webhook: str


def ask_remote(bot: str, variables: Any, saved: SavedSecrets, api: str) -> Wanted | None:
    """Ask where the bot's repository is and put the answers into ``variables`` and ``saved``.

    :param api: address of GitHub's API.
    :returns: what to make there; None: nothing.
    """
    before = str(variables.get("controller_github_repository") or "")
    choices = ["on its machine, offline", "at GitHub, where you merge what it proposes"]
    if ask_one("The bot's repository", choices, 1 if before else 0) == 0:
        for name in _REMOTE if before else ():
            variables.pop(name, None)
        return None
    check_api(api)
    github = _ask_account(api)
    login = github.login() if github else ""
    default = before or (f"{login}/{bot}" if login else "")
    repository = ask_text("Repository, as owner/name, of yours or of an organization", default, _check_repository)
    # Who goes by SSH has the same repository under another address, and a key for that.
    if _name_at(api, variables.get("bot_repository")).lower() != repository.lower():
        variables["bot_repository"] = f"{_web(api)}/{repository}.git"
    _set(variables, "controller_github_repository", repository)
    if api != GITHUB_API:
        _set(variables, "controller_github_api_url", api)
    else:
        variables.pop("controller_github_api_url", None)
    actors = ", ".join(variables.get("controller_github_actors") or ([login] if login else []))
    typed = ask_text("Logins whose merges are promoted, with commas", actors)
    _set(variables, "controller_github_actors", [name.strip() for name in typed.split(",") if name.strip()])
    _ask_token(saved, repository)
    webhook = _ask_webhook(variables, saved, github.hooks(repository) if github else [])
    fork = _ask_fork(bot, repository, variables, api) if github else ""
    return Wanted(github, repository, fork, webhook) if github else None


def _ask_account(api: str) -> GitHub | None:
    """Somebody who may make things there; asked again until the token works."""
    while True:
        token = ask_secret("Token that may make repositories, rules and webhooks; used now and not kept")
        if not token:
            typer.echo("  nothing is made at GitHub then; docs/promotion.md says what is needed there")
            return None
        github = GitHub(api, token)
        try:
            github.login()
        except CoreError as error:
            typer.echo(f"  {error}", err=True)
            continue
        return github


def _ask_token(saved: SavedSecrets, repository: str) -> None:
    name = "CONTROLLER_REMOTE_TOKEN"
    question = (
        f"{name}: fine-grained token of the machine's own account, Contents and Pull requests of {repository} only"
    )
    value = ask_secret(question, is_kept=name in saved)
    if value:
        saved.put(name, value)


def _ask_webhook(variables: Any, saved: SavedSecrets, hooks: list[str]) -> str:
    """Where GitHub reports merges to; without it the controller looks every minute.

    :param hooks: addresses it reports to now; the inventory has the host, the path of a controller is kept only there.
    """
    hosts = list(variables.get("proxy_extra_hosts") or [])
    ours = [hook.removesuffix(_HOOK_PATH) for hook in hooks if hook.endswith(_HOOK_PATH) and _host(hook) in hosts]
    known = [*ours, *(f"https://{host}" for host in hosts)]
    before = known[0] if known and "CONTROLLER_WEBHOOK_SECRET" in saved else ""

    def check(answer: str) -> str:
        if answer and (urlsplit(answer).scheme != "https" or not urlsplit(answer).hostname):
            raise InvalidInput(f"{answer!r} is no https address that GitHub can reach, like https://bots.example.org")
        return answer.rstrip("/")

    address = ask_text(
        "Public https address of the controller, for the webhook; Enter looks every minute", before, check
    )
    if not address:
        _set(variables, "controller_poll_seconds", _POLL_SECONDS)
        return ""
    host = _host(address)
    if host not in hosts:
        variables["proxy_extra_hosts"] = [*hosts, host]
    if "CONTROLLER_WEBHOOK_SECRET" not in saved:
        saved.put("CONTROLLER_WEBHOOK_SECRET", randomness.token_hex(32))
    return f"{address}{_HOOK_PATH}"


def _ask_fork(bot: str, repository: str, variables: Any, api: str) -> str:
    """The fork to make, ``owner/name``; empty for none, and for one that is not at this GitHub."""
    is_forked = variables.get("gateway_image_source") == "fork"
    new = f"{_web(api)}/{repository.partition('/')[0]}/{bot}-bot.git"
    address = str(variables.get("gateway_fork_repository") or new)
    shown = f"{bot}-bot" if address == new else address
    choices = ["as it is published", f"from a fork of your own, {shown}, built on the machine"]
    if ask_one("OpenClaw", choices, 1 if is_forked else 0) == 0:
        # Another source, such as a build, is no answer to this question.
        for name in _FORK if is_forked else ():
            variables.pop(name, None)
        return ""
    _set(variables, "gateway_image_source", "fork")
    _set(variables, "gateway_fork_repository", address)
    return _name_at(api, address)


def make(bot: str, wanted: Wanted, variables: Any, saved: SavedSecrets, version: str) -> list[str]:
    """Make at GitHub what is wanted, as far as it goes.

    :param version: of OpenClaw, whose commit a new fork is pinned to.
    :returns: what could not be made, each with the reason.
    """
    problems = []
    github, name = wanted.github, wanted.repository
    try:
        made = github.make_repository(name, template_files(REPOSITORY / "bot_template", bot))
        typer.echo(f"{'made' if made else 'kept'}  {name}")
    except CoreError as error:
        return [f"repository {name}: {error}"]
    try:
        github.protect(name)
        typer.echo(f"made  rules for the branches of {name}")
    except CoreError as error:
        problems.append(f"{name} is NOT protected, whoever can push to main decides: {error}")
    if wanted.webhook:
        try:
            github.call_back(name, wanted.webhook, saved.get("CONTROLLER_WEBHOOK_SECRET"))
            typer.echo(f"made  webhook to {wanted.webhook}")
        except CoreError as error:
            problems.append(f"webhook of {name}: {error}")
    if wanted.fork:
        typer.echo(f"asking for the fork {wanted.fork}, which may take a few minutes")
        try:
            commit = github.fork(_UPSTREAM, wanted.fork, f"v{version}")
            if not variables.get("gateway_fork_commit"):
                variables["gateway_fork_commit"] = commit
            typer.echo(f"made  fork {wanted.fork}")
        except CoreError as error:
            problems.append(f"fork {wanted.fork}: {error}")
    return problems


def _set(variables: Any, name: str, value: Any) -> None:
    if variables.get(name) != value:
        variables[name] = value


def _check_repository(answer: str) -> str:
    if not REPOSITORY_NAME.fullmatch(answer):
        raise InvalidInput(f"{answer!r} is no repository; write owner/name")
    return answer


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _name_at(api: str, address: object) -> str:
    """``owner/name`` of a repository's address, by HTTPS or SSH; empty where it is not at the server of this API."""
    found = _ADDRESS.fullmatch(str(address or ""))
    server = urlsplit(_web(api)).hostname or ""
    host = (found["host"] or found["server"]).lower() if found else ""
    # GitHub takes SSH at the port of HTTPS under a name below its own.
    return found["name"] if found and (host == server or host.endswith(f".{server}")) else ""


def _web(api: str) -> str:
    """Address of repositories that belongs to an API: of GitHub itself, or of a server of one's own."""
    return (
        "https://github.com"
        if api == GITHUB_API
        else api.removesuffix("/").removesuffix("/api/v3").removesuffix("/api")
    )
