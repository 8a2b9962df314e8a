from __future__ import annotations

import pytest

from clawfactory_core.killswitch.operator import Session, find_session, parse_session


def process(proc, pid, parent, environment=b"PATH=/bin\0"):
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "environ").write_bytes(environment)
    (proc / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 0")


def test_session_is_found_behind_shells_and_sudo(tmp_path):
    process(tmp_path, 10, 1, b"SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 2222\0")
    process(tmp_path, 20, 10)
    process(tmp_path, 30, 20, b"SSH_CONNECTION=nonsense\0")
    assert find_session(tmp_path, 30) == Session("192.0.2.7", 2222)


def test_without_a_session_there_is_none(tmp_path):
    process(tmp_path, 10, 1)
    assert find_session(tmp_path, 10) is None
    assert find_session(tmp_path, 99) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7 1 192.0.2.1 22", Session("192.0.2.7", 22)),
        ("::ffff:192.0.2.7 1 ::1 22", Session("192.0.2.7", 22)),
        ("fe80::1%eth0 1 fe80::2 22", Session("fe80::1", 22)),
        ("192.0.2.7 1 192.0.2.1", None),
        ("192.0.2.7 1 192.0.2.1 x", None),
        ("} accept 1 192.0.2.1 22", None),
    ],
)
def test_parse(text, expected):
    assert parse_session(text) == expected
