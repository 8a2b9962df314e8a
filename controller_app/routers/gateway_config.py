"""OpenClaw's configuration, for the operator. The machine validates and installs; here it is only asked for."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from ..dependencies import ConfigServiceDep, require_operator
from ..schemas.gateway_config import (
    ChangedText,
    Config,
    ConfigCheck,
    ConfigText,
    KnownGood,
    NewModel,
    OllamaModels,
)
from ..schemas.promotion import Job
from ..services.config_text import add_model, formatted
from ..services.gateway_config import etag_of

#: Where a text is sent.
PATHS = ("/gateway/config", "/gateway/config/validate", "/gateway/config/format", "/gateway/config/ollama")
IfMatch = Annotated[
    str | None, Header(description="`ETag` of `GET /gateway/config`: what the change was made from.", max_length=200)
]

router = APIRouter(prefix="/gateway/config", tags=["configuration"], dependencies=[Depends(require_operator)])


@router.get("")
async def read_config(config: ConfigServiceDep, response: Response) -> Config:
    """Return the operator's layer, and what ClawFactory manages."""
    found = await config.read()
    response.headers["ETag"] = etag_of(found.digest)
    return found


@router.post("", status_code=202)
async def save_config(body: ConfigText, config: ConfigServiceDep, if_match: IfMatch = None) -> Job:
    """Save the operator's layer: validated, installed, the gateway restarted; put back if it does not get ready."""
    return Job.model_validate(await config.save(body.text, if_match))


@router.get("/validate")
async def validate_installed(config: ConfigServiceDep) -> ConfigCheck:
    """Have the bot's own OpenClaw look at what is installed; takes some seconds."""
    return await config.check(None)


@router.post("/validate")
async def validate_text(body: ConfigText, config: ConfigServiceDep) -> ConfigCheck:
    """Have the bot's own OpenClaw look at a text; takes some seconds and changes nothing."""
    return await config.check(body.text)


@router.post("/format")
async def format_config(body: ConfigText) -> ChangedText:
    """Set the lines of a text anew; comments, quotes and numbers stay as they are. Nothing is saved."""
    return ChangedText(text=await asyncio.to_thread(formatted, body.text))


@router.get("/ollama")
async def find_ollama(config: ConfigServiceDep) -> OllamaModels:
    """Have the machine ask the bot's Ollama for its models, and how large a context it has room for."""
    return await config.find_ollama()


@router.post("/ollama")
async def add_ollama_model(body: NewModel) -> ChangedText:
    """Put a model into a text, and touch nothing else in it. Nothing is saved."""
    return ChangedText(text=await asyncio.to_thread(add_model, body))


@router.get("/known-good")
async def read_known_good(config: ConfigServiceDep) -> KnownGood:
    """Return the operator's layer from before the last change."""
    return await config.read_known_good()


@router.post("/revert", status_code=202)
async def revert_config(config: ConfigServiceDep, if_match: IfMatch = None) -> Job:
    """Take the layer from before the last change, in the same way as a save."""
    return Job.model_validate(await config.revert(if_match))


@router.get(
    "/schema",
    response_class=Response,
    responses={
        200: {
            "description": "JSON Schema of the OpenClaw that runs, with its hints for editors.",
            "content": {
                "application/json": {"example": {"schema": {"type": "object"}, "uiHints": {}, "version": "2026.9.6"}}
            },
        },
        304: {"description": "The browser has it."},
    },
)
async def read_schema(
    config: ConfigServiceDep, if_none_match: Annotated[str | None, Header(max_length=200)] = None
) -> Response:
    """Return what may stand in the configuration."""
    document = await config.read_schema()
    headers = {"ETag": document.etag, "Cache-Control": "private, no-cache"}
    if if_none_match == document.etag:
        return Response(status_code=304, headers=headers)
    return Response(document.body, media_type="application/json", headers=headers)
