from __future__ import annotations

import pytest

from clawfactory_core.adapters.container_log import demultiplexed, read_log
from clawfactory_core.adapters.engine_socket import EngineUnavailable
from clawfactory_core.errors import CoreError
from tests.support.engine import engine_server

NAME = "clawfactory-bot1-egress"


def piece(text: bytes) -> bytes:
    return b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with engine_server("engine.sock") as server:
        yield server


def test_the_end_of_a_log_is_text(engine):
    engine.answers[f"/containers/{NAME}/logs"] = (200, piece(b"one\n") + piece(b"tw\xff\n"))
    assert read_log(NAME, lines=5, largest=1000, path="engine.sock") == "one\ntw\ufffd\n"


def test_a_long_log_is_cut(engine):
    engine.answers[f"/containers/{NAME}/logs"] = (200, piece(b"x" * 5000))
    assert len(read_log(NAME, lines=5, largest=100, path="engine.sock")) == 92


def test_no_container_and_no_engine_are_said(engine):
    with pytest.raises(CoreError, match="404"):
        read_log(NAME, lines=5, largest=100, path="engine.sock")
    with pytest.raises(EngineUnavailable):
        read_log(NAME, lines=5, largest=100, path="absent.sock")


@pytest.mark.parametrize("raw", [b"", b"x", b"\x01\0\0\0\xff\xff\xff\xffabc", bytes(64)])
def test_what_is_no_log_is_read_to_its_end(raw):
    assert demultiplexed(raw) in (b"", b"abc")
