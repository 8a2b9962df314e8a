"""Pull requests at GitHub, or at something that speaks like it."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.proposals import Proposal

from .cookies import make_closed_jar

_TIMEOUT_SECONDS = 20.0
_LONGEST_TITLE = 120


class GitHubFailed(CoreError):
    """GitHub did not do what it was asked for."""


class GitHub:
    """Opens and closes pull requests of one repository.

    :param client: made by :func:`make_github_client`.
    :param repository: ``owner/name``.
    :param branch: that pull requests are for.
    """

    def __init__(self, client: httpx.AsyncClient, *, repository: str, branch: str) -> None:
        self._client = client
        self._repository = repository
        self._branch = branch

    async def offer(self, proposal: Proposal, bot: str) -> None:
        """Open a pull request for a proposal, unless there is one, or there was one for this very commit.

        :raises GitHubFailed: GitHub refuses or cannot be reached.
        """
        for known in await self._find(proposal.name):
            if known.get("state") == "open" or (known.get("head") or {}).get("sha") == proposal.commit:
                return
        body = {
            "title": _title(proposal),
            "head": f"proposal/{proposal.name}",
            "base": self._branch,
            "body": _description(proposal, bot),
            "maintainer_can_modify": True,
        }
        await self._ask("POST", f"/repos/{self._repository}/pulls", body)

    async def close(self, name: str, reason: str) -> None:
        """Close the open pull requests of a denied proposal, with the reason as a comment.

        :raises GitHubFailed: GitHub refuses or cannot be reached.
        """
        for known in await self._find(name):
            if known.get("state") != "open":
                continue
            number = int(known["number"])
            comment = {"body": f"Denied by the operator:\n\n{_quoted(reason)}"}
            await self._ask("POST", f"/repos/{self._repository}/issues/{number}/comments", comment)
            await self._ask("PATCH", f"/repos/{self._repository}/pulls/{number}", {"state": "closed"})

    async def _find(self, name: str) -> list[dict[str, Any]]:
        owner = self._repository.partition("/")[0]
        query = {"head": f"{owner}:proposal/{name}", "base": self._branch, "state": "all", "per_page": "100"}
        found = await self._ask("GET", f"/repos/{self._repository}/pulls", query=query)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise GitHubFailed("GitHub did not answer with a list of pull requests")
        return found

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, str] | None = None
    ) -> Any:
        try:
            response = await self._client.request(method, path, json=body, params=query)
            if response.is_success:
                return response.json()
            text = f"answered {response.status_code}: {response.text[:300]!r}"
        except httpx.HTTPError as error:
            text = f"cannot be reached ({type(error).__name__}: {error})"
        except ValueError:
            text = "did not answer with JSON"
        raise GitHubFailed(f"{method} {path}: GitHub {text}")


def make_github_client(
    url: str, *, token: str, proxy: str, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Make the client of :class:`GitHub`.

    :param url: of the API.
    :param token: of an account that may open pull requests; empty asks without.
    :param proxy: of egress, empty goes directly.
    :param transport: replaces the network, in tests.
    """
    headers = {
        "Accept": "application/vnd.github+json",
        "User-Agent": "ClawFactory",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        proxy=proxy or None,
        # The image's own authorities, among which are the machine's; httpx brings a list of its own.
        verify=ssl.create_default_context(),
        transport=transport,
        timeout=_TIMEOUT_SECONDS,
        follow_redirects=False,  # it would take the token elsewhere
        trust_env=False,
        cookies=make_closed_jar(),
    )


def _title(proposal: Proposal) -> str:
    subject = " ".join(proposal.subject.split()) or proposal.name
    return subject if len(subject) <= _LONGEST_TITLE else f"{subject[: _LONGEST_TITLE - 1]}…"


def _description(proposal: Proposal, bot: str) -> str:
    return (
        f"Proposed by the bot **{bot}** as `proposal/{proposal.name}`: {proposal.files} files, "
        f"+{proposal.added} −{proposal.removed} lines.\n\n"
        "The bot wrote the branch and its messages; read the changes themselves. Merging promotes them: the bot's "
        "gateway is restarted with the merge commit."
    )


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())
