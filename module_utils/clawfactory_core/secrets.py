"""A bot's secrets on its machine: env files, token registry, age key pair.

Values from the inventory win; what is missing is generated once and never changes on a rerun. Nothing here ever puts a
value into a return value, a message or a diff.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets as random_source
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import names
from .allocation import describe
from .errors import InvalidInput
from .files import FileSpec, FilesPlan, apply_files, plan_files
from .promotion.secret_rules import kept_key, make_fingerprints
from .remote_key import MASTER, RemoteKeyRequest, SshKeyMaker, no_new_key, plan_remote_key
from .tokens import token_problem

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# In the registry a name begins with the bot's, and that may begin with a digit.
_LINE_NAME = re.compile(r"[A-Z0-9][A-Z0-9_]*")
_FINGERPRINTS, _PRIVATE = "fingerprints.json", "snapshot.key"
#: Of the controller, by which the gateway knows it.
_DEVICE_KEY = "device.key"
_HEX_KEY = re.compile("[0-9a-f]{64}")
_AGE_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")

#: Makes an age key pair: ``(identity, recipient)``; see ``adapters.age``.
KeyPairMaker = Callable[[], tuple[str, str]]

#: Names that the controller alone may have, such as that of the remote repository's token.
CONTROLLER_PREFIX = "CONTROLLER_"
#: Stands in ``controller.env`` with the secrets, but is none.
_PUBLIC = "CONTROLLER_AGE_RECIPIENT"

_GATEWAY_TOKEN = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105 - its name
#: Tokens that ClawFactory makes itself: name in the inventory -> (name in the gateway's file, in the controller's).
TOKENS: dict[str, tuple[str | None, str | None]] = {
    _GATEWAY_TOKEN: (_GATEWAY_TOKEN, None),
    "CLAWFACTORY_AGENT_TOKEN": ("CLAWFACTORY_AGENT_TOKEN", "CONTROLLER_AGENT_TOKEN"),
    "CONTROLLER_TOKEN": (None, "CONTROLLER_TOKEN"),
    "CONTROLLER_WEBHOOK_SECRET": (None, "CONTROLLER_WEBHOOK_SECRET"),
}


@dataclass(frozen=True)
class SecretsRequest:
    """What the bot needs.

    :param values: env name to value, from the inventory (any Ansible source); secret.
    :param used: env names of providers and channels that the bot uses; only these and the tokens reach the gateway.
    :param snapshot_key: ``machine`` keeps an age key pair on the machine, ``control`` only the given recipient.
    :param snapshot_recipient: age recipient whose private key stays on the control node.
    :param gateway_uid: user id that may read the gateway's runtime copy.
    :param controller_uid: user id that may read the controller's runtime copy.
    :param remote: how the bot's repository elsewhere is reached, if that is by SSH.
    """

    root: Path
    bot: str
    values: Mapping[str, str] = field(repr=False)
    used: tuple[str, ...]
    gateway_uid: int
    controller_uid: int
    snapshot_key: str = "machine"
    snapshot_recipient: str = ""
    remote: RemoteKeyRequest = field(default_factory=RemoteKeyRequest)


@dataclass
class SecretsPlan:
    """File changes plus what the roles have to know; holds values, so it is never printed."""

    files: FilesPlan = field(repr=False)
    generated: list[str]
    available: list[str]
    recipient: str

    @property
    def changed(self) -> bool:
        """Whether a file differs."""
        return self.files.changed


def generations(root: Path, bot: str) -> dict[str, str]:
    """When each runtime copy was last written (nanoseconds): a container made before that has to be made anew."""
    run = root / "secrets" / bot / "run"
    found = {name: run / f"{name}.env" for name in ("gateway", "controller")}
    found["fingerprints"] = run / _FINGERPRINTS
    return {name: str(path.stat().st_mtime_ns) if path.exists() else "" for name, path in found.items()}


def read_env(path: Path) -> dict[str, str]:
    """Read ``KEY=value`` lines.

    :raises InvalidInput: a line is something else; the message gives its number, never its text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text; correct it or restore it from a backup") from None
    result = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not _LINE_NAME.fullmatch(key):
            raise InvalidInput(f"{path} line {number} is not KEY=value; correct it or remove the line")
        result[key] = value
    return result


def format_env(values: Mapping[str, str]) -> str:
    """Sorted ``KEY=value`` lines."""
    return "".join(f"{key}={value}\n" for key, value in sorted(values.items()))


