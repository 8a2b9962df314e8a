"""What can be done to a text of the configuration without asking anybody."""

from __future__ import annotations

from urllib.parse import quote

from clawfactory_core.errors import CoreError
from clawfactory_core.jobs.protocol import Refusal
from clawfactory_core.json5 import parse
from clawfactory_core.json5_edit import append_to, format_text, refuse_twice
from clawfactory_core.overrides import plain_secrets

from ..schemas.gateway_config import NewModel


def refuse_secrets(text: str) -> None:
    """Keep a text to the machine that somebody wrote a secret into there; by the controller none gets in.

    :raises Refusal: 409, names the places.
    """
    try:
        value, places = parse(text)
    except CoreError:
        return  # it cannot run either, and has to be seen to be corrected
    found = plain_secrets(value)
    if found:
        by_name = {".".join(map(str, keys)): place[0] for keys, place in places.items()}
        named = ", ".join(f"{path} (line {by_name[path]})" if path in by_name else path for path in found[:5])
        raise Refusal(
            409,
            "Holds a secret",
            f"operator.json5 holds a secret in plain text and is not shown: {named}. On the machine, put it into "
            "secrets_env and write ${NAME} in its place",
        )


def add_model(wanted: NewModel) -> str:
    """The text with a model of Ollama in it.

    :raises Conflict: it has that model.
    :raises InvalidInput: it is no JSON5, or something else stands in the place.
    """
    path = ("models", "providers", wanted.provider, "models")
    model: dict[str, str | int] = {"id": wanted.model, "name": wanted.model}
    # The window is the model's own; what is sent to Ollama as num_ctx is contextTokens.
    if wanted.context:
        model["contextWindow"] = wanted.context
    if wanted.tokens:
        model["contextTokens"] = wanted.tokens
    refuse_twice(wanted.text, path, "id", wanted.model)
    return append_to(wanted.text, path, model)


def formatted(text: str) -> str:
    """The text with its lines set anew.

    :raises Json5Error: it is no JSON5.
    """
    return format_text(text)


def editor_link(pattern: str, path: str, line: int | None) -> str:
    """Where a line opens in the operator's editor.

    :param line: ``None`` leaves ``{line}`` to the page.
    """
    # "file/{path}" with an absolute path would have two slashes.
    link = pattern.replace("/{path}", quote(path)).replace("{path}", quote(path))
    return link if line is None else link.replace("{line}", str(max(line, 1)))
