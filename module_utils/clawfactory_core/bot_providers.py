"""Reading ``bot_providers``: which model providers a bot uses, and how OpenClaw is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import endpoints, overrides
from .bot_plan import NeededKey, ProviderPlan, Reader
from .catalog import PROVIDERS_BY_NAME, Provider
from .endpoints import Endpoint

_ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
_ENV_RESERVED = re.compile(
    r"(?:OPENCLAW|CLAWFACTORY|CONTROLLER|NODE|NPM|LD|DOCKER)_.*|PATH|HOME|TMPDIR|(?:NO|HTTPS?|ALL)_PROXY"
)
_PROVIDER_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MODEL_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_PROVIDER_KEYS = ("name", "model", "models", "base_url", "api_key_env", "id")


def parse_providers(bot: str, raw: object) -> tuple[ProviderPlan, ...]:
    """Read ``bot_providers``; the first one's model is the bot's default.

    :raises InvalidInput: names bot, value and the way out.
    """
    reader = Reader(bot, "bot_providers", tuple(sorted(PROVIDERS_BY_NAME)))
    plans: dict[str, ProviderPlan] = {}
    for entry in reader.entries(raw):
        row = PROVIDERS_BY_NAME.get(entry["name"])
        if row is None:
            raise reader.unknown(entry["name"])
        plan = _parse_provider(reader, row, entry)
        if plan.id in plans:
            way = "give each its own 'id'" if row.repeatable else "name it once"
            raise reader.refuse(plan.id, f"occurs twice; {way}")
        plans[plan.id] = plan
    return tuple(plans.values())


def _parse_provider(reader: Reader, row: Provider, entry: Mapping[str, Any]) -> ProviderPlan:
    strange = sorted(str(key) for key in entry if key not in _PROVIDER_KEYS)
    if strange:
        raise reader.refuse(strange[0], f"no setting of a provider; known are {', '.join(_PROVIDER_KEYS)}")
    for key in ("model", "base_url", "api_key_env", "id"):
        if not isinstance(entry.get(key, ""), str) or entry.get(key) == "":
            raise reader.refuse(row.name, f"its '{key}' has to be text; leave it out if you do not need it")
    identity = _provider_id(reader, row, entry)
    endpoint = _endpoint(reader, row, entry, identity)
    models = _declared_models(reader, row, entry, identity)
    model = entry.get("model") or (str(models[0]["id"]) if models and "models" in entry else row.default_model)
    if not model:
        raise reader.refuse(identity, "an endpoint of your own needs 'model', the id under which it serves the model")
    model = bare_model(reader, identity, model)
    needed = _provider_key(reader, row, entry, identity, endpoint)
    return ProviderPlan(
        id=identity,
        row=row,
        model=f"{identity}/{model}",
        settings=_provider_settings(row, entry, needed, _with_model(models, model)),
        key=needed,
        endpoint=endpoint if entry.get("base_url") or not row.hosts else None,
        hosts=_provider_hosts(row, entry, endpoint),
    )


def _provider_id(reader: Reader, row: Provider, entry: Mapping[str, Any]) -> str:
    identity = str(entry.get("id", row.name))
    if not row.repeatable and "id" in entry:
        raise reader.refuse(identity, f"{row.name} has a fixed id; 'id' is for openai-compatible endpoints")
    taken = PROVIDERS_BY_NAME.get(identity)
    if not _PROVIDER_ID.fullmatch(identity) or (taken is not None and taken is not row):
        rule = "an id has 1 to 63 lower-case letters, digits and inner dashes, and is no known provider's name"
        raise reader.refuse(identity, rule)
    return identity


def _endpoint(reader: Reader, row: Provider, entry: Mapping[str, Any], identity: str) -> Endpoint | None:
    url = entry.get("base_url")
    if url and not row.api:
        way = "for another one use {name: openai-compatible, base_url: …}"
        raise reader.refuse(row.name, f"{row.name} has a fixed address; {way}")
    if not url and not row.base_url and row.api:
        raise reader.refuse(identity, "needs 'base_url', like https://llm.example.com/v1")
    if not url and not row.base_url:
        return None
    try:
        endpoint = endpoints.parse_url(str(url or row.base_url), f"provider {identity}")
    except ValueError as error:
        shown = re.sub(r"//.*@", "//***@", str(url), flags=re.DOTALL)
        raise reader.refuse(shown, f"base_url of {identity} cannot be used: {error}") from None
    if row.api == "ollama" and str(url).rstrip("/").endswith("/v1"):
        raise reader.refuse(url, "OpenClaw speaks Ollama's own protocol; leave out '/v1'")
    if endpoint.kind == "public" and not endpoint.tls and (entry.get("api_key_env") or row.key.required):
        raise reader.refuse(url, "would send the key unencrypted through the internet; use https")
    return endpoint


def _provider_hosts(row: Provider, entry: Mapping[str, Any], endpoint: Endpoint | None) -> tuple[str, ...]:
    if endpoint is not None and entry.get("base_url"):
        return (endpoint.host,) if endpoint.ordinary else ()
    return row.hosts


def _declared_models(reader: Reader, row: Provider, entry: Mapping[str, Any], identity: str) -> list[dict[str, Any]]:
    raw = entry.get("models")
    if raw is None:
        return [dict(model) for model in row.models] if row.api else []
    if not row.api:
        raise reader.refuse(row.name, f"OpenClaw carries the models of {row.name}; name the one to use with 'model'")
    if not isinstance(raw, (list, tuple)) or not raw:
        raise reader.refuse(identity, "its 'models' has to be a list of model ids, or of mappings with 'id'")
    models = []
    for item in raw:
        model = dict(item) if isinstance(item, Mapping) else {"id": item}
        if not isinstance(model.get("id"), str):
            raise reader.refuse(identity, "every entry of its 'models' is a model id or a mapping with 'id'")
        model["id"] = bare_model(reader, identity, model["id"])
        if overrides.plain_secrets(model) or overrides.non_text_keys(model):
            raise reader.refuse(model["id"], "a model may hold neither keys in plain text nor names that are not text")
        models.append({"name": model["id"], **model})
    return models


def _with_model(models: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    known = any(entry["id"] == model for entry in models)
    return models if known else [{"id": model, "name": model}, *models]


def bare_model(reader: Reader, identity: str, model: str) -> str:
    """Model id without the provider in front: both spellings are common."""
    bare = model[len(identity) + 1 :] if model.startswith(f"{identity}/") else model
    if not _MODEL_ID.fullmatch(bare):
        raise reader.refuse(model, f"no model id of {identity}; it has 1 to 200 characters without white space")
    return bare


def _provider_key(
    reader: Reader, row: Provider, entry: Mapping[str, Any], identity: str, endpoint: Endpoint | None
) -> NeededKey | None:
    env = entry.get("api_key_env")
    if env is not None and (not _ENV_NAME.fullmatch(env) or _ENV_RESERVED.fullmatch(env)):
        # Whoever pastes the key itself here must not find it in the output.
        rule = "its 'api_key_env' is not a free name of A-Z, 0-9 and _, like MY_LLM_API_KEY (value not shown)"
        raise reader.refuse(identity, f"{rule}; put the key into secrets_env under such a name")
    # Ollama asks for a key wherever it is not in a network of its owner.
    remote = row.api == "ollama" and endpoint is not None and endpoint.kind == "public"
    if env is None and not row.key.required and not remote:
        return None
    return NeededKey(env or row.key.env, f"provider {identity}", row.key.title, row.key_url)


def _provider_settings(
    row: Provider, entry: Mapping[str, Any], key: NeededKey | None, models: list[dict[str, Any]]
) -> dict[str, Any]:
    if not row.api:
        # OpenClaw finds the usual name in the environment; another one has to be told.
        renamed = key is not None and key.env != row.key.env
        return {"apiKey": secret_ref(key.env)} if key is not None and renamed else {}
    return {
        "api": row.api,
        "apiKey": secret_ref(key.env) if key else row.keyless,
        "baseUrl": str(entry.get("base_url") or row.base_url).rstrip("/"),
        "models": models,
    }


def secret_ref(env: str) -> dict[str, str]:
    """OpenClaw's SecretRef: unlike ``${NAME}`` it makes the gateway refuse to start when the variable is missing."""
    return {"source": "env", "provider": "default", "id": env}
