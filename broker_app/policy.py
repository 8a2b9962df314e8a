"""What the engine is asked to make: bodies built anew from what was asked, inside the bot's limits."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import mountinfo
from .binds import (
    TARGETS,
    Bind,
    GatewayMount,
    check_binds,
    created_binds,
    engine_mount,
    is_at_or_below,
    is_clean_path,
    parse_bind,
)
from .engine import ANSWER_BYTES
from .models import ContainerCreate, ExecCreate, ExecStart
from .refusal import Refused
from .settings import CHECK_LABEL, IMAGE_LABEL, SMALLEST_MEMORY, Settings

#: A sandbox idles until its bot or the operator ends it.
COMMAND = ["sleep", "infinity"]
#: Where a checker has the bot's directory, and below which directory the sources, numbered.
CHECK_BASE = "/m/base"
CHECK_ROOT = "/m"
#: Of what clients say of all sandboxes together, in the engine's list of them; half of what is read of an answer.
LISTED_BYTES = ANSWER_BYTES // 2

# Of a label or a mount there, besides what the client says.
_LISTED_OVERHEAD = 160
_NAME_REST = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CHECKER_REST = "check-"
_LONGEST_NAME = 63
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*")
_PROXY_NAMES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
_LABEL = re.compile(r"openclaw\.[A-Za-z0-9._-]{1,120}")
_TMPFS_TARGETS = frozenset({"/tmp", "/var/tmp", "/run"})  # noqa: S108 - names of mounts in a container, not our files
_TMPFS_OPTIONS = frozenset({"rw", "nosuid", "nodev", "exec", "noexec"})
_NO_NEW_PRIVILEGES = frozenset({"no-new-privileges", "no-new-privileges:true"})
_SHM_BYTES = 64 * 1024 * 1024
_LEAST_NANO_CPUS = 10**7  # the engine's own least
_OPEN_FILES = {"Name": "nofile", "Soft": 4096, "Hard": 8192}
_CHECK_MEMORY = 64 * 1024 * 1024
_CHECK_PIDS = 16
# An exec's directory is resolved by the runtime before it is confined (CVE-2024-21626 came through /proc/self/fd).
_KERNEL_DIRECTORIES = ("/proc", "/sys", "/dev")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_CODE = re.compile(r"[A-Za-z0-9]{4,32}")
_ROLE = re.compile(r"operator|node")
#: What the controller may run in the gateway: literals, and expressions that a whole argument has to match. No argument
#: that is given can start with a dash and be an option.
CONTROLLER_COMMANDS: Sequence[Sequence[str | re.Pattern[str]]] = (
    ("openclaw", "devices", "list", "--json"),
    ("openclaw", "devices", "approve", _ID),
    ("openclaw", "devices", "reject", _ID),
    ("openclaw", "devices", "revoke", "--device", _ID, "--role", _ROLE),
    ("openclaw", "pairing", "list", _CHANNEL, "--json"),
    ("openclaw", "pairing", "approve", _CHANNEL, _CODE),
    ("openclaw", "config", "validate"),
    ("openclaw", "config", "schema"),
    ("openclaw", "cron", "list", "--json"),
    ("openclaw", "health", "--json"),
    ("openclaw", "security", "audit", "--json"),
    ("openclaw", "sandbox", "list", "--json"),
    ("openclaw", "sandbox", "explain", "--json"),
    ("openclaw", "status", "--json"),
)


def is_sandbox_name(settings: Settings, name: str) -> bool:
    """Whether a sandbox of this bot may have the name (without ``/``).

    Use it instead of a test for the prefix wherever ownership is decided: OpenClaw names a sandbox
    ``<prefix>workspace-<32 hex>``, and where that has more than 63 characters it keeps 7 of the prefix and adds a hash
    of the whole (buildSandboxContainerName). The hash says whose prefix it was. Names of checkers are not a sandbox's.
    """
    prefix = settings.sandbox_prefix
    if name.startswith(prefix):
        rest = name.removeprefix(prefix)
        return _NAME_REST.fullmatch(rest) is not None and not rest.startswith(_CHECKER_REST)
    short = re.fullmatch(re.escape(prefix[:7]) + r"-(workspace-[0-9a-f]{32})-([0-9a-f]{12})", name)
    if short is None:
        return False
    full = prefix + short[1]
    return len(full) > _LONGEST_NAME and hashlib.sha256(full.encode()).hexdigest()[:12] == short[2]


def plan_create(
    settings: Settings, name: str, request: ContainerCreate, gateway_mounts: Sequence[GatewayMount]
) -> dict[str, Any]:
    """Build the body of the engine's ``POST /containers/create``.

    :param name: as asked in the query.
    :param gateway_mounts: of :func:`.binds.gateway_mounts`, read for this very call.
    :raises Refused: 403, the request is outside of the policy; 409, the gateway is not mounted as deployed.
    """
    if not is_sandbox_name(settings, name):
        raise Refused(403, "the name is not one of this bot's sandboxes")
    image_id = settings.sandbox.images.get(request.Image)
    if image_id is None:
        raise Refused(403, "the image is not allowed")
    if request.Cmd != COMMAND:
        raise Refused(403, "the command is not allowed")
    _check_user(settings, request.User)
    if not _is_workspace(request.WorkingDir):
        raise Refused(403, "the working directory is not allowed")
    asked = request.HostConfig
    if not set(asked.SecurityOpt or []) <= _NO_NEW_PRIVILEGES:
        raise Refused(403, "a security option is not allowed")
    binds = [parse_bind(text) for text in asked.Binds or []]
    check_binds(settings, binds, gateway_mounts)
    network = _network(settings, asked.NetworkMode)
    limits = settings.sandbox
    memory = _limited(asked.Memory, limits.memory_bytes, least=SMALLEST_MEMORY)
    body = _container(settings, image_id, COMMAND, binds=binds, memory=memory)
    body["Env"] = _environment(settings, request.Env, proxied=network != "none")
    body["WorkingDir"] = request.WorkingDir
    body["Labels"] = {**_labels(request.Labels), IMAGE_LABEL: request.Image, **settings.sandbox_labels}
    body["HostConfig"].update(
        NetworkMode=network,
        NanoCpus=_limited(asked.NanoCpus, limits.nano_cpus, least=_LEAST_NANO_CPUS),
        PidsLimit=_limited(asked.PidsLimit, limits.pids, least=1),
        Tmpfs=_tmpfs(settings, asked.Tmpfs),
    )
    # The broker asks the engine for all of them at once, and has to be able to read that.
    if _listed_bytes(body["Labels"], binds) > LISTED_BYTES // settings.sandbox.max_count:
        raise Refused(403, "labels and binds are larger than they may be")
    return body


def _listed_bytes(labels: Mapping[str, str], binds: Sequence[Bind]) -> int:
    """At least what the engine's list has of a sandbox because of these: it escapes ``<``, ``>`` and ``&`` as well."""
    texts = [*labels, *labels.values(), *(text for bind in binds for text in (bind.source, bind.target))]
    escaped = sum(len(json.dumps(text)) + 5 * sum(map(text.count, "<>&")) for text in texts)
    return escaped + _LISTED_OVERHEAD * (len(labels) + len(binds))


