"""The part of GitHub's ``pull_request`` event that is judged; the rest of it is not looked at.

Form: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

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

    action: Name
    pull_request: PullRequest
    repository: Repository


class Accepted(BaseModel):
    """Answer of ``POST /webhook/github``."""

    #: Id of the job that promotes.
    job: str
