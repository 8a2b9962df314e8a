"""Secrets in what a bot proposes: known values by keyed fingerprints, and known shapes of keys and tokens.

This is against accidents: a bot that wants to send a value of its own away can spell it in other ways.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from .secret_shapes import SHAPES

SCHEMA = 1
#: Shorter values (in bytes) stand in ordinary texts.
SHORTEST = 8
#: More in one text tell nobody more.
MAX_FINDINGS = 5
# A window is hashed only where a text's bytes, reduced to one of eight classes each, go like the first six of a value:
# with bytes.find this takes milliseconds, and the file tells 18 bits of a value for it.
_MARK, _CLASSES = 6, 8


@dataclass(frozen=True)
class Fingerprints:
    """What is known of a bot's secrets without the secrets.

    :param key: key of the digests, random for each file.
    :param marks: classes of the first bytes of a value to the lengths (in bytes) of the values that begin so.
    :param digests: of all values.
    """

    key: bytes = field(repr=False)
    marks: Mapping[bytes, tuple[int, ...]] = field(repr=False)
    digests: frozenset[bytes] = field(repr=False)

    @classmethod
    def from_dict(cls, data: Any) -> Fingerprints:
        """:raises InvalidInput: ``data`` is not what :func:`make_fingerprints` makes."""
        try:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r}")
            key = bytes.fromhex(data["key"])
            marks: dict[bytes, tuple[int, ...]] = {}
            for value in data["values"]:
                mark, length = bytes.fromhex(value["mark"]), value["length"]
                if len(mark) != _MARK or not isinstance(length, int) or length < SHORTEST:
                    raise ValueError("a value's mark or length")
                marks[mark] = (*marks.get(mark, ()), length)
            digests = frozenset(bytes.fromhex(value["digest"]) for value in data["values"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"the fingerprints of the bot's secrets are damaged ({error}); run site.yml") from error
        if len(key) != 32:
            raise InvalidInput("the fingerprints of the bot's secrets have no key; run site.yml")
        return cls(key, {mark: tuple(sorted(set(lengths))) for mark, lengths in marks.items()}, digests)

    @classmethod
    def load(cls, path: Path) -> Fingerprints:
        """:raises InvalidInput: the file is missing or damaged; without it nothing may be called free of secrets."""
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="ascii")))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read {path} ({error}); run site.yml") from error


def make_fingerprints(values: Iterable[str], key: bytes | None = None) -> dict[str, Any]:
    """JSON data from which no value can be read, but by which each can be recognised, in Base64 too.

    :param values: secrets; those shorter than :data:`SHORTEST` bytes are left out.
    :param key: 32 bytes, ``None`` makes a new one.
    """
    key = key or os.urandom(32)
    classes = _classes(key)
    found = {
        _digest(key, form): {
            "digest": _digest(key, form).hex(),
            "length": len(form),
            "mark": form[:_MARK].translate(classes).hex(),
        }
        for value in values
        if len(value.encode()) >= SHORTEST
        for form in _forms(value.encode())
    }
    # By digest: the order tells nothing.
    return {"schema": SCHEMA, "key": key.hex(), "values": [found[digest] for digest in sorted(found)]}


def kept_key(path: Path) -> bytes | None:
    """Key of an existing file, so that the same secrets give the same file; ``None`` when a new one is needed."""
    try:
        return Fingerprints.load(path).key
    except InvalidInput:
        return None


def find_secrets(data: bytes, path: str, fingerprints: Fingerprints | None) -> list[str]:
    """What looks like a secret in ``data``, at most five sentences, never with the secret itself.

    :param path: what to call ``data`` in the sentences: a path, ``the message of commit …``.
    :param fingerprints: ``None`` looks for known shapes only.
    """
    found = dict.fromkeys((*_known_values(data, fingerprints), *_known_shapes(data)))
    lines = ((data.count(b"\n", 0, position) + 1, kind) for position, kind in sorted(found))
    return [f"{path}, line {line}: {kind}" for line, kind in dict.fromkeys(lines)][:MAX_FINDINGS]


def _known_values(data: bytes, fingerprints: Fingerprints | None) -> Iterator[tuple[int, str]]:
    if fingerprints is None:
        return
    reduced = data.translate(_classes(fingerprints.key))
    for mark, lengths in fingerprints.marks.items():
        position = reduced.find(mark)
        while position >= 0:
            for length in lengths:
                if _digest(fingerprints.key, data[position : position + length]) in fingerprints.digests:
                    yield position, "a value from the bot's own secrets"
                    position = len(data)  # one is enough; a file full of them would take long
                    break
            position = reduced.find(mark, position + 1)


def _known_shapes(data: bytes) -> Iterator[tuple[int, str]]:
    for shape in SHAPES:
        position = shape.find(data)
        if position >= 0:
            yield position, f"what looks like {shape.kind}"


def _forms(value: bytes) -> set[bytes]:
    """The value as it is and in Base64, wherever it begins there and without what its neighbours decide."""
    forms = {value}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value)
        sure = encoded[(before * 8 + 5) // 6 : (before + len(value)) * 8 // 6]
        forms |= {sure, sure.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form for form in forms if len(form) >= SHORTEST}


def _digest(key: bytes, text: bytes) -> bytes:
    return hashlib.blake2b(text, key=key, digest_size=16).digest()


def _classes(key: bytes) -> bytes:
    """Table for ``bytes.translate`` that follows from the key."""
    stream = b"".join(hashlib.blake2b(bytes([part]), key=key, digest_size=64).digest() for part in range(4))
    return bytes(byte % _CLASSES for byte in stream)
