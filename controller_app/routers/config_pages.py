"""The page of the configuration. It works as plain forms; scripts make the field an editor and ask without reloading.

Nothing is saved without having been validated and shown as a change, and each form says what its text was made from.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from pydantic import StringConstraints
from starlette.responses import RedirectResponse, Response

from clawfactory_core.errors import Conflict, CoreError
from clawfactory_core.jobs.protocol import Refusal

from ..dependencies import ConfigServiceDep, get_services, redeem_link_token, require_page_operator
from ..schemas.gateway_config import Config, Digest, NewModel, Text
from ..services.config_text import add_model, editor_link, formatted
from ..services.diff import compare
from ..services.gateway_config import ConfigService
from ..web import render_page

_NAME = "operator.json5"
_POSTS = ("edit", "check", "format", "models", "review", "save")
#: Where a text is sent.
PATHS = tuple(f"/pages/config/{name}" for name in _POSTS)
TextField = Annotated[Text, Form()]
BaseField = Annotated[Digest, Form()]
#: Of a button beside a model: what the API takes, as JSON, without the text.
ModelField = Annotated[str, StringConstraints(max_length=1000), Form()]

router = APIRouter(include_in_schema=False, dependencies=[Depends(redeem_link_token), Depends(require_page_operator)])


@router.get("/pages/config")
async def read_config(request: Request, config: ConfigServiceDep) -> Response:
    """Show the operator's layer, to be changed."""
    found = await config.read()
    return _page(request, found, found.text, found.digest)


@router.post("/pages/config/edit")
async def edit(request: Request, text: TextField, base: BaseField, config: ConfigServiceDep) -> Response:
    """Go on with a text that was reviewed."""
    return _page(request, await config.read(), _lines(text), base)


@router.post("/pages/config/check")
async def check(request: Request, text: TextField, base: BaseField, config: ConfigServiceDep) -> Response:
    """Have the bot's own OpenClaw look at the text."""
    text = _lines(text)
    checked = await config.check(text)
    said = ("good", "OpenClaw takes this text.") if checked.valid else None
    return _page(request, await config.read(), text, base, problems=checked.problems, said=said)


@router.post("/pages/config/format")
async def set_lines(request: Request, text: TextField, base: BaseField, config: ConfigServiceDep) -> Response:
    """Set the lines of the text anew."""
    text, said = await _changed(formatted, _lines(text), _lines(text))
    return _page(request, await config.read(), text, base, said=said)


@router.post("/pages/config/models")
async def find_models(
    request: Request, text: TextField, base: BaseField, config: ConfigServiceDep, add: ModelField = ""
) -> Response:
    """Look for models of Ollama, or put one into the text."""
    text = _lines(text)
    if not add:
        try:
            models: Any = await config.find_ollama()
        except CoreError as error:
            models = str(error)
        return _page(request, await config.read(), text, base, models=models)
    try:
        wanted = NewModel.model_validate_json(add).model_copy(update={"text": text})
    except ValueError:
        raise HTTPException(422, "Nothing was added: the model is not named as the page names it.") from None
    text, said = await _changed(add_model, wanted, text)
    return _page(
        request,
        await config.read(),
        text,
        base,
        said=said or ("good", f"{wanted.model} is in the text now. Nothing is saved yet."),
    )


@router.post("/pages/config/review")
async def review(request: Request, text: TextField, base: BaseField, config: ConfigServiceDep) -> Response:
    """Validate the text, and show what saving it would change."""
    text = _lines(text)
    found = await config.read()
    if found.digest != base:
        return await _conflict(request, found, text)
    if text == found.text:
        return _page(request, found, text, base, said=("wait", "The text is as it is saved; there is nothing to save."))
    checked = await config.check(text)
    if not checked.valid:
        return _page(request, found, text, base, problems=checked.problems, status=422)
    diff = await asyncio.to_thread(compare, _NAME, found.text, text)
    return render_page(request, "config_review.html", {"diff": diff, "text": text, "base": base, "revert": False})


@router.post("/pages/config/save")
async def save(request: Request, text: TextField, base: BaseField, config: ConfigServiceDep) -> Response:
    """Save what was shown, if nobody else was first."""
    text = _lines(text)
    try:
        return _job(request, await config.save(text, base))
    except Refusal as error:
        if error.status != 412:
            raise
    return await _conflict(request, await config.read(), text)


@router.get("/pages/config/revert")
async def read_revert(request: Request, config: ConfigServiceDep) -> Response:
    """Show what going back would change."""
    found, known = await _both(config)
    diff = await asyncio.to_thread(compare, _NAME, found.text, known)
    return render_page(
        request, "config_review.html", {"diff": diff, "text": known, "base": found.digest, "revert": True}
    )


@router.post("/pages/config/revert")
async def revert(request: Request, base: BaseField, config: ConfigServiceDep) -> Response:
    """Go back."""
    return _job(request, await config.revert(base))


async def _both(config: ConfigService) -> tuple[Config, str]:
    found, known = await asyncio.gather(config.read(), config.read_known_good())
    return found, known.text


async def _changed(change: Any, argument: Any, text: str) -> tuple[str, tuple[str, str] | None]:
    """The text after a change, or as it was, with the reason."""
    try:
        return await asyncio.to_thread(change, argument), None
    except CoreError as error:
        return text, ("wait" if isinstance(error, Conflict) else "bad", str(error))


async def _conflict(request: Request, found: Config, text: str) -> Response:
    diff = await asyncio.to_thread(compare, _NAME, found.text, text)
    return _page(request, found, text, found.digest, conflict=diff, status=412)


def _page(request: Request, found: Config, text: str, base: str, *, status: int = 200, **more: Any) -> Response:
    """Show the field with a text.

    :param found: what is saved.
    :param base: what the text was made from.
    """
    settings = get_services(request).settings
    link = editor_link(settings.editor_url, settings.config_file, None) if settings.editor_url else ""
    shown: dict[str, Any] = {"problems": [], "conflict": None, "models": None, "said": None}
    context = {**shown, "found": found, "text": text, "base": base, "link": link, **more}
    return render_page(request, "config.html", context, status=status)


def _lines(text: str) -> str:
    """Browsers send the ends of lines as the network has them."""
    return text.replace("\r\n", "\n")


def _job(request: Request, job: dict[str, Any]) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/pages/jobs/{job['id']}", status_code=303)
