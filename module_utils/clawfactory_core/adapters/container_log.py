"""The end of a container's log, over the Docker engine's socket."""

from __future__ import annotations

import http.client
from urllib.parse import quote

from ..errors import CoreError
from .engine_socket import SOCKET, EngineUnavailable, _UnixConnection

_SECONDS = 10.0


def read_log(name: str, *, lines: int, largest: int, path: str = SOCKET) -> str:
    """The last lines that a container wrote to its standard output; what does not fit in ``largest`` bytes is missing.

    :raises EngineUnavailable: no engine answers.
    :raises CoreError: the engine has no such container, or refuses.
    """
    connection = _UnixConnection(path, _SECONDS)
    try:
        connection.request("GET", f"/containers/{quote(name)}/logs?stdout=true&tail={lines}")
        response = connection.getresponse()
        data = response.read(largest)
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnavailable(f"the Docker engine does not answer on {path}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise CoreError(f"the Docker engine answered {response.status} to the log of {name}")
    return demultiplexed(data).decode("utf-8", "replace")


def demultiplexed(raw: bytes) -> bytes:
    """Text of a log without the eight bytes before each piece of it (Docker API, 'Attach to a container')."""
    pieces, position = [], 0
    while position + 8 <= len(raw):
        size = int.from_bytes(raw[position + 4 : position + 8], "big")
        pieces.append(raw[position + 8 : position + 8 + size])
        position += 8 + size
    return b"".join(pieces)
