"""Asks a bot's gateway whether it is ready, through its proxy: the one who answers may be hostile."""

from __future__ import annotations

import re
import socket
import time

_MOST = 256
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")


def ready_status(port: int, seconds: float) -> int:
    """The status with which ``/readyz`` is answered.

    Not ``http.client``, which goes on reading for as long as "100 Continue" comes, and whose timeout is of each read.

    :param port: on ``127.0.0.1``.
    :param seconds: for all of it.
    :raises OSError: there is no answer in time, or it is none of HTTP.
    """
    end = time.monotonic() + seconds
    said = b""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port)
        while b"\n" not in said and len(said) < _MOST:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            connection.settimeout(left)
            piece = connection.recv(_MOST)
            if not piece:
                break
            said += piece
    status = _STATUS.match(said)
    if status is None:
        raise ConnectionError("it does not speak HTTP" if said else "it closes the connection without an answer")
    return int(status[1])
