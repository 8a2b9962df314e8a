"""The part of GitHub's ``pull_request`` event that is judged; the rest of it is not looked at.

Form: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EXAMPLE: dict[str, Any] = {
    "action": "closed",
    "pull_request": {
        "merged": True,
        "merged_by": {"login": "octocat"},
        "merge_commit_sha": "3f786850e387550fdab836ed7e6dc881de23001b",
        "base": {"ref": "main", "repo": {"full_name": "octocat/bot1"}},
    },
    "repository": {"full_name": "octocat/bot1"},
}
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Part(BaseModel):
    # strict: "true" is no boolean and 1 is none either.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Account(_Part):
    """Somebody at GitHub."""

    login: Name


class Repository(_Part):
    """A repository at GitHub, ``owner/name``."""

    full_name: Name


class Base(_Part):
    """What a pull request is merged into."""

    ref: Name
    repo: Repository


class PullRequest(_Part):
    """The pull request. While it is not merged GitHub gives no merger."""

    merged: bool
    merged_by: Account | None
    merge_commit_sha: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None
    base: Base


class PullRequestEvent(_Part):
    """The event."""

    action: Annotated[Name, Field(examples=[EXAMPLE["action"]])]
    pull_request: Annotated[PullRequest, Field(examples=[EXAMPLE["pull_request"]])]
    repository: Annotated[Repository, Field(examples=[EXAMPLE["repository"]])]


class Accepted(BaseModel):
    """Answer of ``POST /webhook/github``."""

    model_config = ConfigDict(json_schema_extra={"example": {"job": "0193a7c2e4b55f0a1b2c3d4e"}})

    #: Id of the job that promotes.
    job: str