def plan_secrets(
    request: SecretsRequest, make_key_pair: KeyPairMaker, make_ssh_key: SshKeyMaker = no_new_key
) -> SecretsPlan:
    """Decide every file's content; reads only (the generated values exist in memory until applied).

    :param make_key_pair: returns ``(identity, recipient)`` of a new age key pair; called only if one is needed.
    :param make_ssh_key: returns a private key for the remote; called only if one is needed.
    :raises InvalidInput: a name or value cannot be used; values are never quoted.
    """
    _check_values(request)
    directory = request.root / "secrets" / request.bot
    gateway = read_env(directory / "gateway.env")
    controller = read_env(directory / "controller.env")
    generated = []
    tokens = set()
    for token, (in_gateway, in_controller) in TOKENS.items():
        present = (in_gateway and gateway.get(in_gateway)) or (in_controller and controller.get(in_controller)) or ""
        value = request.values.get(token) or present
        if not value:
            value = random_source.token_hex(16)
            generated.append(token)
        tokens.add(value.lower())
        if in_gateway:
            gateway[in_gateway] = value
        if in_controller:
            controller[in_controller] = value
    if len(tokens) != len(TOKENS):
        # The bot holds two of them: a shared one would open the operator's door.
        raise InvalidInput(f"{request.bot}: two of {', '.join(TOKENS)} are the same; give each its own in secrets_env")
    for key, value in request.values.items():
        if value and key not in TOKENS:
            (controller if key.startswith(CONTROLLER_PREFIX) else gateway)[key] = value
    key_files, recipient, new_key = _snapshot_key(request, directory, make_key_pair)
    if new_key:
        generated.append("snapshot.key")
    device_key = _kept_device_key(directory)
    if not device_key:
        device_key = random_source.token_hex(32)
        generated.append(_DEVICE_KEY)
    controller[_PUBLIC] = recipient
    private = next((spec.content for spec in key_files if spec.path.name == _PRIVATE), "") or _text(
        directory / _PRIVATE
    )
    remote_files, remote_key, new_remote_key = plan_remote_key(
        request.root, request.bot, request.controller_uid, request.remote, make_ssh_key
    )
    if new_remote_key:
        generated.append(MASTER)
    specs = [
        *_specs(request, directory, gateway, controller),
        *key_files,
        _root_file(directory / _DEVICE_KEY, device_key + "\n"),
        *_device(directory, request.controller_uid, device_key, gateway[_GATEWAY_TOKEN]),
        *_registry(request, gateway, controller),
        *remote_files,
        _fingerprints(directory, request.controller_uid, gateway, controller, f"{private}\n{device_key}\n{remote_key}"),
    ]
    return SecretsPlan(plan_files(specs), generated, sorted(key for key, value in gateway.items() if value), recipient)


