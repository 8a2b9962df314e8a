"""Who the controller is to the gateway: a device with a key of its own, and the token that every client presents."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from clawfactory_core.errors import CoreError

#: OpenClaw's name for programs that are no person's browser; it decides nothing here, because the scopes below do.
CLIENT_ID, CLIENT_MODE = "gateway-client", "backend"
ROLE = "operator"
#: Who lets a browser of the control UI in has to hold what it asks for, which is this one; it includes all others.
SCOPES = ("operator.admin",)
PROTOCOL = 4
_PLATFORM = "linux"
_KEY = re.compile("[0-9a-f]{64}")
_TOKEN = re.compile("[!-~]{1,512}")


class DeviceUnavailable(CoreError):
    """The controller has no identity to show; the text never contains a secret."""


@dataclass(frozen=True)
class Device:
    """The identity as it is read for one connection.

    :param token: the gateway's.
    """

    key: SigningKey = field(repr=False)
    token: str = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """By which the gateway knows the device."""
        return bytes(self.key.verify_key)

    @property
    def id(self) -> str:
        """What the gateway calls it: the fingerprint of the public key."""
        return hashlib.sha256(self.public_key).hexdigest()

    def connect_params(self, *, nonce: str, signed_at: int, version: str) -> dict[str, Any]:
        """Parameters of ``connect``, signed for one challenge (OpenClaw's documents: gateway/protocol/auth.md, v3).

        :param nonce: of the challenge.
        :param signed_at: the challenge's time, in milliseconds.
        :param version: of the controller.
        """
        parts = (self.id, CLIENT_ID, CLIENT_MODE, ROLE, ",".join(SCOPES), str(signed_at), self.token, nonce, _PLATFORM)
        signature = self.key.sign("|".join(("v3", *parts, "")).encode()).signature
        return {
            "minProtocol": PROTOCOL,
            "maxProtocol": PROTOCOL,
            "client": {
                "id": CLIENT_ID,
                "displayName": "ClawFactory controller",
                "version": version,
                "platform": _PLATFORM,
                "mode": CLIENT_MODE,
            },
            "role": ROLE,
            "scopes": list(SCOPES),
            "caps": [],
            "auth": {"token": self.token},
            "device": {
                "id": self.id,
                "publicKey": _base64url(self.public_key),
                "signature": _base64url(signature),
                "signedAt": signed_at,
                "nonce": nonce,
            },
        }


def read_device(directory: Path) -> Device:
    """Read the key and the token anew: the token is another one after a restore.

    :param directory: has ``key`` (64 hexadecimal digits) and ``token``; role ``secrets`` writes both.
    :raises DeviceUnavailable: one of them is missing or has another form.
    """
    key, token = (_read(directory / name) for name in ("key", "token"))
    if not _KEY.fullmatch(key) or not _TOKEN.fullmatch(token):
        raise DeviceUnavailable(f"{directory} holds no key or token of the right form; run 'site.yml', which writes it")
    return Device(SigningKey(bytes.fromhex(key)), token)


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[:1024].decode("ascii", "replace").strip()
    except OSError as error:
        raise DeviceUnavailable(f"cannot read {path}: {error.strerror}; run 'site.yml', which writes it") from None


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
