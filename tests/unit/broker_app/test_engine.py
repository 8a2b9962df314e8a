"""The engine is trusted to mean well, not to answer."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker_app import engine as engine_module
from broker_app.engine import Engine, EngineError, Upgraded
from tests.unit.broker_app.fake_engine import reply, switch
from tests.unit.broker_app.running import descriptors, eventually, exec_start

SANDBOX = "/v1.41/containers/clawfactory-bot1-sbx-a"


def says(*parts: bytes, then_wait: float = 0):
    """An engine that sends exactly these bytes."""

    async def behaviour(heard, reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        await asyncio.sleep(then_wait)

    return behaviour


async def never(heard, reader, writer):
    await reader.read()


@pytest.fixture
def client(idle) -> Engine:
    return Engine(idle.settings.engine_socket)


BAD = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "garbage": b"\x00\x01\x02 garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a switch nobody asked for": b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 200_000,
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
    "JSON of another form": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "too much": b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b" " * 5_000_000,
    "interim answers only": b"HTTP/1.1 102 Processing\r\n\r\n" * 100_000,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_bad_answer_is_an_error_and_nothing_of_it_is_passed_on(broker, engine, data):
    engine.behaviours["GET /containers/clawfactory-bot1-sbx-a/json"] = says(data)
    before = descriptors()
    with broker.connect() as wire:
        answer = wire.request("GET", f"{SANDBOX}/json")
        assert (answer.status, answer.message) == (502, "the engine does not answer as it should")
        assert wire.request("GET", "/_ping").status == 200
    eventually(lambda: descriptors() <= before and not engine.open)
    assert broker.audit() == []


def test_interim_answers_are_skipped(idle, engine, client):
    engine.behaviours["GET /version"] = says(
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
    )
    assert idle.do(client.call("GET", "/version")).json() == {"a": 1}


def test_an_engine_that_never_answers(broker, engine, monkeypatch):
    engine.behaviours["GET /version"] = never
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.3)
    before = descriptors()
    assert broker.call("GET", "/v1.41/version").status == 502
    eventually(lambda: descriptors() <= before)


def test_an_engine_that_hangs_half_way(idle, engine, client):
    engine.behaviours["GET /version"] = says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", then_wait=60)
    with pytest.raises(EngineError, match=r"0\.3 s"):
        idle.do(client.call("GET", "/version", seconds=0.3))


def test_an_engine_that_is_not_there(broker, idle):
    idle.do(idle.engine.stop())
    assert broker.call("GET", "/v1.41/version").status == 502
    assert broker.call("GET", "/_ping").status == 200
    idle.do(idle.engine.start())
    assert broker.call("GET", "/v1.41/version").status == 200


def test_a_call_is_sent_as_it_was_made(idle, engine, client):
    idle.do(
        client.call("POST", "/containers/create", query={"name": "a b&c=d"}, body={"Labels": {"x": "é\r\n"}, "n": 1})
    )
    (heard,) = engine.heard
    assert (heard.method, heard.path, heard.query) == ("POST", "/containers/create", {"name": "a b&c=d"})
    assert heard.body == {"Labels": {"x": "é\r\n"}, "n": 1}
    assert heard.headers["connection"] == "close"
    idle.do(client.call("POST", "/containers/x/start"))
    assert engine.heard[-1].headers["content-length"] == "0"


def test_every_call_has_a_connection_of_its_own(broker, engine):
    connections = []
    original = engine._serve

    async def counted(reader, writer):
        connections.append(writer)
        await original(reader, writer)

    broker.do(engine.stop())
    engine._serve = counted
    broker.do(engine.start())
    with broker.connect() as wire:
        for _ in range(3):
            wire.request("GET", "/v1.41/version")
    assert len(connections) == 3


def test_a_switch_gives_what_came_with_it(idle, engine, client):
    async def behaviour(heard, reader, writer):
        assert heard.headers["connection"] == "Upgrade"
        assert heard.headers["upgrade"] == "tcp"
        await switch(writer, b"early")

    engine.behaviours["POST /exec/a/start"] = behaviour
    upgraded = idle.do(client.upgrade("/exec/a/start", {"Detach": False}))
    assert isinstance(upgraded, Upgraded)
    assert upgraded.early == b"early"
    upgraded.sock.close()


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [
        (409, "Container abc is paused, unpause the container before exec", None),
        (404, "No such exec instance", None),
        (409, "mkdir /var/lib/docker/overlay2: no space", "the engine refused"),
        (400, "bad\nlines", "the engine refused"),
        (500, "panic: secret", "the engine failed"),
        (200, "", "the engine failed"),
        (301, "", "the engine failed"),
    ],
)
def test_an_exec_that_does_not_start(broker, engine, status, message, shown):
    exec_id = broker.open_exec(engine.named("clawfactory-bot1-sbx-a"))

    async def behaviour(heard, reader, writer):
        await reply(writer, status, {"message": message})

    engine.behaviours["POST /exec/.*/start"] = behaviour
    before = descriptors()
    with broker.connect() as wire:
        wire.send(exec_start(exec_id))
        answer = wire.answer()
        assert answer.status == (status if 400 <= status < 500 else 502)
        assert answer.message == (shown or message)
    eventually(lambda: descriptors() <= before)
    # And the stream's place is given back.
    engine.behaviours.clear()
    for _ in range(70):
        with broker.connect() as wire:
            wire.send(exec_start(broker.open_exec(engine.named("clawfactory-bot1-sbx-a"))))
            assert wire.answer().status == 101


def test_an_exec_whose_engine_hangs_or_lies(broker, engine, monkeypatch):
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.3)
    box = engine.named("clawfactory-bot1-sbx-a")
    before = descriptors()
    for behaviour in (
        never,
        says(b"HTTP/1.1 101 UP"),
        says(b"garbage\r\n\r\n"),
        says(b"HTTP/1.1 400 X\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 999_999, then_wait=1),
    ):
        engine.behaviours["POST /exec/.*/start"] = behaviour
        with broker.connect() as wire:
            wire.send(exec_start(broker.open_exec(box)))
            assert wire.answer().status == 502
    eventually(lambda: descriptors() <= before)


def test_answers_hold_nothing_of_the_host(broker, engine):
    for target in (
        "/v1.41/info",
        "/v1.41/version",
        "/v1.41/containers/json?all=1",
        f"{SANDBOX}/json",
        "/v1.41/containers/clawfactory-bot1-gateway/json",
        "/v1.41/images/clawfactory-sandbox:1/json",
    ):
        answer = broker.call("GET", target)
        assert answer.status == 200, target
        if "sbx" not in target:  # a sandbox's environment came from the gateway
            assert "secret" not in json.dumps(answer.json), target
