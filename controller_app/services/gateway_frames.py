"""Frames of the gateway's WebSocket, read strictly: whatever is not one of them ends the connection.

Form: OpenClaw's own documents, gateway/protocol/transport.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

#: How every event of the real gateway begins. Nothing is asked of events, so these are not even parsed.
_EVENT_HEAD = '{"type":"event"'
_MAX_TEXT = 300
_MAX_CODE = 64


class BadFrame(Exception):
    """What arrived is no frame of the protocol."""


@dataclass(frozen=True)
class Response:
    """An answer to a request.

    :param payload: what was asked for, if ``ok``; of any form.
    """

    id: str
    ok: bool
    payload: Any
    code: str
    message: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Challenge:
    """What the gateway says first."""

    nonce: str
    time: int


def is_event(text: str) -> bool:
    """Whether a frame can be told to be an event by its first bytes."""
    return text.startswith(_EVENT_HEAD)


def parse_response(text: str) -> Response | None:
    """Read a frame after the first one.

    :returns: ``None`` for an event.
    :raises BadFrame: it is neither an answer nor an event.
    """
    frame = _parse(text)
    if frame.get("type") == "event" and isinstance(frame.get("event"), str):
        return None
    identity, ok = frame.get("id"), frame.get("ok")
    if frame.get("type") != "res" or not isinstance(identity, str) or not isinstance(ok, bool):
        raise BadFrame("a frame is neither an answer nor an event")
    if ok:
        return Response(identity, True, frame.get("payload"), "", "", {})
    error = frame.get("error")
    if not isinstance(error, dict):
        raise BadFrame("an answer says that it failed, but not why")
    details = error.get("details")
    return Response(
        identity,
        False,
        None,
        printable(error.get("code"), _MAX_CODE),
        printable(error.get("message"), _MAX_TEXT),
        details if isinstance(details, dict) else {},
    )


def parse_challenge(text: str) -> Challenge:
    """Read the first frame.

    :raises BadFrame: it is no challenge.
    """
    frame = _parse(text)
    payload = frame.get("payload")
    if frame.get("type") != "event" or frame.get("event") != "connect.challenge" or not isinstance(payload, dict):
        raise BadFrame("the first frame is no challenge")
    nonce, time = payload.get("nonce"), payload.get("ts")
    if not isinstance(nonce, str) or not 1 <= len(nonce) <= 256 or not nonce.isascii() or not nonce.isprintable():
        raise BadFrame("the challenge has no nonce")
    # What is signed is a list with this between its parts: a nonce that has one could be read as other parts.
    if "|" in nonce or type(time) is not int or not 0 <= time < 1 << 53:
        raise BadFrame("the challenge has no time, or a nonce that cannot be signed")
    return Challenge(nonce, time)


def encode_request(identity: str, method: str, params: dict[str, Any]) -> str:
    """A request as its frame."""
    return json.dumps({"type": "req", "id": identity, "method": method, "params": params}, allow_nan=False)


def printable(value: object, longest: int) -> str:
    """Text of the gateway as it may be shown: one line, without what steers a terminal; empty if it is no text."""
    text = value[: 4 * longest] if isinstance(value, str) else ""
    kept = "".join(character if character.isprintable() else " " for character in text).strip()
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"


def _parse(text: str) -> dict[str, Any]:
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise BadFrame("a frame is not JSON") from None
    if not isinstance(frame, dict):
        raise BadFrame("a frame is not a JSON object")
    return frame
