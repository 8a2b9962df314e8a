"""Bodies of the requests that are read, as strict models.

Field names are Docker's own, in their one spelling: the engine reads JSON keys in any case, the broker does not. What
the Docker client 26 sends is declared; a field the broker has no use for takes its empty value only, and every field
that is not declared is refused. Source: api/types of moby 26.1 and the requests of its client, recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from .refusal import Refused

_LONGEST_COMMAND = 128 * 1024  # bytes of all arguments
_LONGEST_ENVIRONMENT = 32 * 1024
_LARGEST_NUMBER = 2**53


def _require_false(value: bool) -> bool:
    if value:
        raise ValueError("must be false")
    return value


def _limit_command(value: list[str]) -> list[str]:
    if sum(len(argument.encode()) for argument in value) > _LONGEST_COMMAND:
        raise ValueError("is too long")
    return value


def _limit_environment(value: list[str] | None) -> list[str] | None:
    if sum(len(entry.encode()) for entry in value or []) > _LONGEST_ENVIRONMENT:
        raise ValueError("is too long")
    return value


# Not Literal[...]: pydantic takes 0 for Literal[False] and 0.0 for Literal[0].
_False = Annotated[bool, AfterValidator(_require_false)]
_Zero = Annotated[int, Field(ge=0, le=0)]
_NoText = Annotated[str, Field(max_length=0)]
_NoList = Annotated[list[Any], Field(max_length=0)] | None
_NoMap = Annotated[dict[str, Any], Field(max_length=0)] | None
_Amount = Annotated[int, Field(ge=0, le=_LARGEST_NUMBER)]
_UnlimitedAmount = Annotated[int, Field(ge=-1, le=_LARGEST_NUMBER)]
_ShortText = Annotated[str, Field(max_length=256)]
_Path = Annotated[str, Field(max_length=1024)]
_Environment = Annotated[
    Annotated[list[Annotated[str, Field(min_length=2, max_length=_LONGEST_ENVIRONMENT)]], Field(max_length=64)] | None,
    AfterValidator(_limit_environment),
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class RestartPolicy(_Model):
    """Never restarted: a sandbox must not outlive a stop of its bot."""

    Name: Annotated[str, Field(pattern=r"^(?:no)?$")] = ""
    MaximumRetryCount: _Zero = 0


class LogConfig(_Model):
    """The client's default."""

    Type: _NoText = ""
    Config: _NoMap = None


# A field of a class cannot have the name of its own type.
_LogConfig = LogConfig
_RestartPolicy = RestartPolicy


class HostConfig(_Model):
    """Docker's ``HostConfig``."""

    # Used.
    Binds: Annotated[list[Annotated[str, Field(max_length=8192)]], Field(max_length=256)] | None = None
    Tmpfs: Annotated[dict[_ShortText, _ShortText], Field(max_length=8)] | None = None
    NetworkMode: _ShortText = "none"
    CapDrop: Annotated[list[Annotated[str, Field(pattern=r"^[A-Z_]{1,32}$")]], Field(max_length=64)] | None = None
    SecurityOpt: Annotated[list[_ShortText], Field(max_length=4)] | None = None
    Memory: _Amount = 0
    MemorySwap: _UnlimitedAmount = 0
    NanoCpus: _Amount = 0
    PidsLimit: _UnlimitedAmount | None = None
    # Read, because the client sends them, but always true in the end.
    ReadonlyRootfs: bool = False
    Init: bool | None = None
    # Empty.
    ContainerIDFile: _NoText = ""
    LogConfig: _LogConfig = _LogConfig()
    PortBindings: _NoMap = None
    RestartPolicy: _RestartPolicy = _RestartPolicy()
    AutoRemove: _False = False
    VolumeDriver: _NoText = ""
    VolumesFrom: _NoList = None
    ConsoleSize: Annotated[list[_Zero], Field(min_length=2, max_length=2)] | None = None
    CapAdd: _NoList = None
    CgroupnsMode: _NoText = ""
    Dns: _NoList = None
    DnsOptions: _NoList = None
    DnsSearch: _NoList = None
    ExtraHosts: _NoList = None
    GroupAdd: _NoList = None
    IpcMode: _NoText = ""
    Cgroup: _NoText = ""
    Links: _NoList = None
    OomScoreAdj: _Zero = 0
    PidMode: _NoText = ""
    Privileged: _False = False
    PublishAllPorts: _False = False
    UTSMode: _NoText = ""
    UsernsMode: _NoText = ""
    ShmSize: _Zero = 0
    Isolation: _NoText = ""
    CpuShares: _Zero = 0
    CgroupParent: _NoText = ""
    BlkioWeight: _Zero = 0
    BlkioWeightDevice: _NoList = None
    BlkioDeviceReadBps: _NoList = None
    BlkioDeviceWriteBps: _NoList = None
    BlkioDeviceReadIOps: _NoList = None
    BlkioDeviceWriteIOps: _NoList = None
    CpuPeriod: _Zero = 0
    CpuQuota: _Zero = 0
    CpuRealtimePeriod: _Zero = 0
    CpuRealtimeRuntime: _Zero = 0
    CpusetCpus: _NoText = ""
    CpusetMems: _NoText = ""
    Devices: _NoList = None
    DeviceCgroupRules: _NoList = None
    DeviceRequests: _NoList = None
    MemoryReservation: _Zero = 0
    # -1 is the client's way to say nothing.
    MemorySwappiness: Annotated[int, Field(ge=-1, le=-1)] | None = None
    OomKillDisable: _False | None = None
    Ulimits: _NoList = None
    CpuCount: _Zero = 0
    CpuPercent: _Zero = 0
    IOMaximumIOps: _Zero = 0
    IOMaximumBandwidth: _Zero = 0
    # An empty list would uncover what Docker hides of /proc and /sys; only null keeps it hidden.
    MaskedPaths: None = None
    ReadonlyPaths: None = None


