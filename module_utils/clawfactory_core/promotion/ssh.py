"""A bot's repository over SSH: its address, who its server has to be, and how OpenSSH is called.

One directory holds all that ssh may know: ``key`` and ``key.pub``, ``known_hosts``, and ``passwd``. The last is for
``libnss_wrapper``, because ssh ends at once for a user id that has no name, and those of bots have none.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput

KEY, PUBLIC, KNOWN_HOSTS, PASSWD = "key", "key.pub", "known_hosts", "passwd"
#: Keys of servers that everybody knows, as published by their owners.
#: https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/githubs-ssh-key-fingerprints
PUBLISHED = {
    "github.com": ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",),
}
_PORT = 22
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_HOST = r"(?:(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\.)*(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.~+][A-Za-z0-9_.~+-]*"
_PATH = rf"{_NAME}(?:/{_NAME})*/?"
_URL = re.compile(rf"ssh://(?P<user>{_USER})@(?P<host>{_HOST})(?::(?P<port>[1-9][0-9]{{0,4}}))?/(?P<path>{_PATH})")
_SCP = re.compile(rf"(?P<user>{_USER})@(?P<host>{_HOST}):(?P<path>/?{_PATH})")
#: What Git takes for SSH, in all its spellings.
_LOOKS_LIKE = re.compile(r"(?:[a-z+]*ssh[a-z+]*)://|(?![a-z][a-z0-9+.-]*://)[^/:]+:(?!:)", re.IGNORECASE)
_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_PEM = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END OPENSSH PRIVATE KEY-----")
_MAGIC = b"openssh-key-v1\0"
#: Nothing of the machine's or the user's own, one key, one server, no way around either of them.
_OPTIONS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "PreferredAuthentications": "publickey",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "CheckHostIP": "no",
    "VerifyHostKeyDNS": "no",
    "CanonicalizeHostname": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
    # A server that does not answer, or no longer, is given up.
    "ConnectTimeout": "20",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "2",
}


@dataclass(frozen=True)
class SshAddress:
    """Where a repository is."""

    user: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """The server as ``known_hosts`` names it."""
        return self.host if self.port == _PORT else f"[{self.host}]:{self.port}"


def is_ssh(url: str) -> bool:
    """Whether Git would take the address for one of SSH, be it in a form that is refused here."""
    return _LOOKS_LIKE.match(url) is not None


def parse_ssh(url: str) -> SshAddress:
    """Take an address apart.

    :raises InvalidInput: it is not in one of the two forms that are taken; it is not shown.
    """
    match = _URL.fullmatch(url) or _SCP.fullmatch(url)
    port = int(match.groupdict().get("port") or _PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidInput(
            "the remote's SSH address is in no form that is taken here; write ssh://git@git.example.org:22/bot1.git or "
            "git@git.example.org:bot1.git, with a user, without a password, the path in letters, digits and . _ ~ + -"
        )
    return SshAddress(match["user"], match["host"].lower(), port)


def known_hosts(address: SshAddress, keys: Sequence[str]) -> str:
    """The file that says who the server has to be.

    :param keys: each ``TYPE BASE64``, or a line of ``ssh-keyscan``; none takes what the server's owner has published.
    :raises InvalidInput: there is no key, or one is of another form or of another server.
    """
    found = list(keys) or list(PUBLISHED.get(address.host, ()) if address.port == _PORT else ())
    if not found:
        raise InvalidInput(
            f"promotion_remote_host_keys names no key of {address.name}, so nobody could tell it from another server; "
            f"give the lines that 'ssh-keyscan -p {address.port} {address.host}' prints, after comparing them with "
            "what the server's owner says"
        )
    return "".join(f"{address.name} {_host_key(address, line)}\n" for line in found)


def public_key(private: str) -> str:
    """The public half (``TYPE BASE64``) of a private key in OpenSSH's own format, which holds it in plain.

    :raises InvalidInput: it is in another format, or has a passphrase; it is not shown.
    """
    way_out = "make one with: ssh-keygen -t ed25519 -N '' -f remote.key"
    match = _PEM.fullmatch(private.replace("\r\n", "\n").strip())
    try:
        data = base64.b64decode(match[1].replace("\n", ""), validate=True) if match else b""
    except binascii.Error:
        data = b""
    if not data.startswith(_MAGIC):
        raise InvalidInput(f"secrets_remote_key is no private key in OpenSSH's format; {way_out}")
    cipher, rest = _field(data[len(_MAGIC) :])
    if cipher != b"none":
        raise InvalidInput(f"secrets_remote_key has a passphrase, which nobody is there to type; {way_out}")
    for _ in range(2):
        _, rest = _field(rest)
    blob, _ = _field(rest[4:])
    kind = _field(blob)[0].decode("ascii", "replace")
    if rest[:4] != b"\0\0\0\1" or kind not in _KEY_TYPES:
        raise InvalidInput(f"secrets_remote_key is of a kind that is not taken; {way_out}")
    return f"{kind} {base64.b64encode(blob).decode()}"


def passwd(uid: int) -> str:
    """A name for a user id."""
    return f"clawfactory:x:{uid}:{uid}::/nonexistent:/bin/sh\n"


def ssh_command(directory: Path, tunnel: Sequence[str] = ()) -> str:
    """What Git runs as ssh.

    :param directory: with the files that are named above.
    :param tunnel: program that hands over a connection to the server; none connects directly.
    """
    options = {
        **_OPTIONS,
        "IdentityFile": str(directory / KEY),
        "UserKnownHostsFile": str(directory / KNOWN_HOSTS),
        **({"ProxyCommand": shlex.join(tunnel), "ProxyUseFdpass": "yes"} if tunnel else {}),
    }
    wrapper = {
        "LD_PRELOAD": "libnss_wrapper.so",
        "NSS_WRAPPER_PASSWD": str(directory / PASSWD),
        "NSS_WRAPPER_GROUP": "/dev/null",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    named = [f"{name}={value}" for name, value in wrapper.items()]
    return shlex.join(["env", *named, "ssh", "-F", "/dev/null", *words])


def explain(url: str, directory: Path, said: str) -> str:
    """What to do about an error of ssh; empty if nothing is known."""
    name = parse_ssh(url).name
    if "Host key verification failed" in said or "host key is known for" in said:
        return (
            f"{name} is not the server that promotion_remote_host_keys names, or has a new key: ask its owner, and put "
            "the new key there only if it is theirs"
        )
    if "Permission denied" in said:
        public = directory / PUBLIC
        shown = public.read_text(encoding="utf-8").strip() if public.is_file() else "that of secrets_remote_key"
        return f"{name} does not accept the bot's key; add this one there as a deploy key that may write: {shown}"
    if "No user exists for uid" in said:
        return "libnss_wrapper.so is missing, by which the user has a name for ssh; install the package libnss-wrapper"
    return ""


def _host_key(address: SshAddress, line: str) -> str:
    words = line.split() if line.isascii() and line.isprintable() else []
    names, words = (words[0].lower().split(","), words[1:]) if words and words[0] not in _KEY_TYPES else ([], words)
    blob = b""
    if len(words) >= 2 and words[0] in _KEY_TYPES:
        try:
            blob = base64.b64decode(words[1], validate=True)
        except binascii.Error:
            blob = b""
    if not blob or _field(blob)[0] != words[0].encode():
        raise InvalidInput(
            f"promotion_remote_host_keys: {line[:80]!r} is not a server's key; write it as 'ssh-ed25519 AAAA…', "
            "without a marker before it"
        )
    if names and address.name not in names:
        raise InvalidInput(f"promotion_remote_host_keys: the key of {names[0][:80]!r} is not that of {address.name}")
    return " ".join(words[:2])


def _field(data: bytes) -> tuple[bytes, bytes]:
    """A length in four bytes and so many after it, and what follows; empty where that is not so."""
    length = int.from_bytes(data[:4], "big")
    return (data[4 : 4 + length], data[4 + length :]) if len(data) >= 4 + length else (b"", b"")
