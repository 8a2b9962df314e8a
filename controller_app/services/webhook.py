"""Decides whether a webhook of GitHub may promote. It can only ask: the machine fetches the branch and looks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from clawfactory_core.errors import CoreError
from clawfactory_core.jobs.protocol import Refusal

from ..schemas.webhook import PullRequestEvent
from .audit import Refusals
from .jobs import JobsClient

LARGEST_BODY = 1 << 20  # bytes
_DELIVERIES_REMEMBERED = 4096
_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})")
_DELIVERY = re.compile(r"[A-Za-z0-9-]{1,64}")
_JSON = re.compile(r"application/json(?:; ?charset=utf-8)?", re.IGNORECASE)


class WebhookRefused(CoreError):
    """A delivery that changes nothing.

    :param status: HTTP status code that GitHub shows beside the delivery.
    :param code: as :data:`clawfactory_core.jobs.protocol.REFUSALS` has it.
    """

    def __init__(self, status: int, code: str, reason: str) -> None:
        self.status = status
        self.code = code
        super().__init__(reason)


@dataclass(frozen=True)
class Delivery:
    """One request as it came; every text is of any content.

    :param body: the raw body, of which the signature was made.
    """

    signature: str
    event: str
    delivery: str
    content_type: str
    body: bytes = field(repr=False)


class WebhookService:
    """Judges deliveries and asks for the promotion of those that may.

    :param secret: shared with GitHub.
    :param repository: ``owner/name``; empty refuses everything.
    :param branch: that pull requests have to be merged into.
    :param actors: logins, in lower case; empty refuses everything.
    :param jobs: asks the machine.
    :param refusals: gets what is refused.
    """

    def __init__(
        self,
        *,
        secret: str,
        repository: str,
        branch: str,
        actors: frozenset[str],
        jobs: JobsClient,
        refusals: Refusals,
    ) -> None:
        self._secret = secret.encode()
        self._repository = repository
        self._branch = branch
        self._actors = actors
        self._jobs = jobs
        self._refusals = refusals
        # The machine remembers them over restarts; this spares it the question.
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def handle(self, delivery: Delivery) -> str | None:
        """Ask for what the delivery stands for.

        :returns: id of the job; ``None`` for the ``ping`` that GitHub sends when a webhook is made.
        :raises WebhookRefused: it may not promote; this is in the log.
        :raises Refusal: the machine refuses, or does not answer; this is in the log too.
        """
        try:
            return await self._handle(delivery)
        except (WebhookRefused, Refusal) as error:
            fields = {"delivery": delivery.delivery, "github_event": delivery.event, "status": error.status}
            code = error.code if isinstance(error, WebhookRefused) else "machine"
            self._refusals.record("webhook", code, str(error), fields)
            raise

    async def _handle(self, delivery: Delivery) -> str | None:
        self._check_signature(delivery)
        if not _DELIVERY.fullmatch(delivery.delivery):
            raise WebhookRefused(400, "delivery", "X-GitHub-Delivery is missing, or no delivery id.")
        if delivery.event == "ping":
            return None
        if delivery.event != "pull_request":
            raise WebhookRefused(422, "event", "Only pull_request promotes; choose that event alone in the settings.")
        sha, actor = self._check_event(_parse(delivery.body))
        if delivery.delivery in self._seen:
            raise WebhookRefused(409, "replay", "This delivery was handled before.")
        self._remember(delivery.delivery)
        try:
            answer = await self._jobs.ask(
                "promotion", actor=actor, source="webhook", sha=sha, delivery=delivery.delivery
            )
        except Refusal as refusal:
            if refusal.status != 409:
                self._seen.pop(delivery.delivery, None)  # GitHub may deliver it again when the machine is back
            raise
        return str(answer["job"]["id"])

    def _check_signature(self, delivery: Delivery) -> None:
        """Before anything of the body is looked at."""
        if len(delivery.body) > LARGEST_BODY:
            raise WebhookRefused(413, "size", f"A delivery may have {LARGEST_BODY} bytes at most.")
        match = _SIGNATURE.fullmatch(delivery.signature)
        expected = hmac.digest(self._secret, delivery.body, hashlib.sha256)
        if match is None or not hmac.compare_digest(bytes.fromhex(match[1]), expected):
            raise WebhookRefused(401, "signature", "X-Hub-Signature-256 is missing or wrong; compare the secret.")
        if not _JSON.fullmatch(delivery.content_type):
            raise WebhookRefused(415, "type", "Choose the content type application/json in the webhook's settings.")

    def _check_event(self, event: PullRequestEvent) -> tuple[str, str]:
        """Commit to promote, and who merged it."""
        if not self._repository or not self._actors:
            raise WebhookRefused(
                403,
                "settings",
                "No webhook promotes before controller_github_repository and controller_github_actors are set.",
            )
        pull_request = event.pull_request
        if event.action != "closed" or pull_request.merged is not True:
            raise WebhookRefused(422, "merged", "The pull request was not merged.")
        names = {event.repository.full_name.lower(), pull_request.base.repo.full_name.lower()}
        if names != {self._repository.lower()}:
            raise WebhookRefused(403, "repository", "The pull request is of another repository.")
        if pull_request.base.ref != self._branch:
            raise WebhookRefused(422, "branch", f"The pull request was not merged into {self._branch}.")
        actor = pull_request.merged_by
        if actor is None or actor.login.lower() not in self._actors:
            raise WebhookRefused(403, "actor", "Whoever merged it is not in controller_github_actors.")
        if pull_request.merge_commit_sha is None:
            raise WebhookRefused(422, "commit", "The event names no merge commit.")
        return pull_request.merge_commit_sha, actor.login

    def _remember(self, delivery: str) -> None:
        self._seen[delivery] = None
        while len(self._seen) > _DELIVERIES_REMEMBERED:
            self._seen.popitem(last=False)


def _parse(body: bytes) -> PullRequestEvent:
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return PullRequestEvent.model_validate(document)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, item["loc"])) for item in error.errors(include_input=False)[:5])
        raise WebhookRefused(422, "body", f"The event is not a pull_request as GitHub sends it ({places}).") from None
    except (ValueError, RecursionError):
        raise WebhookRefused(400, "body", "The body is not JSON.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers could each take another one of two equal names.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
