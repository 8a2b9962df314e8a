"""Hosts and URLs an operator writes down: what they mean to the egress proxy, and which can never be allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Name of the machine itself, as containers know it.
MACHINE_HOST = "host.docker.internal"
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_FORBIDDEN_NAMES = ("localhost", "localhost.localdomain", "metadata.google.internal")
#: Suffixes that public DNS does not serve: such a name can only mean a private address.
_PRIVATE_SUFFIXES = ("local", "lan", "internal", "intranet", "home", "arpa", "corp", "private", "test")
_EMBEDDING = tuple(ipaddress.ip_network(text) for text in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"))
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_METADATA = ipaddress.ip_address("fd00:ec2::254")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Endpoint:
    """One host and port that a bot's egress proxy has to let through besides the ordinary allow-list.

    :param host: name, or address without brackets, in lower case.
    :param port: TCP port.
    :param tls: whether the connection is HTTPS (a tunnel) or plain HTTP.
    :param kind: ``public``; ``private`` for an address of a private network or a name that can only mean one;
        ``machine`` for the machine the bot runs on.
    :param wanted_by: what needs it, for example ``provider ollama``.
    """

    host: str
    port: int
    tls: bool
    kind: str
    wanted_by: str = ""

    @property
    def ordinary(self) -> bool:
        """Whether the plain allow-list of host names is enough for it."""
        return self.kind == "public" and self.tls and self.port == 443


def parse_url(url: str, wanted_by: str = "") -> Endpoint:
    """Read the base URL of a model endpoint.

    :raises ValueError: with the reason and the way out; the text never contains the URL's login.
    """
    if not url.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValueError("it contains a character that no URL has (white space, control or non-ASCII); remove it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("it is not a URL; write it like https://llm.example.com/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http or https URL; write it like https://llm.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("it contains a login; put the key into secrets_env and name it with 'api_key_env'")
    if parts.query or parts.fragment:
        raise ValueError("it contains '?' or '#'; leave that part out")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port is not a number from 1 to 65535")
    tls = parts.scheme == "https"
    host = parts.hostname.lower().rstrip(".")
    return Endpoint(host, port or (443 if tls else 80), tls, classify(host), wanted_by)


def classify(host: str) -> str:
    """Say what a host is: ``public``, ``private`` or ``machine`` (see :class:`Endpoint`).

    :raises ValueError: it is no host, or one that no bot may reach (loopback, link-local, cloud metadata).
    """
    if host == MACHINE_HOST:
        return "machine"
    address = _address(host)
    if address is not None and "%" not in host:
        return _classify_address(address)
    labels = host.split(".")
    if len(host) > 253 or not _NAME.fullmatch(host) or re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        raise ValueError(f"{host!r} is not a host name or an IP address in its usual form")
    if host in _FORBIDDEN_NAMES or labels[-1] == "localhost":
        raise ValueError(
            f"{host!r} means the container itself or a metadata service; "
            f"for a service on this machine write {MACHINE_HOST}, as in http://{MACHINE_HOST}:11434"
        )
    return "private" if len(labels) == 1 or labels[-1] in _PRIVATE_SUFFIXES else "public"


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _classify_address(address: _Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _EMBEDDING):
        raise ValueError(f"{address} is special or hides an IPv4 address; write a plain address")
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.teredo):
        raise ValueError(f"{address} hides an IPv4 address; write that address")
    if address.is_loopback or address.is_unspecified:
        raise ValueError(f"{address} means the container itself; for a service on this machine write {MACHINE_HOST}")
    if address.is_link_local or address == _METADATA:
        raise ValueError(f"{address} is link-local or a cloud metadata service, which no bot may reach")
    if address.is_multicast or (isinstance(address, ipaddress.IPv4Address) and address.is_reserved):
        raise ValueError(f"{address} is a multicast or reserved address, which cannot be connected to")
    return "private" if address.is_private or address in _SHARED or not address.is_global else "public"


def check_allowed_host(value: str) -> str:
    """Bring an entry of ``egress_allow_extra`` to its canonical form.

    :param value: host name, public address, or domain with a leading dot that stands for it and all subdomains.
    :raises ValueError: with the reason and the way out.
    """
    if "*" in value:
        raise ValueError("wildcards are not known here; write '.example.org' for example.org and all its subdomains")
    if "/" in value or "@" in value:
        raise ValueError("it is a URL; write the host name only, like example.org")
    if not value.isascii():
        raise ValueError("it contains non-ASCII characters; write the name in its xn-- form")
    host = value.lower().rstrip(".")
    domain = host.startswith(".")
    host = host[1:] if domain else host
    if ":" in host and _address(host) is None:
        raise ValueError("it names a port; write the host name only (another port: an openai-compatible base_url)")
    kind = classify(host)
    if kind == "machine" or (kind == "private" and _address(host) is not None):
        raise ValueError(
            "private addresses and the machine itself stay closed for everything but a model endpoint; "
            "name it as 'base_url' of a provider"
        )
    if domain and (_address(host) is not None or "." not in host):
        raise ValueError("a leading dot needs a domain of at least two labels, like .example.org")
    return f".{host}" if domain else host


def collapse(hosts: Iterable[str]) -> tuple[str, ...]:
    """Sort, and drop what a domain with a leading dot covers already: Squid refuses such overlaps in one list."""
    unique = set(hosts)
    domains = {host for host in unique if host.startswith(".")}

    def covered(host: str) -> bool:
        dotted = host if host.startswith(".") else f".{host}"
        return any(dotted.endswith(domain) and host != domain for domain in domains)

    return tuple(sorted(host for host in unique if not covered(host)))
