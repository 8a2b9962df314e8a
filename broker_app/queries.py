"""Query strings: a table of keys per endpoint, and nothing that a second parser could read otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .json_strict import parse_object
from .refusal import Refused
from .settings import Settings

Value = str | int | bool

LARGEST_TAIL = 5000
_LONGEST = 8192
_LONGEST_FILTERS = 4096
_MOST_FILTER_VALUES = 16
_STATUSES = frozenset({"created", "restarting", "running", "removing", "paused", "exited", "dead"})
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]+")


@dataclass(frozen=True)
class QuerySpec:
    """The query of one endpoint.

    :param keys: allowed key to the parser of its value, which raises ValueError for a value it does not accept.
    :param required: keys that must be there.
    :param defaults: values of absent keys.
    """

    keys: Mapping[str, Callable[[str], Value]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    defaults: Mapping[str, Value] = field(default_factory=dict)


def parse_query(endpoint_spec: QuerySpec, raw: str) -> dict[str, Value]:
    """Parse the text after ``?`` (empty when there is none).

    :param raw: as received. Only the value of ``filters`` may be percent-encoded.
    :returns: the values by key. ``filters`` is JSON text built anew: ``{"label": ["…"], …}``, each key optional.
    :raises Refused: 400.
    """
    if len(raw) > _LONGEST:
        raise Refused(400, "the query is too long")
    values: dict[str, Value] = {}
    for pair in raw.split("&") if raw else []:
        key, equals, text = pair.partition("=")
        parser = endpoint_spec.keys.get(key)
        if parser is None:
            raise Refused(400, "the query has an unknown key")
        if key in values:
            raise Refused(400, "the query has a key twice")
        if not equals or not text or (parser is not _filters and not _PLAIN.fullmatch(text)):
            raise Refused(400, f"the query's {key} is blank or has a character that is not allowed")
        try:
            values[key] = parser(text)
        except (ValueError, Refused):
            raise Refused(400, f"the query's {key} has a value that is not allowed") from None
    if not endpoint_spec.required <= values.keys():
        raise Refused(400, "the query lacks a key")
    return {**endpoint_spec.defaults, **values}


def own_filters(settings: Settings, filters: str | None, *, sandboxes_only: bool) -> str:
    """Filters for the engine's list of containers that let only this bot's containers through.

    :param filters: a value of :func:`parse_query`, or ``None``.
    :param sandboxes_only: leave the bot's gateway, proxy and so on out.
    """
    asked: dict[str, list[str]] = json.loads(filters) if filters else {}
    labels = settings.sandbox_labels.items() if sandboxes_only else [("clawfactory.bot", settings.bot)]
    forced = [f"{name}={value}" for name, value in labels]
    return json.dumps({**asked, "label": [*asked.get("label", []), *forced]}, separators=(",", ":"))


def _flag(text: str) -> bool:
    try:
        return {"1": True, "true": True, "0": False, "false": False}[text]
    except KeyError:
        raise ValueError from None


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    expression = re.compile(pattern)

    def parse(text: str) -> str:
        if not expression.fullmatch(text):
            raise ValueError
        return text

    return parse


def _size_never(text: str) -> bool:
    if _flag(text):  # makes the engine measure the file system
        raise ValueError
    return False


def _filters(text: str) -> str:
    if len(text) > _LONGEST_FILTERS or not re.fullmatch(r"(?:[A-Za-z0-9_.~+!*'():;,/=-]|%[0-9A-Fa-f]{2})+", text):
        raise ValueError
    document = parse_object(unquote_to_bytes(text.replace("+", " ")), _LONGEST_FILTERS)
    return json.dumps({key: _filter_values(key, value) for key, value in document.items()}, separators=(",", ":"))


def _filter_values(key: str, value: object) -> list[str]:
    pattern = _FILTERS.get(key)
    if pattern is None:
        raise ValueError
    # Clients of API 1.22 and later send {"value": true}, older ones ["value"].
    if isinstance(value, dict):
        if any(item is not True for item in value.values()):
            raise ValueError
        value = list(value)
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_FILTER_VALUES:
        raise ValueError
    if not all(isinstance(item, str) and pattern(item) for item in value):
        raise ValueError
    return value


def _is(pattern: str) -> Callable[[str], bool]:
    expression = re.compile(pattern)
    return lambda text: expression.fullmatch(text) is not None


_FILTERS: Mapping[str, Callable[[str], bool]] = {
    "label": _is(r"[A-Za-z0-9._-]{1,128}(?:=[ -~]{0,256})?"),
    # The engine reads a name as a regular expression (RE2): anchors are all of it that is let through.
    "name": _is(r"\^?/?[A-Za-z0-9_.-]{1,128}\$?"),
    "status": lambda text: text in _STATUSES,
    "id": _is(r"[0-9a-f]{1,64}"),
}
_SECONDS = _number(0, 60)
_TIME = _matching(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")  # UNIX time in seconds

NO_QUERY = QuerySpec()
CONTAINER_CREATE = QuerySpec({"name": _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,127}")}, required=frozenset({"name"}))
CONTAINER_LIST = QuerySpec({"all": _flag, "limit": _number(1, 10_000), "filters": _filters})
CONTAINER_INSPECT = QuerySpec({"size": _size_never})
CONTAINER_STOP = QuerySpec({"t": _SECONDS})
CONTAINER_RESTART = QuerySpec({"t": _SECONDS})
CONTAINER_REMOVE = QuerySpec({"force": _flag, "v": _flag})
CONTAINER_LOGS = QuerySpec(
    {
        "stdout": _flag,
        "stderr": _flag,
        "follow": _flag,
        "timestamps": _flag,
        "tail": _number(0, LARGEST_TAIL),
        "since": _TIME,
        "until": _TIME,
    },
    defaults={"tail": LARGEST_TAIL},
)
EXEC_RESIZE = QuerySpec({"h": _number(1, 10_000), "w": _number(1, 10_000)}, required=frozenset({"h", "w"}))

#: Every endpoint's table, for tests and for reading.
ENDPOINTS: Sequence[QuerySpec] = (
    NO_QUERY,
    CONTAINER_CREATE,
    CONTAINER_LIST,
    CONTAINER_INSPECT,
    CONTAINER_STOP,
    CONTAINER_RESTART,
    CONTAINER_REMOVE,
    CONTAINER_LOGS,
    EXEC_RESIZE,
)
