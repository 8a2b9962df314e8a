"""Reads what a push wants to do before git sees it, and writes git's own answer to one that is refused.

The form is that of gitprotocol-pack(5), "Reference Update Request" and "Report Status".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clawfactory_core.errors import InvalidInput
from clawfactory_core.promotion.names import PREFIX, proposal_of

_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0\n]{1,512})")
_LENGTH = re.compile(rb"[0-9a-f]{4}")
_NOBODY = "0" * 40
_MOST = 16
_SIDE_BAND = 65000  # bytes of text in one packet; 65,520 is the limit


@dataclass(frozen=True)
class PushCommand:
    """One ref that a push wants to move; ids are 40 hexadecimal digits, zeros for none."""

    old: str
    new: str
    ref: str

    @property
    def is_new(self) -> bool:
        """Whether the client takes the ref for one that is not there yet."""
        return self.old == _NOBODY


@dataclass(frozen=True)
class PushCommands:
    """All of a push.

    :param capabilities: what the client understands.
    """

    commands: tuple[PushCommand, ...]
    capabilities: frozenset[str]


def read_commands(body: bytes) -> PushCommands:
    """Read the beginning of a push; the pack that follows is left alone.

    :returns: without commands if the client only tried whether it may push.
    :raises InvalidInput: it is not a push, or one that no ordinary git sends here.
    """
    commands: list[PushCommand] = []
    capabilities: frozenset[str] = frozenset()
    offset = 0
    while line := _packet(body, offset):
        offset += 4 + len(line)
        text, _, given = line.partition(b"\0")
        if not commands and given:
            capabilities = frozenset(given.decode("ascii", "replace").split())
        if text.startswith(b"shallow "):
            raise InvalidInput("the clone has no whole history; clone again without --depth")
        match = _COMMAND.fullmatch(text.rstrip(b"\n"))
        if match is None or len(commands) >= _MOST:
            raise InvalidInput("the body is not a push")
        old, new, ref = match.groups()
        commands.append(PushCommand(old.decode(), new.decode(), ref.decode("utf-8", "replace")))
    return PushCommands(tuple(commands), capabilities)


def form_problem(command: PushCommand) -> str | None:
    """Why a ref may not be pushed whatever is in it, for the bot; ``None`` if it may."""
    if proposal_of(command.ref) is None:
        return (
            f"only {PREFIX}<name> may be pushed, with a name of 1 to 64 lower-case letters, digits and inner dashes; "
            f"try: git push origin HEAD:{PREFIX}<name>"
        )
    if command.new == _NOBODY:
        return "a proposal cannot be deleted; the operator denies or merges it"
    return None


def refusal_report(push: PushCommands, reasons: dict[str, str], hint: str = "") -> bytes:
    """What git prints for a push of which nothing was taken.

    :param reasons: by ref; a ref without one is refused with the others.
    :param hint: lines for whoever pushed, shown as ``remote: …``.
    """
    report = b"".join(
        _packet_line(f"ng {command.ref} {_one_line(reasons.get(command.ref, 'refused with the rest of the push'))}\n")
        for command in push.commands
    )
    report = _packet_line("unpack ok\n") + report + b"0000"
    if not push.capabilities & {"side-band", "side-band-64k"}:
        return report if push.capabilities & {"report-status", "report-status-v2"} else b""
    size = _SIDE_BAND if "side-band-64k" in push.capabilities else 990
    shown = b"".join(_band(2, chunk) for chunk in _pieces(hint.encode() + b"\n" if hint else b"", size))
    return shown + b"".join(_band(1, chunk) for chunk in _pieces(report, size)) + b"0000"


def _packet(body: bytes, offset: int) -> bytes:
    """Content of the packet at ``offset``; empty for a flush packet."""
    head = body[offset : offset + 4]
    if not _LENGTH.fullmatch(head):
        raise InvalidInput("the body is not a push")
    length = int(head, 16)
    if length == 0:
        return b""
    content = body[offset + 4 : offset + length]
    if length <= 4 or len(content) != length - 4:
        raise InvalidInput("the body is not a push")
    return content


def _packet_line(text: str) -> bytes:
    content = text.encode("utf-8", "replace")
    return f"{len(content) + 4:04x}".encode() + content


def _band(number: int, content: bytes) -> bytes:
    return f"{len(content) + 5:04x}".encode() + bytes([number]) + content


def _pieces(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:900]
