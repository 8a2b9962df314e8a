"""Connects to a server through a proxy and hands the connection to ssh, which started this (``ProxyUseFdpass``).

Usage: ``python -I tunnel.py http://PROXY:PORT HOST PORT``, with a unix socket as standard output. Needs no library.
"""

import array
import socket
import sys
from urllib.parse import urlsplit

_SECONDS = 45.0  # egress itself gives up after 40
_LONGEST = 16 * 1024


class Refused(Exception):
    """The proxy does not connect."""


def connect(proxy: str, host: str, port: int) -> socket.socket:
    """Have the proxy connect.

    :raises Refused: it does not.
    :raises OSError: the proxy cannot be reached.
    """
    where = urlsplit(proxy)
    connection = socket.create_connection((where.hostname, where.port), timeout=_SECONDS)
    connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode("ascii"))
    answer = bytearray()
    # By single bytes: what follows the empty line is the server's, and ssh has to get it.
    while not answer.endswith(b"\r\n\r\n") and len(answer) < _LONGEST:
        byte = connection.recv(1)
        if not byte:
            break
        answer += byte
    first = bytes(answer.partition(b"\r\n")[0]).split(b" ", 2)
    if not answer.endswith(b"\r\n\r\n") or first[0] not in (b"HTTP/1.1", b"HTTP/1.0") or first[1:2] != [b"200"]:
        status = first[1].decode("ascii", "replace") if len(first) > 1 and first[1].isdigit() else "no status"
        raise Refused(f"egress does not connect to {host}:{port} ({status}); see egress_control_endpoints")
    connection.settimeout(None)
    return connection


def hand_over(connection: socket.socket, receiver: socket.socket) -> None:
    """Give the connection to who waits at the other end of ``receiver``."""
    descriptors = array.array("i", [connection.fileno()])
    receiver.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])


def main(arguments: list[str]) -> int:
    """Do it; 0 when the connection is handed over."""
    proxy, host, port = arguments
    try:
        connection = connect(proxy, host, int(port))
    except (OSError, Refused) as error:
        sys.stderr.write(f"tunnel: {error}\n")
        return 1
    # Standard output, which ssh made a socket.
    with connection, socket.socket(fileno=1) as receiver:
        hand_over(connection, receiver)
        receiver.detach()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