def settled_bots(
    root: Path, pool: str, allocations: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """Bots whose secrets the machine has exactly as wanted; reads only.

    :param wanted: the fields of :class:`SecretsRequest` that the inventory decides, by bot.
    """
    found = set()
    for bot in wanted.keys() & allocations.keys():
        place = describe(root, bot, pool, allocations[bot])
        request = SecretsRequest(
            root=root,
            bot=bot,
            values=wanted[bot]["values"],
            used=tuple(wanted[bot]["used"]),
            gateway_uid=place["gateway_uid"],
            controller_uid=place["controller_uid"],
            snapshot_key=wanted[bot]["snapshot_key"],
            snapshot_recipient=wanted[bot]["snapshot_recipient"],
            remote=RemoteKeyRequest(
                wanted[bot]["remote"]["url"], tuple(wanted[bot]["remote"]["host_keys"]), wanted[bot]["remote_key"]
            ),
        )
        try:
            if not plan_secrets(request, _no_new_pair).changed:
                found.add(bot)
        except InvalidInput:
            continue  # apply_secrets says why
    return found


def _no_new_pair() -> tuple[str, str]:
    raise InvalidInput("a key pair is to be made")


def apply_secrets(
    request: SecretsRequest, make_key_pair: KeyPairMaker, make_ssh_key: SshKeyMaker = no_new_key
) -> SecretsPlan:
    """Plan and write under the machine's lock: the registry is shared by its bots."""
    with _registry_lock(request.root):
        plan = plan_secrets(request, make_key_pair, make_ssh_key)
        apply_files(plan.files)
        return plan


#: Those that an incident replaces; the webhook's secret stands at the remote as well.
ROTATED = ("OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN", "CONTROLLER_TOKEN")


def rotate_tokens(root: Path, bot: str) -> list[str]:
    """Give a bot new tokens; its containers read them when they start next.

    :returns: names of those that were replaced.
    :raises InvalidInput: the bot has no secrets on this machine.
    """
    directory = root / "secrets" / bot
    run = directory / "run"
    with _registry_lock(root):
        gateway, controller = read_env(directory / "gateway.env"), read_env(directory / "controller.env")
        runtime, registry = read_env(run / "gateway.env"), read_env(root / "secrets" / "tokens.env")
        for name in ROTATED:
            token = random_source.token_hex(16)
            registry[names.env_prefix(bot) + name] = token
            for held, there in zip((gateway, controller), TOKENS[name], strict=True):
                if there and there not in held:
                    raise InvalidInput(f"{bot} has no {there} on this machine; run: ansible-playbook site.yml -l {bot}")
                if there:
                    held[there] = token
            if TOKENS[name][0]:
                runtime[str(TOKENS[name][0])] = token
        reader = (run / "controller.env").stat().st_uid
        # The controller's own key, which the gateway never sees, stays; a bot that has none yet gets it with site.yml.
        device_key = _kept_device_key(directory)
        specs = [
            _root_file(directory / "gateway.env", format_env(gateway)),
            _root_file(directory / "controller.env", format_env(controller)),
            _runtime_file(run / "gateway.env", runtime, (run / "gateway.env").stat().st_uid),
            _runtime_file(run / "controller.env", controller, reader),
            _root_file(root / "secrets" / "tokens.env", format_env(registry)),
            *(_device(directory, reader, device_key, gateway[_GATEWAY_TOKEN]) if device_key else []),
            _fingerprints(directory, reader, gateway, controller, _private_texts(directory)),
        ]
        apply_files(plan_files(specs))
    return list(ROTATED)


def rotate_gateway_token(root: Path, bot: str, uid: int) -> None:
    """Give a bot's gateway a new token; the gateway reads it when it starts next.

    :param uid: the gateway's user, who reads the runtime copy.
    :raises InvalidInput: the bot has no secrets on this machine.
    """
    directory = root / "secrets" / bot
    name = _GATEWAY_TOKEN
    with _registry_lock(root):
        held, runtime, registry = (
            read_env(path)
            for path in (directory / "gateway.env", directory / "run" / "gateway.env", root / "secrets" / "tokens.env")
        )
        if name not in held or name not in runtime:
            raise InvalidInput(f"{bot} has no gateway token on this machine; run: ansible-playbook site.yml -l {bot}")
        token = {name: random_source.token_hex(16)}
        registry[names.env_prefix(bot) + name] = token[name]
        controller = read_env(directory / "controller.env")
        fingerprints = directory / "run" / _FINGERPRINTS
        reader = fingerprints.stat().st_uid if fingerprints.exists() else 0
        specs = [
            _root_file(directory / "gateway.env", format_env({**held, **token})),
            _runtime_file(directory / "run" / "gateway.env", {**runtime, **token}, uid),
            _root_file(root / "secrets" / "tokens.env", format_env(registry)),
            _fingerprints(directory, reader, {**held, **token}, controller, _private_texts(directory)),
        ]
        if (directory / "run" / "device").is_dir():
            specs += _device(directory, reader, _kept_device_key(directory), token[name])
        apply_files(plan_files(specs))


@contextmanager
def _registry_lock(root: Path) -> Iterator[None]:
    directory = root / "secrets"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_values(request: SecretsRequest) -> None:
    for key, value in request.values.items():
        where = f"{request.bot}: secrets_env entry {key!r}"
        if not _NAME.fullmatch(key):
            raise InvalidInput(f"{where} is not an environment name; use capital letters, digits and underscores")
        if not isinstance(value, str) or not value.isprintable():
            raise InvalidInput(f"{where} has to be one line of printable text; put numbers into quotes")
        problem = token_problem(value) if key in TOKENS else ""
        if problem:
            raise InvalidInput(f"{where} {problem}, or leave it out to have one generated")


def _snapshot_key(
    request: SecretsRequest, directory: Path, make_key_pair: KeyPairMaker
) -> tuple[list[FileSpec], str, bool]:
    public = directory / "snapshot.pub"
    private = directory / _PRIVATE
    if request.snapshot_key == "control":
        if not _AGE_RECIPIENT.fullmatch(request.snapshot_recipient):
            raise InvalidInput(
                f"{request.bot}: secrets_snapshot_recipient is not an age recipient; with "
                "secrets_snapshot_key=control give the 'age1…' line that age-keygen printed on the control node"
            )
        return [_root_file(public, request.snapshot_recipient + "\n", secret=False)], request.snapshot_recipient, False
    if private.exists() and public.exists():
        recipient = _kept_recipient(public)
        return (
            [_root_file(private, "", once=True), _root_file(public, recipient + "\n", secret=False)],
            recipient,
            False,
        )
    if public.exists():
        # The private key has been taken off the machine, or came with secrets_snapshot_key=control: keep its recipient.
        recipient = _kept_recipient(public)
        return [_root_file(public, recipient + "\n", secret=False)], recipient, False
    if private.exists():
        raise InvalidInput(
            f"{private} exists without {public.name}; write its public key there with 'age-keygen -y' "
            "(a key is never replaced, snapshots depend on it)"
        )
    identity, recipient = make_key_pair()
    text = f"# public key: {recipient}\n{identity}\n"
    return [_root_file(private, text), _root_file(public, recipient + "\n", secret=False)], recipient, True


def _kept_recipient(public: Path) -> str:
    recipient = public.read_text(encoding="utf-8", errors="replace").strip()
    if not _AGE_RECIPIENT.fullmatch(recipient):
        raise InvalidInput(f"{public} does not hold an age recipient; write the public key there with 'age-keygen -y'")
    return recipient


def _root_file(path: Path, content: str, *, secret: bool = True, once: bool = False) -> FileSpec:
    return FileSpec(path, content=content, owner=0, group=0, mode=0o600, secret=secret, once=once)


def _specs(
    request: SecretsRequest, directory: Path, gateway: Mapping[str, str], controller: Mapping[str, str]
) -> list[FileSpec]:
    in_gateway = {name for name, _ in TOKENS.values() if name}
    runtime = {key: value for key, value in gateway.items() if value and (key in in_gateway or key in request.used)}
    run = directory / "run"
    return [
        FileSpec(directory.parent, state="directory", owner=0, group=0, mode=0o700),
        FileSpec(directory, state="directory", owner=0, group=0, mode=0o700),
        FileSpec(run, state="directory", owner=0, group=0, mode=0o700),
        _root_file(directory / "gateway.env", format_env(gateway)),
        _root_file(directory / "controller.env", format_env(controller)),
        _runtime_file(run / "gateway.env", runtime, request.gateway_uid),
        _runtime_file(run / "controller.env", controller, request.controller_uid),
    ]


def _runtime_file(path: Path, values: Mapping[str, str], uid: int) -> FileSpec:
    """The copy that a container's own user can read; bound into it, so that no secret is in ``docker inspect``."""
    return FileSpec(path, content=format_env(values), owner=uid, group=uid, mode=0o400, secret=True)


def _device(directory: Path, uid: int, key: str, token: str) -> list[FileSpec]:
    """What the controller shows the gateway, in a directory of its own: a new token is seen without a new container."""
    device = directory / "run" / "device"
    return [
        FileSpec(device, state="directory", owner=uid, group=uid, mode=0o500),
        *(
            FileSpec(device / name, content=value + "\n", owner=uid, group=uid, mode=0o400, secret=True)
            for name, value in (("key", key), ("token", token))
        ),
    ]


def _kept_device_key(directory: Path) -> str:
    """The controller's key, empty if it has none yet.

    :raises InvalidInput: what is there is none.
    """
    key = _text(directory / _DEVICE_KEY).strip()
    if key and not _HEX_KEY.fullmatch(key):
        raise InvalidInput(f"{directory / _DEVICE_KEY} holds no key; remove it to have another one made")
    return key


def _fingerprints(
    directory: Path, uid: int, gateway: Mapping[str, str], controller: Mapping[str, str], private: str
) -> FileSpec:
    """By which the controller recognises in a push what it must not see: the same secrets give the same file."""
    path = directory / "run" / _FINGERPRINTS
    values = [*gateway.values(), *(value for key, value in controller.items() if key != _PUBLIC)]
    # Not what frames an SSH key: that is in every other one, public ones included.
    values += [line for line in private.splitlines() if line and not line.startswith(("#", "-----"))]
    data = make_fingerprints(values, kept_key(path))
    return FileSpec(path, content=json.dumps(data) + "\n", owner=uid, group=uid, mode=0o400, secret=True)


def _private_texts(directory: Path) -> str:
    """All private keys of a bot."""
    return "\n".join(_text(directory / name) for name in (_PRIVATE, _DEVICE_KEY, MASTER))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _registry(request: SecretsRequest, gateway: Mapping[str, str], controller: Mapping[str, str]) -> list[FileSpec]:
    path = request.root / "secrets" / "tokens.env"
    prefix = names.env_prefix(request.bot)
    lines = read_env(path)
    for token, (in_gateway, in_controller) in TOKENS.items():
        lines[prefix + token] = gateway[in_gateway] if in_gateway else controller[str(in_controller)]
    return [_root_file(path, format_env(lines))]


def remembers_secrets(root: Path, bot: str) -> bool:
    """Whether the registry has a line of the bot; reads only."""
    return any(names.env_prefix(bot) + token in read_env(root / "secrets" / "tokens.env") for token in TOKENS)


def forget_secrets(root: Path, bot: str) -> bool:
    """Take a purged bot out of the registry.

    :returns: whether a line was there.
    """
    path = root / "secrets" / "tokens.env"
    with _registry_lock(root):
        lines = read_env(path)
        own = {names.env_prefix(bot) + token for token in TOKENS}
        kept = {key: value for key, value in lines.items() if key not in own}
        if kept == lines:
            return False
        apply_files(plan_files([_root_file(path, format_env(kept))]))
        return True
