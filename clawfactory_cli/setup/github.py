"""Makes and guards a bot's repository at GitHub, or at something that speaks like it."""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from clawfactory_core.errors import CoreError, InvalidInput

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_TIMEOUT_SECONDS = 20.0
_FORK_SECONDS = 300.0
_ADMINISTRATORS = {"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}
_OURS = ["refs/heads/main", "refs/heads/proposal/**", "refs/heads/memory-backup"]
#: docs/promotion.md says the same in words: main by reviewed pull requests, and the bot's branches by the bot.
RULESETS: tuple[dict[str, Any], ...] = (
    {
        "name": "clawfactory main",
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": _OURS[:1], "exclude": []}},
        "bypass_actors": [],
        "rules": [
            {"type": "deletion"},
            {"type": "non_fast_forward"},
            {
                "type": "pull_request",
                "parameters": {
                    "required_approving_review_count": 1,
                    "dismiss_stale_reviews_on_push": True,
                    "require_code_owner_review": False,
                    "require_last_push_approval": True,
                    "required_review_thread_resolution": False,
                },
            },
        ],
    },
    {
        "name": "clawfactory other branches",
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": ["~ALL"], "exclude": _OURS}},
        "bypass_actors": [_ADMINISTRATORS],
        "rules": [{"type": "creation"}, {"type": "update"}],
    },
)


class GitHubFailed(CoreError):
    """GitHub did not do what it was asked for."""


def check_api(url: str) -> str:
    """:raises InvalidInput: ``url`` would carry the token in the open."""
    if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", url):
        raise InvalidInput(f"{url!r} is no address of an API that a token may be sent to; use https")
    return url


class GitHub:
    """A GitHub account's view of the API.

    :param url: of the API.
    :param token: of somebody who may make repositories; goes into headers only.
    """

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=check_api(url),
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "User-Agent": "ClawFactory",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            verify=ssl.create_default_context(),
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,  # it would take the token elsewhere
        )

    def login(self) -> str:
        """Whose token it is."""
        return str(self._ask("GET", "/user")["login"])

    def make_repository(self, name: str, files: dict[str, tuple[str, bytes]]) -> bool:
        """Make a private repository with a first commit, unless there is one.

        :param name: ``owner/name``.
        :param files: path to mode (as Git writes it) and content.
        :returns: whether it was made.
        """
        if self._exists(name):
            return False
        owner, _, short = name.partition("/")
        settings = {"name": short, "private": True, "auto_init": True, "has_wiki": False}
        merging = {"allow_squash_merge": False, "allow_rebase_merge": False, "delete_branch_on_merge": False}
        made = self._ask("POST", self._account(owner), {**settings, **merging})
        if made.get("default_branch", "main") != "main":
            # An account may name the first branch of its repositories otherwise.
            self._ask("POST", f"/repos/{name}/branches/{made['default_branch']}/rename", {"new_name": "main"})
        self._commit(name, files)
        return True

    def fork(self, upstream: str, name: str, tag: str) -> str:
        """Fork a repository, unless that was done, and wait until it is there.

        :returns: the commit of ``tag`` upstream, which a fork has too.
        """
        owner, _, short = name.partition("/")
        if not self._exists(name):
            organization = {} if owner == self.login() else {"organization": owner}
            wanted = {"name": short, "default_branch_only": True, **organization}
            made = self._ask("POST", f"/repos/{upstream}/forks", wanted)
            if made.get("full_name") != name:
                raise GitHubFailed(
                    f"{owner} has a fork of {upstream} already, {made.get('full_name')}; rename it to {short}"
                )
            deadline = time.monotonic() + _FORK_SECONDS
            while not self._exists(name):
                if time.monotonic() > deadline:
                    raise GitHubFailed(f"{name} did not appear within {_FORK_SECONDS:.0f} s; run init again later")
                time.sleep(2)
        return str(self._ask("GET", f"/repos/{upstream}/commits/{tag}")["sha"])

    def protect(self, name: str) -> None:
        """Make the rules of :data:`RULESETS` hold."""
        known = {each["name"]: each["id"] for each in self._ask("GET", f"/repos/{name}/rulesets")}
        for rules in RULESETS:
            if rules["name"] in known:
                self._ask("PUT", f"/repos/{name}/rulesets/{known[rules['name']]}", rules)
            else:
                self._ask("POST", f"/repos/{name}/rulesets", rules)

    def hooks(self, name: str) -> list[str]:
        """Where events of a repository are reported to; empty too if it is not there, or its hooks cannot be read."""
        try:
            found = self._ask("GET", f"/repos/{name}/hooks", missing=True) or []
        except GitHubFailed:
            return []  # only a default is lost; call_back says what is wrong
        return [str(each["config"].get("url", "")) for each in found]

    def call_back(self, name: str, url: str, secret: str) -> None:
        """Have pull requests reported to ``url``, signed with ``secret``."""
        config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
        hook = {"active": True, "events": ["pull_request"], "config": config}
        known = [each["id"] for each in self._ask("GET", f"/repos/{name}/hooks") if each["config"].get("url") == url]
        if known:
            self._ask("PATCH", f"/repos/{name}/hooks/{known[0]}", hook)
        else:
            self._ask("POST", f"/repos/{name}/hooks", {"name": "web", **hook})

    def _account(self, owner: str) -> str:
        return "/user/repos" if owner == self.login() else f"/orgs/{owner}/repos"

    def _commit(self, name: str, files: dict[str, tuple[str, bytes]]) -> None:
        reference = self._ask("GET", f"/repos/{name}/git/ref/heads/main")
        tree = [
            {"path": path, "mode": mode, "type": "blob", "content": content.decode()}
            for path, (mode, content) in sorted(files.items())
        ]
        made = self._ask("POST", f"/repos/{name}/git/trees", {"tree": tree})
        message = f"{name.partition('/')[2]}: from the ClawFactory template"
        parents = [reference["object"]["sha"]]
        commit = self._ask(
            "POST", f"/repos/{name}/git/commits", {"message": message, "tree": made["sha"], "parents": parents}
        )
        self._ask("PATCH", f"/repos/{name}/git/refs/heads/main", {"sha": commit["sha"]})

    def _exists(self, name: str) -> bool:
        return self._ask("GET", f"/repos/{name}", missing=True) is not None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, missing: bool = False) -> Any:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise GitHubFailed(f"{method} {path}: {type(error).__name__}: {error}") from None
        if missing and response.status_code == httpx.codes.NOT_FOUND:
            return None
        if not response.is_success:
            raise GitHubFailed(f"{method} {path}: GitHub answered {response.status_code}: {_said(response)}")
        try:
            return response.json()
        except ValueError:
            raise GitHubFailed(f"{method} {path}: GitHub did not answer with JSON") from None


def _said(response: httpx.Response) -> str:
    try:
        read = response.json()
        details = [each.get("message", "") for each in read.get("errors", []) if isinstance(each, dict)]
        return "; ".join(filter(None, [str(read.get("message", "")), *details]))[:300]
    except (ValueError, AttributeError):
        return repr(response.text[:300])


def template_files(template: Path, bot: str) -> dict[str, tuple[str, bytes]]:
    """What a new repository begins with: path to mode and content, as the machine makes it offline."""
    found = {}
    for file in sorted(template.rglob("*")):
        if file.is_file():
            path = file.relative_to(template).as_posix().replace("workspace/bot_save/", f"workspace/{bot}_save/")
            mode = "100755" if file.stat().st_mode & 0o100 else "100644"
            found[path] = (mode, file.read_bytes())
    return found
