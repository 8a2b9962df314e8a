"""Models that a bot's Ollama has, and how large a context the machine has room for.

The machine asks: neither the controller nor anything else of the bot but its gateway may reach Ollama. Only the
addresses that ClawFactory's own layer of the configuration names are asked, never one that a request brings.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .endpoints import parse_url
from .errors import CoreError

#: Bytes of a number in the cache of keys and values: f16, unless OLLAMA_KV_CACHE_TYPE says otherwise.
CACHE_BYTES = 2
#: Ollama works a prompt off in batches of 512 tokens; what they pay attention to takes 4 bytes (f32) each.
BATCH, ATTENTION_BYTES = 512, 4
#: What stays free for the bot and the rest of the machine.
RESERVE_BYTES, RESERVE_SHARE = 1 << 30, 0.1
#: A context is a multiple of this, and not smaller than what Ollama takes when nobody asks.
STEP, SMALLEST = 1024, 4096

_MOST_MODELS = 50
_SECONDS = 5.0
_ALL_SECONDS = 60.0
_ANSWER_BYTES = 4 << 20
_LOOPBACK = "127.0.0.1"
_NAME = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True)
class Shape:
    """What a model takes, as Ollama tells it.

    :param weights: bytes of the file.
    :param context: the most tokens that it was trained for.
    :param cached: numbers that one token adds to the cache, over all layers.
    :param heads: of attention, in the layer that has most.
    """

    weights: int
    context: int
    cached: int
    heads: int


@dataclass(frozen=True)
class Memory:
    """Of this machine, in bytes, as ``/proc/meminfo`` has it."""

    available: int
    total: int

    @property
    def reserve(self) -> int:
        """What no model gets."""
        return max(RESERVE_BYTES, int(self.total * RESERVE_SHARE))


@dataclass(frozen=True)
class Model:
    """A model that is there.

    :param context: what it was trained for, 0 if unknown.
    :param tokens: the context that there is room for, 0 if there is none or it is not known.
    :param problem: why ``tokens`` is 0.
    """

    name: str
    size: int
    context: int = 0
    tokens: int = 0
    problem: str = ""


def context_tokens(shape: Shape, memory: Memory) -> int:
    """How many tokens of context fit into what is free beside the model itself; 0 if it does not fit.

    Each token takes its keys and values, and its column in the attention of a batch.
    """
    token = shape.cached * CACHE_BYTES + BATCH * ATTENTION_BYTES * (1 + shape.heads)
    free = memory.available - memory.reserve - shape.weights
    room = free // token
    # A model that was trained for less than the least is used as it is.
    least = min(SMALLEST, shape.context)
    return max(min(room, shape.context) // STEP * STEP, least) if room >= least else 0


def read_shape(weights: int, info: Mapping[str, Any]) -> Shape:
    """From ``model_info`` of ``/api/show``, whose names are those of GGUF.

    :raises ValueError: it lacks something, or that makes no sense.
    """
    family = info.get("general.architecture")

    def number(name: str, default: int | None = None) -> int:
        found = info.get(f"{family}.{name}", default)
        found = max(found) if isinstance(found, list) and found and _counts(found) else found
        if not _count(found) or not 0 < found < 1 << 40:
            raise ValueError(f"it does not say its {name.replace('.', ' ').replace('_', ' ')}")
        return int(found)

    layers, heads = number("block_count"), number("attention.head_count")
    width = -(-number("embedding_length", heads) // heads)
    head = number("attention.key_length", width) + number("attention.value_length", width)
    groups = info.get(f"{family}.attention.head_count_kv", heads)
    # A list has a count for each layer, 0 for one that keeps no cache of its own.
    cached = sum(groups) if isinstance(groups, list) and _counts(groups) else number("attention.head_count_kv", heads)
    cached = cached if isinstance(groups, list) else cached * layers
    return Shape(weights, number("context_length"), cached * head, heads)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(values: list[Any]) -> bool:
    return all(_count(value) for value in values)


def read_memory(path: Path = Path("/proc/meminfo")) -> Memory:
    """What is free.

    :raises CoreError: the kernel does not say.
    """
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", path.read_text(encoding="ascii"), re.MULTILINE))
    if len(found) != 2:
        raise CoreError(f"{path} does not say how much memory there is")
    return Memory(int(found["MemAvailable"]) << 10, int(found["MemTotal"]) << 10)


def find_models(managed: str) -> dict[str, Any]:
    """Ask every Ollama that a configuration names for its models.

    :param managed: text of ``openclaw.json``, ours.
    """
    memory = read_memory()
    deadline = time.monotonic() + _ALL_SECONDS
    return {
        "available": memory.available,
        "total": memory.total,
        "reserve": memory.reserve,
        "providers": [_provider(name, url, memory, deadline) for name, url in _ollamas(managed)],
    }


def _ollamas(managed: str) -> list[tuple[str, str]]:
    try:
        providers = json.loads(managed)["models"]["providers"].items()
        found = [(str(name), one["baseUrl"]) for name, one in providers if one.get("api") == "ollama"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [(name, url) for name, url in found if isinstance(url, str)]


def _provider(name: str, url: str, memory: Memory, deadline: float) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": name, "url": url, "problem": "", "models": []}
    try:
        endpoint = parse_url(url)
        if endpoint.kind == "public":
            raise CoreError(
                "it is on the internet, where the memory of this machine says nothing; name its models by hand"
            )
        # Where containers reach it at the machine's name, the machine reaches it at its own.
        host = _LOOPBACK if endpoint.kind == "machine" else endpoint.host
        ask = _Asking(host, endpoint.port, endpoint.tls, urlsplit(url).path.rstrip("/"), deadline)
        known = memory if endpoint.kind == "machine" else None
        answer["models"] = [asdict(model) for model in _models(ask, known)]
    except (CoreError, ValueError) as error:
        answer["problem"] = str(error)
    return answer


def _models(ask: _Asking, memory: Memory | None) -> list[Model]:
    listed = ask("GET", "/api/tags").get("models")
    if not isinstance(listed, list):
        raise CoreError("what answers there is not Ollama: it lists no models")
    found = []
    for entry in listed[:_MOST_MODELS]:
        name = entry.get("name") if isinstance(entry, dict) else None
        size = entry.get("size") if isinstance(entry, dict) else None
        if isinstance(name, str) and _NAME.fullmatch(name) and _count(size):
            found.append(_model(ask, name, int(size or 0), memory))
    return found


def _model(ask: _Asking, name: str, size: int, memory: Memory | None) -> Model:
    try:
        info = ask("POST", "/api/show", {"model": name}).get("model_info")
        shape = read_shape(size, info if isinstance(info, dict) else {})
    except (CoreError, ValueError) as error:
        return Model(name, size, problem=str(error))
    if memory is None:
        return Model(name, size, shape.context, problem="it runs on another machine, whose memory is not known here")
    tokens = context_tokens(shape, memory)
    return Model(name, size, shape.context, tokens, "" if tokens else "there is not enough free memory for it")


@dataclass(frozen=True)
class _Asking:
    """Asks one Ollama; redirects are not followed, and no proxy of the environment is used."""

    host: str
    port: int
    tls: bool
    path: str
    deadline: float

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """:raises CoreError: it does not answer, or not as Ollama does."""
        where = f"Ollama at {self.host}:{self.port}"
        seconds = min(_SECONDS, self.deadline - time.monotonic())
        if seconds <= 0:
            raise CoreError(f"{where} took too long over its models")
        make = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = make(self.host, self.port, timeout=seconds)
        try:
            connection.request(
                method,
                f"{self.path}{path}",
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json", "Accept": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read(_ANSWER_BYTES + 1)
            if answer.status != http.client.OK or len(text) > _ANSWER_BYTES:
                raise CoreError(f"{where} answered {path} with status {answer.status}, {len(text)} bytes")
            found = json.loads(text)
        except (OSError, http.client.HTTPException) as error:
            raise CoreError(f"{where} does not answer: {error or type(error).__name__}") from error
        except (ValueError, RecursionError) as error:
            raise CoreError(f"{where} answered {path} with what is no JSON") from error
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise CoreError(f"{where} answered {path} with what is no object")
        return found