class NetworkingConfig(_Model):
    """Docker's ``NetworkingConfig``; the client names a single network in ``HostConfig.NetworkMode`` alone."""

    EndpointsConfig: _NoMap = None


_HostConfig = HostConfig
_NetworkingConfig = NetworkingConfig


class ContainerCreate(_Model):
    """``POST /containers/create``."""

    # Used.
    Image: Annotated[str, Field(min_length=1, max_length=255)]
    User: _ShortText = ""
    Env: _Environment = None
    Cmd: Annotated[list[_ShortText], Field(max_length=2)]
    WorkingDir: _Path = ""
    Labels: Annotated[dict[_ShortText, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = None
    HostConfig: _HostConfig
    # Read, because the client sends them; nothing is ever attached to the main process.
    AttachStdout: bool = False
    AttachStderr: bool = False
    # Empty.
    NetworkingConfig: _NetworkingConfig = _NetworkingConfig()
    Hostname: _NoText = ""
    Domainname: _NoText = ""
    AttachStdin: _False = False
    Tty: _False = False
    OpenStdin: _False = False
    StdinOnce: _False = False
    Volumes: _NoMap = None
    Entrypoint: _NoList = None
    OnBuild: _NoList = None


class ExecCreate(_Model):
    """``POST /containers/{id}/exec``."""

    User: _ShortText = ""
    Privileged: _False = False
    Tty: bool = False
    AttachStdin: bool = False
    AttachStderr: bool = False
    AttachStdout: bool = False
    Detach: _False = False
    DetachKeys: _NoText = ""
    Env: _Environment = None
    WorkingDir: _Path = ""
    Cmd: Annotated[list[str], Field(min_length=1, max_length=256), AfterValidator(_limit_command)]


class ExecStart(_Model):
    """``POST /exec/{id}/start``."""

    Detach: _False = False
    Tty: bool = False


_M = TypeVar("_M", bound=_Model)


def read_model(model: type[_M], document: Mapping[str, Any]) -> _M:
    """Hold a parsed body against a model.

    :param document: of :func:`.json_strict.parse_object`.
    :raises Refused: 400 for what the model does not know, 403 for a value that is not allowed; the reason names
        declared fields only.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        names = _declared(model, first["loc"])
        kind = first["type"]
        if kind == "extra_forbidden":
            raise Refused(400, f"{names or 'the body'} has an unknown field") from None
        if kind == "missing" or kind.endswith("_type"):
            raise Refused(400, f"{names or 'the body'} is missing or of another type") from None
        raise Refused(403, f"{names or 'the body'} has a value that is not allowed") from None


def _declared(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The part of a location that is made of field names of ours."""
    names: list[str] = []
    current: Any = model
    for part in location:
        if not (isinstance(current, type) and issubclass(current, BaseModel)) or part not in current.model_fields:
            break
        names.append(str(part))
        current = current.model_fields[str(part)].annotation
    return ".".join(names)
