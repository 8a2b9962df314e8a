"""Documents about who may talk to the bot. Names, platforms and addresses are what the gateway says.

The same models read the gateway's own answers, with its names of fields.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from ..services.gateway_frames import printable

_MOST = 1000
#: No id can begin with a dash: some end up on a command line.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
#: An account of a channel, named by whoever configured it.
Account = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]


def _shown(longest: int) -> Callable[[Any], Any]:
    return lambda value: printable(value, longest) if isinstance(value, str) else value


def _time(value: Any) -> Any:
    """A time of the gateway: milliseconds since 1970, or text."""
    if type(value) in (int, float) and 0 <= value < 1 << 43:
        return datetime.fromtimestamp(value / 1000, tz=UTC).replace(microsecond=0)
    return value


Label = Annotated[str, BeforeValidator(_shown(200)), StringConstraints(max_length=200)]
Time = Annotated[datetime, BeforeValidator(_time)]
Scopes = Annotated[list[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z.]{0,63}$")]], Field(max_length=32)]


class _Seen(BaseModel):
    """Part of an answer of the gateway. Fields that it adds one day are left out."""

    model_config = ConfigDict(extra="ignore")


class _Device(_Seen):
    #: Fingerprint of its key.
    device: Id = Field(validation_alias=AliasChoices("deviceId", "device"))
    name: Label = Field(default="", validation_alias=AliasChoices("displayName", "name"))
    platform: Label = ""
    #: Kind of program, as it says itself.
    client: Label = Field(default="", validation_alias=AliasChoices("clientId", "client"))
    #: ``operator`` or ``node``.
    role: Label = ""
    scopes: Scopes = []
    address: Label = Field(default="", validation_alias=AliasChoices("remoteIp", "address"))


class PendingDevice(_Device):
    """A device that asks to be let in."""

    #: What to approve or reject.
    request: Id = Field(validation_alias=AliasChoices("requestId", "request"))
    time: Time = Field(validation_alias=AliasChoices("ts", "time"))
    #: Whether it is let in already and asks for more.
    repair: bool = Field(default=False, validation_alias=AliasChoices("isRepair", "repair"))


class PairedDevice(_Device):
    """A device that was let in."""

    approved: Time | None = Field(default=None, validation_alias=AliasChoices("approvedAtMs", "approved"))
    seen: Time | None = Field(default=None, validation_alias=AliasChoices("lastSeenAtMs", "seen"))
    connected: bool = False
    #: Whether it is this controller.
    own: bool = False


class Devices(BaseModel):
    """Answer of ``GET /gateway/devices``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "pending": [
                    {
                        "device": "0b7b7d7064f1317359b89fd2b188a00e0900984568e4a7bece402bdfa1fe8305",
                        "name": "Firefox on Linux",
                        "platform": "linux",
                        "client": "openclaw-control-ui",
                        "role": "operator",
                        "scopes": ["operator.admin"],
                        "address": "10.213.0.17",
                        "request": "75ff32ac-fb97-4a62-8868-804bf07bcac6",
                        "time": "2027-01-15T08:00:00Z",
                        "repair": False,
                    }
                ],
                "paired": [],
            }
        },
    )

    pending: Annotated[list[PendingDevice], Field(max_length=_MOST)]
    paired: Annotated[list[PairedDevice], Field(max_length=_MOST)]


class DeviceDecision(BaseModel):
    """Body of ``POST /gateway/devices/approve`` and ``…/reject``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"request": "75ff32ac-fb97-4a62-8868-804bf07bcac6"}}
    )

    #: Of the pending device.
    request: Annotated[Id, Field(examples=["75ff32ac-fb97-4a62-8868-804bf07bcac6"])]


class PairingRequest(_Seen):
    """Somebody in a chat who asks to talk to the bot."""

    request: Id = Field(validation_alias=AliasChoices("requestId", "request"))
    channel: Channel
    account: Account = Field(validation_alias=AliasChoices("accountId", "account"))
    #: Id of the sender in the channel, and what kind of id it is.
    sender: Label = Field(validation_alias=AliasChoices("senderId", "sender"))
    kind: Label = Field(default="", validation_alias=AliasChoices("senderLabel", "kind"))
    created: Time = Field(validation_alias=AliasChoices("createdAt", "created"))
    expires: Time | None = Field(default=None, validation_alias=AliasChoices("expiresAt", "expires"))


class PairingAccount(_Seen):
    """An account of the bot in a channel, in which whoever is not known has to ask."""

    channel: Channel
    title: Label = Field(default="", validation_alias=AliasChoices("channelLabel", "title"))
    account: Account = Field(validation_alias=AliasChoices("accountId", "account"))
    #: Whether the sender can be told of the approval in the chat.
    notify: bool = Field(default=False, validation_alias=AliasChoices("notifySupported", "notify"))


class PairingRequests(BaseModel):
    """Answer of ``GET /gateway/pairing/{channel}``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "requests": [
                    {
                        "request": "b3b4ab1b1f0d4c7f",
                        "channel": "telegram",
                        "account": "default",
                        "sender": "123456789",
                        "kind": "telegramUserId",
                        "created": "2027-01-15T08:00:00Z",
                        "expires": "2027-01-15T09:00:00Z",
                    }
                ],
                "accounts": [{"channel": "telegram", "title": "Telegram", "account": "default", "notify": True}],
            }
        },
    )

    requests: Annotated[list[PairingRequest], Field(max_length=_MOST)]
    accounts: Annotated[list[PairingAccount], Field(max_length=_MOST)] = []


class PairingApproval(BaseModel):
    """Body of ``POST /gateway/pairing/approve``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"channel": "telegram", "account": "default", "request": "b3b4ab1b1f0d4c7f", "notify": True}
        },
    )

    channel: Annotated[Channel, Field(examples=["telegram"])]
    account: Annotated[Account, Field(examples=["default"])]
    request: Annotated[Id, Field(examples=["b3b4ab1b1f0d4c7f"])]
    #: Whether the sender is told in the chat.
    notify: Annotated[bool, Field(examples=[True])] = False


class Decided(BaseModel):
    """What was decided."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"request": "75ff32ac-fb97-4a62-8868-804bf07bcac6", "decision": "approved"}}
    )

    request: str
    decision: str