def recheck_sandbox(settings: Settings, inspect: Mapping[str, Any], gateway_mounts: Sequence[GatewayMount]) -> None:
    """Hold a created sandbox's binds against the gateway's mounts of now. To be called before each start.

    A gateway that was made anew since then may have more approved files than the sandbox has mounts for.

    :param inspect: the engine's inspect of the sandbox.
    :raises Refused: 403 or 409.
    """
    check_binds(settings, created_binds(inspect), gateway_mounts)


def sandbox_sources(inspect: Mapping[str, Any]) -> list[str]:
    """Bind sources of a created sandbox, from the engine's inspect of it; may be empty.

    :raises Refused: 403, it has mounts that the broker did not make.
    """
    return [bind.source for bind in created_binds(inspect)]


def plan_check(settings: Settings, sources: Sequence[str]) -> dict[str, Any]:
    """Build the body of the container that looks where bind sources lead.

    It has each source at ``/m/<number>`` and the bot's directory at ``/m/base``, all read-only, and prints its table of
    mounts. Nothing of the bot may run meanwhile. The name is the caller's matter (sandbox prefix, ``check-``, random).

    :param sources: of :func:`sandbox_sources`.
    """
    image_id = next(iter(settings.sandbox.images.values()))
    binds = [Bind(source, f"{CHECK_ROOT}/{number}", read_only=True) for number, source in enumerate(sources)]
    body = _container(settings, image_id, ["/bin/cat", "/proc/self/mountinfo"], binds=binds, memory=_CHECK_MEMORY)
    # With what is mounted below it: the bot's state may be a file system of its own.
    body["HostConfig"]["Mounts"].append(
        engine_mount(Bind(settings.bot_directory, CHECK_BASE, read_only=True), recursive=True)
    )
    body["Labels"] = {**settings.sandbox_labels, CHECK_LABEL: "1"}
    body["HostConfig"].update(
        PidsLimit=min(_CHECK_PIDS, settings.sandbox.pids), NanoCpus=settings.sandbox.nano_cpus, Tmpfs={}
    )
    return body


