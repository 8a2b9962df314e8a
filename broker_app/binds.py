"""Binds of a sandbox: how they are written, which sources and targets may be bound, and what has to come along.

Two facts decide the rules. The gateway's own read-only mounts carry what the operator approved, so nothing in a sandbox
may write there. And a mount point that is not a mount point in the sandbox, too, can be unlinked or renamed there, upon
which the kernel drops the gateway's mount: so whoever gets a directory to write also gets every mount inside it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .refusal import Refused
from .settings import Settings

#: Directories of a sandbox at or below which the bot's files may appear.
TARGETS = ("/workspace", "/agent")
#: Where OpenClaw shows a sub-agent what it was given (SANDBOX_SUBAGENT_ATTACHMENTS_MOUNT); only to read.
ATTACHMENTS = "/openclaw/attachments"
#: Targets that OpenClaw protects below a workspace (resolveReadOnlyWorkspaceSkillMounts).
SKILLS = ("skills", ".agents/skills", ".openclaw/sandbox-skills/skills")

_OPTIONS = frozenset({"ro", "rw", "z", "Z"})
_MOST_MOUNTS = 1024
_FOREIGN = "the sandbox has mounts that the broker did not make"


@dataclass(frozen=True)
class GatewayMount:
    """One mount of the gateway.

    :param source: host path; empty for a mount that is no bind.
    :param target: path in the gateway.
    """

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Bind:
    """One bind of a sandbox.

    :param source: host path.
    :param target: path in the sandbox.
    """

    source: str
    target: str
    read_only: bool


def parse_bind(text: str) -> Bind:
    """Read ``source:target[:options]``.

    Relabelling (``z``, ``Z``) is accepted, because OpenClaw asks for it, and dropped.

    :raises Refused: 403, anything else than two absolute normalised paths and known options.
    """
    source, colon, rest = text.partition(":")
    target, second, options = rest.partition(":")
    if not colon or not is_clean_path(source) or not is_clean_path(target):
        raise Refused(403, "a bind is not two absolute, normalised paths")
    chosen = options.split(",") if second else []
    if not set(chosen) <= _OPTIONS or len(set(chosen)) != len(chosen) or {"ro", "rw"} <= set(chosen):
        raise Refused(403, "a bind has options that are not allowed")
    return Bind(source, target, "ro" in chosen)


def gateway_mounts(inspect: Mapping[str, Any]) -> list[GatewayMount]:
    """Every mount of the gateway, from the engine's inspect of it.

    :raises Refused: 409, the answer has another form than expected.
    """
    mounts, host = inspect.get("Mounts"), inspect.get("HostConfig")
    memory = (host.get("Tmpfs") or {}) if isinstance(host, Mapping) else None
    if not isinstance(mounts, list) or len(mounts) > _MOST_MOUNTS or not isinstance(memory, Mapping):
        raise Refused(409, "the gateway's mounts are not readable")
    found = [_gateway_mount(mount) for mount in mounts]
    return found + [GatewayMount("", _normal(target), False) for target in memory]


def created_binds(inspect: Mapping[str, Any]) -> list[Bind]:
    """The binds a sandbox was created with, from the engine's inspect of it.

    :raises Refused: 403, it has other mounts than those the broker makes.
    """
    host, config = inspect.get("HostConfig"), inspect.get("Config")
    if not isinstance(host, Mapping) or not isinstance(config, Mapping):
        raise Refused(403, _FOREIGN)
    mounts = host.get("Mounts") or []
    if host.get("Binds") or host.get("VolumesFrom") or config.get("Volumes") or not isinstance(mounts, list):
        raise Refused(403, _FOREIGN)
    return [_created_bind(mount) for mount in mounts]


def check_binds(settings: Settings, binds: Sequence[Bind], mounts: Sequence[GatewayMount]) -> None:
    """Hold the binds of one sandbox against the policy.

    :param mounts: what :func:`gateway_mounts` says now.
    :raises Refused: 403; 409 when the gateway is not mounted as deployed.
    """
    if all(mount.source != settings.state_directory for mount in mounts):
        # Paths are compared as text. Were the gateway's written otherwise, its mounts would be overlooked here.
        raise Refused(409, "the gateway does not have the bot's state mounted")
    targets = [bind.target for bind in binds]
    if len(set(targets)) != len(targets):
        raise Refused(403, "two binds have the same target")
    located = [(place, mount) for mount in mounts if (place := _host_place(mount, mounts)) is not None]
    for bind in binds:
        _check_source(settings, bind, mounts)
        _check_target(bind, binds, located)
        if not bind.read_only:
            _check_writable(bind, binds, mounts, located)


def engine_mount(bind: Bind, *, recursive: bool = False) -> dict[str, Any]:
    """A bind as the engine's ``Mounts`` has it: unlike in ``Binds`` a missing source is an error and is not created.

    :param recursive: also what the host has mounted below the source. A read-only bind would leave that writable.
    """
    return {
        "Type": "bind",
        "Source": bind.source,
        "Target": bind.target,
        "ReadOnly": bind.read_only,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": not recursive},
    }


def is_clean_path(path: str) -> bool:
    """Whether a path is absolute, normalised, not ``/``, and free of what mount options or terminals could misread."""
    return (
        len(path) <= 4095
        and path.startswith("/")
        and not path.startswith("//")
        and path != "/"
        and posixpath.normpath(path) == path
        and path.isprintable()
        and not set(path) & set(":,\\")
    )


def is_at_or_below(path: str, directory: str) -> bool:
    """Whether a normalised path is the directory or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _is_below(path: str, directory: str) -> bool:
    return path != directory and is_at_or_below(path, directory)


