"""Secrets in what a bot proposes: known values by keyed fingerprints, and known shapes of keys and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
#: Shorter values stand in ordinary texts.
SHORTEST = 8


@dataclass(frozen=True)
class Fingerprints:
    """What is known of a bot's secrets without the secrets.

    :param key: key of the digests, random for each file.
    :param alphabet: every byte that occurs in a value.
    :param digests: length of a value in bytes to the digests of all values of that length.
    """

    key: bytes = field(repr=False)
    alphabet: bytes = field(repr=False)
    digests: Mapping[int, frozenset[bytes]] = field(repr=False)

    @classmethod
    def from_dict(cls, data: Any) -> Fingerprints:
        """:raises InvalidInput: ``data`` is not what :func:`make_fingerprints` makes."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path) -> Fingerprints:
        """:raises InvalidInput: the file is missing or damaged; without it nothing may be called free of secrets."""
        raise NotImplementedError


def make_fingerprints(values: Iterable[str], key: bytes | None = None) -> dict[str, Any]:
    """JSON data from which no value can be read, but by which each can be recognised.

    :param values: secrets; those shorter than :data:`SHORTEST` bytes are left out.
    :param key: 32 bytes, ``None`` makes a new one.
    """
    raise NotImplementedError


def find_secrets(data: bytes, path: str, fingerprints: Fingerprints | None) -> list[str]:
    """What looks like a secret in ``data``, one sentence each, never with the secret itself.

    :param path: what to call ``data`` in the sentences: a path, ``the message of commit …``.
    :param fingerprints: ``None`` looks for known shapes only.
    """
    raise NotImplementedError
