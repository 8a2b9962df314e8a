"""Attacks on the broker: the table, by class."""

from __future__ import annotations

import os
from dataclasses import replace

from .attack import Attack
from .calls import EXECS, FAMILIES, FOREIGN
from .containers import DEVICES, IMAGES, LIMITS, MOUNTS, NAMESPACES, PRIVILEGES
from .http_tricks import HTTP_TRICKS
from .json_tricks import JSON_TRICKS

# Little different from others that are tried in every run; see Attack.variant.
_SPELLINGS = {
    "mounts": (
        "approved file mounted at its name in another case",
        "own files over the workspace's agents",
        "colons only",
        "empty source",
        "empty target",
        "Mounts: propagation",
        "Mounts: of a kind that does not exist",
        "thousand binds",
        "Volumes: /workspace",
        "VolumesFrom the broker",
        "ContainerIDFile",
        "Binds with an empty entry",
        "nothing",
    ),
    "namespaces": (
        "DnsOptions",
        "DnsSearch",
        "Domainname",
        "none with options",
        "PidMode of the broker",
        "NetworkDisabled off",
    ),
    "privileges": (
        "Entrypoint as text",
        "Shell",
        "OnBuild",
        "StopSignal",
        "StopTimeout",
        "log with labels",
        "labels as a list",
        "Env of 40 KiB",
        "one of the MaskedPaths",
        "Cmd as text",
        "CapDrop of null",
        "SecurityOpt of null",
    ),
    "devices and runtimes": ("CpuCount", "CpuPercent", "IOMaximumBandwidth", "CpusetMems", "CgroupParent above"),
    "limits": (
        "KernelMemoryTCP",
        "Ulimits core",
        "OomScoreAdj 1000",
        "ShmSize -1",
        "restart policy afterwards",
        "CpuPeriod",
    ),
    "images and builds": (
        "build without BuildKit",
        "export of several",
        "search",
        "inspect of another image by short id",
        "history",
        "pull with credentials",
        "image as a number",
        "image left out",
        "commit of the own sandbox",
    ),
    "foreign ids": (
        "json of the gateway of another bot, by short id",
        "exec of the gateway of another bot, by short id",
        "json of the sandbox of another bot, by id",
        "exec of the sandbox of another bot, by id",
        "json of the own proxy",
        "exec of the own proxy",
        "json of the own controller, by id",
        "json of the own broker, by short id",
        "exec of the own broker, by short id",
        "own name and another",
        "name left out with a query",
        "unpause of the own proxy",
        "start of the own gateway",
        "no name",
    ),
    "exec tricks": (
        "in the gateway: nothing",
        "in the gateway: command as text",
        "probe of the gateway with an empty Env entry",
        "in the own sandbox as root by name",
        "in the own sandbox with Env as an object",
        "short id",
        "name as an id",
        "in the own sandbox with an empty command",
        "in the own sandbox with a number as argument",
        "start as h2c",
        "start with a size of the console",
        "start with two upgrades",
        "start with an upgrade of no protocol",
        "in the gateway by host name: shell",
        "resize beyond all bounds",
        "in the own stopped sandbox, as root",
    ),
    "JSON tricks": (
        "17 levels deep",
        "byte that is no UTF-8",
        "content type with a boundary",
        "content type of another JSON",
        "raw control character",
        "comment",
        "body: list",
        "unknown key deep inside",
    ),
    "HTTP tricks": (
        "framing: negative length",
        "framing: hexadecimal length",
        "framing: empty length",
        "framing: chunk with a trailer",
        "framing: identity",
        "framing: underscore",
        "framing: length beyond 64 bits",
        "HTTP/2.0",
        "HTTP/0.9",
        "splicing: evil behind twenty pings",
        "splicing: evil as the body of a start",
        "splicing: evil behind a HEAD",
        "splicing: ping behind a query that is refused",
        "absolute target",
        "bytes of TLS",
        "header without a colon",
        "path: dots to another version",
        "path: backslash",
        "path: no version",
        "path: old version",
        "header: TE",
        "query: limit of letters",
        "query: negative limit",
        "query: stop with a signal",
        "query: encoded value",
        "query: start with a checkpoint",
        "query: sizes in an inspect",
        "query: removal with force of 2",
        "query: info with one",
        "header: user agent twice",
        "header: Authorization",
        "header: h2c",
        "body of a removal",
        "body of an exec beyond 256 KiB",
        "POST where GET is allowed",
        "carriage return in a header",
    ),
    "other API families": (
        "login",
        "plugin made",
        "config made",
        "secret made",
        "swarm joined",
        "gateway put on a network",
    ),
}


def _marked(attack: Attack) -> Attack:
    return replace(attack, variant=True) if attack.name in _SPELLINGS.get(attack.kind, ()) else attack


ATTACKS: tuple[Attack, ...] = tuple(
    _marked(attack)
    for group in (
        MOUNTS,
        NAMESPACES,
        PRIVILEGES,
        DEVICES,
        LIMITS,
        IMAGES,
        FOREIGN,
        EXECS,
        JSON_TRICKS,
        HTTP_TRICKS,
        FAMILIES,
    )
    for attack in group
)
#: Those of a run: all with ``CLAWFACTORY_ALL_ATTACKS=1``.
MADE = [attack for attack in ATTACKS if not attack.variant or os.environ.get("CLAWFACTORY_ALL_ATTACKS")]
#: Each class with its number of rows at least: a table that has shrunk by mistake proves little.
LEAST = {
    "mounts": 50,
    "namespaces": 20,
    "privileges": 35,
    "devices and runtimes": 10,
    "limits": 25,
    "images and builds": 15,
    "foreign ids": 35,
    "exec tricks": 45,
    "JSON tricks": 35,
    "HTTP tricks": 75,
    "other API families": 25,
}