def compare_check(settings: Settings, sources: Sequence[str], mountinfo_text: str) -> None:
    """Judge what a checker printed: each source has to lie where its path says, below the bot's directory.

    :param sources: as given to :func:`plan_check`.
    :raises Refused: 403, a source leads elsewhere (a symbolic link) or cannot be judged.
    """
    try:
        entries = mountinfo.parse(mountinfo_text)
    except ValueError:
        raise Refused(403, "the sources of the binds could not be checked") from None
    for number, source in enumerate(sources):
        if not is_at_or_below(source, settings.bot_directory):
            raise Refused(403, "a bind leads out of the bot's directory")
        point = f"{CHECK_ROOT}/{number}"
        within = posixpath.relpath(source, settings.bot_directory)
        try:
            if not any(entry.point == point for entry in entries):
                raise ValueError("not mounted")
            found = mountinfo.locate(entries, point)
            expected = mountinfo.locate(entries, posixpath.normpath(f"{CHECK_BASE}/{within}"))
        except ValueError:
            raise Refused(403, "the sources of the binds could not be checked") from None
        if found != expected:
            raise Refused(403, "a bind leads elsewhere than its path says")


def plan_exec(settings: Settings, request: ExecCreate) -> dict[str, Any]:
    """Build the body of an exec in one of the bot's sandboxes.

    :raises Refused: 403.
    """
    _check_user(settings, request.User)
    directory = request.WorkingDir
    if directory and (
        not is_clean_path(directory) or any(is_at_or_below(directory, kernel) for kernel in _KERNEL_DIRECTORIES)
    ):
        raise Refused(403, "the working directory is not allowed")
    _check_command(request.Cmd)
    return {
        **_exec(request.Cmd, tty=request.Tty, stdin=request.AttachStdin),
        "AttachStdout": request.AttachStdout,
        "AttachStderr": request.AttachStderr,
        "User": _user(settings),
        "Env": _checked_environment(request.Env),
        "WorkingDir": directory,
    }


def plan_gateway_exec(settings: Settings, request: ExecCreate) -> dict[str, Any]:
    """Build the body of OpenClaw's probe in its own container, the only command the gateway may run there.

    :raises Refused: 403.
    """
    _check_bare(request)
    if request.Cmd != settings.gateway_probe:
        raise Refused(403, "the command is not allowed in the gateway")
    return _exec(settings.gateway_probe)


def plan_controller_exec(settings: Settings, request: ExecCreate) -> dict[str, Any]:
    """Build the body of one of :data:`CONTROLLER_COMMANDS` in the gateway.

    :param settings: not used yet; here so that every exec is planned alike.
    :raises Refused: 403.
    """
    _check_bare(request)
    if not any(_is_command(command, request.Cmd) for command in CONTROLLER_COMMANDS):
        raise Refused(403, "the command is not allowed in the gateway")
    return _exec(request.Cmd)


def plan_exec_start(request: ExecStart) -> dict[str, Any]:
    """Build the body of an exec start."""
    return {"Detach": False, "Tty": request.Tty}


