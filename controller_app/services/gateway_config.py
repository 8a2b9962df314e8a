"""OpenClaw's configuration: the machine shows and changes it, the gateway describes what may stand in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from clawfactory_core.jobs.protocol import REQUEST_BYTES, TEXT_BYTES, Refusal

from ..schemas.gateway_config import Config, ConfigCheck, ConfigProblem, KnownGood, OllamaModels
from .config_text import refuse_secrets
from .gateway_link import LARGEST_FRAME, GatewayLink, GatewayMisbehaves
from .jobs import JobsClient

#: The bot's OpenClaw looks at a text in a container of its own, which takes six seconds and more on a busy machine.
CHECK_SECONDS = 110.0
LARGEST_BODY = REQUEST_BYTES
_ACTOR = "operator"
_MOST_WAITING = 4


@dataclass(frozen=True)
class SchemaDocument:
    """What the gateway says may stand in a configuration.

    :param body: JSON.
    :param etag: by which a browser knows that it has it.
    """

    body: bytes
    etag: str


class ConfigService:
    """Shows the configuration, and asks for changes.

    :param jobs: asks the machine.
    :param patient: asks it what takes longer.
    :param link: to the gateway.
    """

    def __init__(self, jobs: JobsClient, patient: JobsClient, link: GatewayLink) -> None:
        self._jobs = jobs
        self._patient = patient
        self._link = link
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._schema: tuple[int, SchemaDocument] | None = None
        self._schema_turn = asyncio.Lock()

    async def read(self) -> Config:
        """Return both layers as they are.

        :raises Refusal: 409, the operator's holds a secret.
        """
        found = await self._info()
        await asyncio.to_thread(refuse_secrets, found["text"])
        known = found["known_good"]
        return Config.model_validate({**found, "known_good": known["digest"] if known else None})

    async def read_known_good(self) -> KnownGood:
        """Return what was there before the last change.

        :raises Refusal: 404, there was none; 409, it holds a secret.
        """
        known = (await self._info())["known_good"]
        if known is None:
            raise Refusal(404, "Not found", "the configuration of before is kept with the first change")
        await asyncio.to_thread(refuse_secrets, known["text"])
        return KnownGood.model_validate(known)

    async def check(self, text: str | None) -> ConfigCheck:
        """Have the bot's own OpenClaw look at a text, or at the one that is installed.

        :raises Refusal: 429, too many wait for that already.
        """
        if text is not None:
            _require_size(text)
        async with self._taking_turns():
            found = (await self._patient.ask("config_check", text=text))["check"]
        problems = [ConfigProblem.model_validate(problem) for problem in found["problems"]]
        return ConfigCheck(valid=not problems, problems=problems)

    async def save(self, text: str, if_match: str | None) -> dict[str, Any]:
        """Ask for a change.

        :param if_match: header of the request.
        :returns: the job.
        :raises Refusal: 428 or 412, it does not say what it was made from, or that is not what is there.
        """
        _require_size(text)
        base = await self._base(if_match)
        job: dict[str, Any] = (await self._jobs.ask("config", actor=_ACTOR, text=text, base=base))["job"]
        return job

    async def revert(self, if_match: str | None) -> dict[str, Any]:
        """Ask for what was there before the last change; otherwise as :meth:`save`."""
        base = await self._base(if_match)
        job: dict[str, Any] = (await self._jobs.ask("config_revert", actor=_ACTOR, base=base))["job"]
        return job

    async def find_ollama(self) -> OllamaModels:
        """Have the machine ask the bot's Ollama for its models.

        :raises Refusal: as with :meth:`check`.
        """
        async with self._taking_turns():
            return OllamaModels.model_validate((await self._patient.ask("ollama_info"))["ollama"])

    async def read_schema(self) -> SchemaDocument:
        """Return the schema of the OpenClaw that runs; it is read once for each connection to it.

        :raises Refusal: the gateway does not answer, or no such thing.
        """
        async with self._schema_turn:
            if self._schema is not None and self._link.connected and self._schema[0] == self._link.generation:
                return self._schema[1]
            payload = await self._link.call("config.schema", largest=LARGEST_FRAME, seconds=30)
            document = _schema_document(payload)
            self._schema = (self._link.generation, document)
            return document

    @asynccontextmanager
    async def _taking_turns(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise Refusal(429, "Too many", f"{_MOST_WAITING} texts wait to be looked at; ask in a moment")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _info(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._jobs.ask("config_info"))["config"]
        return found

    async def _base(self, if_match: str | None) -> str:
        base = (if_match or "").strip().removeprefix('"').removesuffix('"')
        if not base or base == "*":
            raise Refusal(428, "Name what it is based on", "send the ETag of GET /gateway/config as If-Match")
        # The machine looks again when the job's turn comes; this is for a quick word.
        if (await self._info())["digest"] != base:
            raise Refusal(412, "Changed meanwhile", "the configuration is another one now; load it again")
        return base


def etag_of(digest: str) -> str:
    """A digest as ``ETag`` has it."""
    return f'"{digest}"'


def _require_size(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal(422, "Malformed", "the text holds half a character (a lone surrogate)") from None
    if size > TEXT_BYTES:
        raise Refusal(413, "Too large", f"the text has {size} bytes, at most {TEXT_BYTES} are taken")


def _schema_document(payload: Any) -> SchemaDocument:
    parts = {name: payload.get(name) for name in ("schema", "uiHints", "version")} if isinstance(payload, dict) else {}
    if not isinstance(parts.get("schema"), dict) or not isinstance(parts.get("uiHints"), (dict, type(None))):
        raise GatewayMisbehaves("its schema of the configuration is none")
    try:
        body = json.dumps(parts, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise GatewayMisbehaves("its schema of the configuration is no JSON") from None
    return SchemaDocument(body, etag_of(hashlib.sha256(body).hexdigest()))