def _gateway_mount(mount: Any) -> GatewayMount:
    if not isinstance(mount, Mapping):
        raise Refused(409, "the gateway's mounts are not readable")
    kind, source, target, writable = (mount.get(key) for key in ("Type", "Source", "Destination", "RW"))
    if not isinstance(target, str) or not target.startswith("/") or not isinstance(writable, bool):
        raise Refused(409, "the gateway's mounts are not readable")
    if kind != "bind":
        return GatewayMount("", _normal(target), not writable)
    if not isinstance(source, str) or not source.startswith("/"):
        raise Refused(409, "the gateway's mounts are not readable")
    return GatewayMount(_normal(source), _normal(target), not writable)


def _created_bind(mount: Any) -> Bind:
    if not isinstance(mount, Mapping) or mount.get("Type") != "bind":
        raise Refused(403, _FOREIGN)
    source, target, read_only = mount.get("Source"), mount.get("Target"), mount.get("ReadOnly", False)
    if not isinstance(source, str) or not isinstance(target, str) or not isinstance(read_only, bool):
        raise Refused(403, _FOREIGN)
    if not is_clean_path(source) or not is_clean_path(target):
        raise Refused(403, _FOREIGN)
    return Bind(source, target, read_only)


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _host_place(mount: GatewayMount, mounts: Iterable[GatewayMount]) -> str | None:
    """Host path of the directory entry that the mount covers; ``None`` if it lies in the image or in memory."""
    above = [other for other in mounts if _is_below(mount.target, other.target)]
    parent = max(above, key=lambda other: len(other.target), default=None)
    if parent is None or not parent.source:
        return None
    return posixpath.join(parent.source, posixpath.relpath(mount.target, parent.target))


def _check_source(settings: Settings, bind: Bind, mounts: Iterable[GatewayMount]) -> None:
    if _matches(settings, bind.source):
        return
    approved = settings.approved_directory
    if any(mount.read_only and mount.source == bind.source for mount in mounts) and is_at_or_below(
        bind.source, approved
    ):
        if not bind.read_only:
            raise Refused(403, "a bind of an approved file is not read-only")
        return
    raise Refused(403, "a bind has a source that is not the bot's to give")


def _matches(settings: Settings, source: str) -> bool:
    if not _is_below(source, settings.state_directory):
        return False
    parts = posixpath.relpath(source, settings.state_directory).split("/")
    for pattern in settings.sandbox.sources:
        wanted = pattern.split("/")
        # More parts than the pattern has are below what it names.
        if len(parts) >= len(wanted) and all(map(_part_matches, wanted, parts)):
            return True
    return False


def _part_matches(pattern: str, part: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), part, re.DOTALL) is not None


def _check_target(bind: Bind, binds: Iterable[Bind], located: Sequence[tuple[str, GatewayMount]]) -> None:
    if bind.target == ATTACHMENTS:
        if not bind.read_only:
            raise Refused(403, "a bind of attachments is not read-only")
        return
    if not any(is_at_or_below(bind.target, target) for target in TARGETS):
        raise Refused(403, "a bind has a target outside of the workspace")
    around = [other for other in binds if _is_below(bind.target, other.target)]
    if not around:
        return
    outer = max(around, key=lambda other: len(other.target))
    within = posixpath.relpath(bind.target, outer.target)
    at_place = [mount for place, mount in located if place == posixpath.join(outer.source, within)]
    if at_place and _stands_in(bind, at_place):
        return
    if not at_place and len(around) == 1 and bind.read_only and within in SKILLS:
        return
    raise Refused(403, "a bind lies inside of another where none belongs")


def _check_writable(
    bind: Bind,
    binds: Iterable[Bind],
    mounts: Iterable[GatewayMount],
    located: Iterable[tuple[str, GatewayMount]],
) -> None:
    guarded = [mount.source for mount in mounts if mount.read_only and mount.source]
    guarded += [place for place, mount in located if mount.read_only]
    if any(is_at_or_below(bind.source, path) for path in guarded):
        raise Refused(403, "a writable bind lies where the gateway's own mount is read-only")
    required: dict[str, list[GatewayMount]] = {}
    for place, mount in located:
        if _is_below(place, bind.source):
            target = posixpath.join(bind.target, posixpath.relpath(place, bind.source))
            required.setdefault(target, []).append(mount)
    present = {other.target: other for other in binds}
    for target, at_place in required.items():
        if target not in present or not _stands_in(present[target], at_place):
            raise Refused(403, "a writable bind lacks a mount that the gateway has inside of it")


def _stands_in(bind: Bind, at_place: Sequence[GatewayMount]) -> bool:
    """Whether a bind shows in the sandbox what the gateway has at the same place.

    :param at_place: the gateway's mounts there, at least one.
    """
    guarded = [mount for mount in at_place if mount.read_only]
    if guarded:
        return bind.read_only and any(mount.source == bind.source for mount in guarded)
    return bind.read_only or any(mount.source == bind.source for mount in at_place)