def _container(
    settings: Settings, image_id: str, command: Sequence[str], *, binds: Sequence[Bind], memory: int
) -> dict[str, Any]:
    """What every container that the broker makes has, whatever was asked."""
    return {
        "Image": image_id,
        "Cmd": list(command),
        # An empty list, not null: null takes the entry point of the image.
        "Entrypoint": [],
        "User": _user(settings),
        "Env": [],
        "WorkingDir": "",
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            # By target: the engine mounts in this order, and what lies inside has to come later.
            "Mounts": [engine_mount(bind) for bind in sorted(binds, key=lambda bind: bind.target.split("/"))],
            "NetworkMode": "none",
            "Memory": memory,
            "MemorySwap": memory,
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            "IpcMode": "private",
            "PidMode": "",
            "UTSMode": "",
            "UsernsMode": "",
            "AutoRemove": False,
            "PublishAllPorts": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            "OomScoreAdj": 500,
            "OomKillDisable": False,
            "ShmSize": _SHM_BYTES,
            "Ulimits": [dict(_OPEN_FILES)],
        },
    }


def _exec(command: Sequence[str], *, tty: bool = False, stdin: bool = False) -> dict[str, Any]:
    return {
        "Cmd": list(command),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Detach": False,
        "DetachKeys": "",
        "Privileged": False,
        "User": "",
        "Env": [],
        "WorkingDir": "",
    }


def _user(settings: Settings) -> str:
    return f"{settings.sandbox.uid}:{settings.sandbox.uid}"


def _check_user(settings: Settings, user: str) -> None:
    if user not in ("", str(settings.sandbox.uid), _user(settings)):
        raise Refused(403, "the user is not allowed")


def _check_bare(request: ExecCreate) -> None:
    if request.User or request.Env or request.WorkingDir or request.Tty or request.AttachStdin:
        raise Refused(403, "an exec in the gateway takes a command and nothing else")


def _check_command(command: Sequence[str]) -> None:
    if not command[0]:
        raise Refused(403, "the command is blank")


def _is_command(pattern: Sequence[str | re.Pattern[str]], command: Sequence[str]) -> bool:
    return len(pattern) == len(command) and all(
        wanted == given if isinstance(wanted, str) else wanted.fullmatch(given) is not None
        for wanted, given in zip(pattern, command, strict=True)
    )


def _is_workspace(path: str) -> bool:
    return is_clean_path(path) and any(is_at_or_below(path, target) for target in TARGETS)


def _network(settings: Settings, asked: str) -> str:
    network = settings.sandbox.network
    if asked == "none" or (network is not None and asked == network.name):
        return asked
    raise Refused(403, "the network is not allowed")


def _limited(asked: int | None, limit: int, *, least: int) -> int:
    """The smaller of both; nothing, zero and less ask for no limit and get the bot's."""
    if asked is None or asked <= 0:
        return limit
    if asked < least:
        raise Refused(403, "a limit is smaller than the engine takes")
    return min(asked, limit)


def _checked_environment(entries: Sequence[str] | None) -> list[str]:
    if not all(_ENV.fullmatch(entry) for entry in entries or []):
        raise Refused(403, "an environment variable is not NAME=value")
    return list(entries or [])


def _environment(settings: Settings, entries: Sequence[str] | None, *, proxied: bool) -> list[str]:
    checked = _checked_environment(entries)
    network = settings.sandbox.network
    if not proxied or network is None:
        return checked
    forced = {"HTTP_PROXY": network.proxy, "HTTPS_PROXY": network.proxy, "NO_PROXY": "localhost,127.0.0.1,::1"}
    kept = [entry for entry in checked if entry.partition("=")[0].lower() not in _PROXY_NAMES]
    return kept + [f"{form}={value}" for name, value in forced.items() for form in (name, name.lower())]


def _labels(asked: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (asked or {}).items():
        if not _LABEL.fullmatch(name) or not value.isprintable():
            raise Refused(403, "a label is not one of OpenClaw's")
    return dict(asked or {})


def _tmpfs(settings: Settings, asked: Mapping[str, str] | None) -> dict[str, str]:
    return {target: _tmpfs_options(settings, target, options) for target, options in (asked or {}).items()}


def _tmpfs_options(settings: Settings, target: str, options: str) -> str:
    chosen = set(options.split(",")) if options else set()
    if target not in _TMPFS_TARGETS or not chosen <= _TMPFS_OPTIONS or {"exec", "noexec"} <= chosen:
        raise Refused(403, "a memory file system is not allowed")
    sandbox = settings.sandbox
    execute = "exec" if "exec" in chosen else "noexec"
    return f"rw,nosuid,nodev,{execute},size={sandbox.tmpfs_bytes},mode=1777,uid={sandbox.uid},gid={sandbox.uid}"
