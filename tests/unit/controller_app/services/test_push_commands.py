from __future__ import annotations

import pytest

from clawfactory_core.errors import InvalidInput
from controller_app.services.push_commands import PushCommand, form_problem, read_commands, refusal_report

NEW, NONE = "1" * 40, "0" * 40


def packet(text: str | bytes) -> bytes:
    content = text if isinstance(text, bytes) else text.encode()
    return f"{len(content) + 4:04x}".encode() + content


def body(*refs: str, capabilities: str = "report-status side-band-64k") -> bytes:
    lines = [f"{NONE} {NEW} {ref}" for ref in refs]
    return packet(f"{lines[0]}\0 {capabilities}") + b"".join(packet(line) for line in lines[1:]) + b"0000PACK"


def test_refs_are_read_in_order():
    push = read_commands(body("refs/heads/proposal/a", "refs/tags/v1"))
    assert [command.ref for command in push.commands] == ["refs/heads/proposal/a", "refs/tags/v1"]


def test_nothing_is_no_command():
    assert read_commands(b"0000").commands == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"000",
        b"0001",
        b"0003",
        b"0004",
        b"00x0",
        b"-001",
        b"ffff" + b"x" * 10,
        packet("push-cert\0 report-status"),
        packet(f"shallow {NEW}"),
        packet(f"{NONE} {NEW}"),
        packet(f"{NONE} {NEW} a\nb"),
        packet(f"{NONE[:-1]} {NEW} a"),
        packet(f"{NONE} {NEW} refs/heads/x"),  # nothing ends the list
        body(*[f"refs/heads/proposal/{number}" for number in range(17)]),
    ],
)
def test_anything_else_is_no_push(content):
    with pytest.raises(InvalidInput):
        read_commands(content)


@pytest.mark.parametrize("ref", ["refs/heads/proposal/a", "refs/heads/proposal/a-1", "refs/heads/proposal/" + "a" * 64])
def test_proposals_may_be_pushed(ref):
    assert form_problem(PushCommand(NONE, NEW, ref)) is None
    assert "cannot be deleted" in str(form_problem(PushCommand(NEW, NONE, ref)))


def test_report_goes_through_the_side_band():
    push = read_commands(body("refs/heads/main", "refs/heads/proposal/a"))
    report = refusal_report(push, {"refs/heads/main": "no\nway"}, "REFUSED")
    inner = packet("unpack ok\n") + packet("ng refs/heads/main no?way\n")
    inner += packet("ng refs/heads/proposal/a refused with the rest of the push\n") + b"0000"
    assert report == packet(b"\2REFUSED\n") + packet(b"\1" + inner) + b"0000"


def test_report_without_a_side_band():
    push = read_commands(body("refs/heads/main", capabilities="report-status"))
    assert refusal_report(push, {}).startswith(packet("unpack ok\n") + packet("ng refs/heads/main refused with the rest"
                                                                              " of the push\n"))  # fmt: skip
    assert refusal_report(read_commands(body("refs/heads/main", capabilities="agent=x")), {}) == b""
