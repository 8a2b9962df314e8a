"""What the broker is told: one JSON file that the role writes and mounts read-only."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from clawfactory_core.errors import InvalidInput
from clawfactory_core.names import check_bot_name

from .json_strict import parse_object
from .refusal import Refused

DEFAULT_SETTINGS_FILE = Path("/etc/clawfactory/broker.json")
#: The bot's containers other than its sandboxes.
PARTS = ("gateway", "proxy", "controller", "broker", "egress")
BOT_LABEL = "clawfactory.bot"
SERVICE_LABEL = "clawfactory.service"
#: On the short-lived containers that look where bind sources lead; see :func:`.policy.plan_check`.
CHECK_LABEL = "clawfactory.check"
#: The allowed reference under which a sandbox was asked for; the engine itself only knows the pinned id.
IMAGE_LABEL = "clawfactory.image"
SANDBOX_SERVICE = "sandbox"

Profile = Literal["gateway", "controller"]

_LARGEST_FILE = 256 * 1024
_REFERENCE = re.compile(r"[a-z0-9]+(?:[._/-][a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_SOURCE = re.compile(r"[A-Za-z0-9_.*-]+(?:/[A-Za-z0-9_.*-]+)*")
# The smallest the engine accepts (its own words: "Minimum memory limit allowed is 6MB").
SMALLEST_MEMORY = 6 * 1024 * 1024


class SettingsError(InvalidInput):
    """The broker must not start with these settings."""


def _require_clean_path(value: str) -> str:
    if not value.startswith("/") or value == "/" or posixpath.normpath(value) != value or value.startswith("//"):
        raise ValueError("must be an absolute, normalised path below /")
    if not value.isprintable() or set(value) & set(":,\\"):
        raise ValueError("must have no control character, ':', ',' or '\\'")
    return value


def _require_bot(value: str) -> str:
    try:
        return check_bot_name(value)
    except InvalidInput as error:
        raise ValueError(str(error)) from None


def _require_images(value: dict[str, str]) -> dict[str, str]:
    for reference, image_id in value.items():
        if len(reference) > 255 or not _REFERENCE.fullmatch(reference):
            raise ValueError("must map references such as 'clawfactory-sandbox:tag'")
        if not _IMAGE_ID.fullmatch(image_id):
            raise ValueError("must map to image ids (sha256: and 64 lower-case hexadecimal digits)")
    return value


def _require_source(value: str) -> str:
    if not _SOURCE.fullmatch(value) or set(value.split("/")) & {".", ".."}:
        raise ValueError("must be a path relative to the state directory, '*' standing for any characters but '/'")
    return value


CleanPath = Annotated[str, AfterValidator(_require_clean_path)]
Uid = Annotated[int, Field(ge=1, le=2**31 - 1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class Client(_Model):
    """One who may call.

    :param socket: path of the unix socket made for this client alone.
    :param uid: the client's user, as the kernel reports it for the socket's peer.
    """

    socket: CleanPath
    uid: Uid


class Clients(_Model):
    """Everybody who may call."""

    gateway: Client
    controller: Client

    @model_validator(mode="after")
    def _refuse_shared(self) -> Clients:
        if self.gateway.socket == self.controller.socket or self.gateway.uid == self.controller.uid:
            raise ValueError("gateway and controller must differ in socket and uid")
        return self


class Network(_Model):
    """The network of sandboxes that may reach egress.

    :param proxy: ``http://address:port`` of egress there.
    """

    name: str
    proxy: str = Field(pattern=r"^http://[0-9]{1,3}(?:\.[0-9]{1,3}){3}:[0-9]{1,5}$")


class Sandbox(_Model):
    """What a sandbox may be.

    :param images: allowed reference to the id of the image it stands for.
    :param uid: user and group of everything in a sandbox.
    :param max_count: sandboxes of the bot at the same time, stopped ones included.
    :param memory_bytes: upper limit, swap included.
    :param nano_cpus: upper limit in 1e-9 processors.
    :param pids: upper limit of processes and threads.
    :param tmpfs_bytes: size of each memory file system.
    :param sources: directories below the bot's ``state/`` whose content a sandbox may see; ``*`` stands for any
        characters within one component.
    :param network: ``None`` leaves sandboxes without network.
    """

    images: Annotated[dict[str, str], Field(min_length=1, max_length=16), AfterValidator(_require_images)]
    uid: Uid
    max_count: int = Field(ge=1, le=256)
    memory_bytes: int = Field(ge=SMALLEST_MEMORY, le=2**50)
    nano_cpus: int = Field(ge=10**7, le=10**12)
    pids: int = Field(ge=1, le=2**22)
    tmpfs_bytes: int = Field(ge=4096, le=2**50)
    sources: list[Annotated[str, AfterValidator(_require_source)]] = Field(min_length=1, max_length=64)
    network: Network | None


class Settings(_Model):
    """Everything the broker is told. Built by :func:`load_settings`; tests build it directly.

    :param gateway_probe: the one command OpenClaw runs in its own container (``SELF_IDENTITY_PROBE`` of its sandbox
        backend, with the path of its Node in front).
    :param lock_file: while it is there the bot is locked, and nothing is answered.
    :param bot_directory: host path that holds the bot's ``state/`` and ``approved/``.
    :param stream_seconds: longest life of a hijacked stream.
    """

    schema_version: int = Field(alias="schema", ge=1, le=1)
    bot: Annotated[str, AfterValidator(_require_bot)]
    engine_socket: CleanPath
    audit_file: CleanPath
    lock_file: CleanPath
    clients: Clients
    gateway_probe: list[str] = Field(min_length=1, max_length=16)
    bot_directory: CleanPath
    sandbox: Sandbox
    stream_seconds: int = Field(ge=1, le=7 * 24 * 3600)

    @model_validator(mode="after")
    def _refuse_foreign_network(self) -> Settings:
        network = self.sandbox.network
        if network is not None and network.name != f"clawfactory-{self.bot}-sandbox":
            raise ValueError("sandbox.network.name must be clawfactory-<bot>-sandbox")
        return self

    @property
    def state_directory(self) -> str:
        """Host path of the bot's own files; the bot may change everything in it."""
        return f"{self.bot_directory}/state"

    @property
    def approved_directory(self) -> str:
        """Host path of the promoted files; the bot changes nothing in it."""
        return f"{self.bot_directory}/approved"

    @property
    def sandbox_prefix(self) -> str:
        """Start of the names of the bot's sandboxes."""
        return f"clawfactory-{self.bot}-sbx-"

    @property
    def sandbox_labels(self) -> dict[str, str]:
        """Labels that every sandbox of the bot carries, and no other container."""
        return {BOT_LABEL: self.bot, SERVICE_LABEL: SANDBOX_SERVICE}

    def part_name(self, part: str) -> str:
        """Name of one of the bot's :data:`PARTS`."""
        return f"clawfactory-{self.bot}-{part}"


def load_settings(path: Path) -> Settings:
    """Read the settings of this process.

    :raises SettingsError: the file cannot be read, or says too much, too little or something else than it should.
    """
    try:
        document = parse_object(path.read_bytes(), _LARGEST_FILE)
        return Settings.model_validate(document)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; run the 'broker' role, which writes it") from None
    except Refused as refusal:
        raise SettingsError(f"{path} is not usable: {refusal.reason}; run the 'broker' role, which writes it") from None
    except ValidationError as error:
        raise SettingsError(f"refused settings in {path}: {_describe(error)}") from None


def _describe(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))} {item['msg'].removeprefix('Value error, ')}".strip() for item in problems
    )
