"""Hijacked streams: both directions, half-close, back-pressure, ends, and how little they may take."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time

import pytest

from broker_app import clients, streams
from tests.unit.broker_app.fake_engine import reply, switch
from tests.unit.broker_app.running import descriptors, eventually, exec_start, request

START = "POST /exec/.*/start"


@pytest.fixture
def box(broker, engine):
    return engine.named("clawfactory-bot1-sbx-a")


@pytest.fixture
def short_ticks(monkeypatch):
    monkeypatch.setattr(streams, "_TICK_SECONDS", 0.05)


def test_bytes_go_both_ways_and_half_close_is_passed_on(broker, box):
    with broker.stream(broker.open_exec(box)) as wire:
        wire.send(b"hello\0\xff\r\n\r\n")
        assert wire.read(11) == b"hello\0\xff\r\n\r\n"[:11]
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.closed()


def test_the_answer_is_the_one_docker_expects(broker, box):
    with broker.connect() as wire:
        wire.send(exec_start(broker.open_exec(box)))
        answer = wire.answer()
        assert answer.status == 101
        assert (answer.headers["connection"], answer.headers["upgrade"]) == ("Upgrade", "tcp")
        assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"


def test_what_comes_with_the_request_and_with_the_switch_is_delivered(broker, engine, box):
    got = []

    async def behaviour(heard, reader, writer):
        await switch(writer, b"from the engine")
        got.append(await reader.readexactly(15))
        writer.write(b"|done")
        await writer.drain()

    engine.behaviours[START] = behaviour
    with broker.connect() as wire:
        wire.send(exec_start(broker.open_exec(box)) + b"from the client")
        assert wire.answer().status == 101
        assert wire.rest() == b"from the engine|done"
    assert got == [b"from the client"]


def test_a_request_in_the_stream_is_only_bytes(broker, engine, box):
    with broker.stream(broker.open_exec(box)) as wire:
        heard = len(engine.heard)
        smuggled = request("DELETE", f"/v1.41/containers/{box.name}?force=1")
        wire.send(smuggled)
        assert wire.read(len(smuggled)) == smuggled
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.closed()
        assert len(engine.heard) == heard
    assert box.id in engine.boxes


def test_much_data_arrives_unchanged(broker, box):
    data = os.urandom(1 << 20) * 24
    with broker.stream(broker.open_exec(box)) as wire:

        def send():
            wire.send(data)
            wire.sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        digest, size = hashlib.sha256(), 0
        while part := wire.sock.recv(1 << 18):
            digest.update(part)
            size += len(part)
        sender.join()
    assert size == len(data)
    assert digest.digest() == hashlib.sha256(data).digest()


def test_a_client_that_does_not_read_slows_the_engine_down(broker, engine, box):
    sent = []

    async def flood(heard, reader, writer):
        await switch(writer)
        for _ in range(2000):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent.append(65536)

    engine.behaviours[START] = flood
    with broker.stream(broker.open_exec(box)) as wire:
        eventually(lambda: sent)
        last = -1
        while (now := sum(sent)) != last:  # until it stands still
            assert now < 4 << 20
            last = now
            time.sleep(1)
        # Others are served meanwhile.
        assert broker.call("GET", "/_ping").status == 200
        total = len(wire.buffer)  # what came with the answer's header
        while part := wire.sock.recv(1 << 20):
            total += len(part)
        assert total == 2000 * 65536


def test_an_engine_that_does_not_read_slows_the_client_down(broker, engine, box):
    async def deaf(heard, reader, writer):
        reader._transport.pause_reading()
        await switch(writer)
        await asyncio.sleep(60)

    engine.behaviours[START] = deaf
    with broker.stream(broker.open_exec(box)) as wire:
        wire.sock.setblocking(False)
        sent, deadline = 0, time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                sent += wire.sock.send(b"x" * 65536)
            except BlockingIOError:
                time.sleep(0.02)
        assert sent < 4 << 20
        assert broker.call("GET", "/_ping").status == 200


def test_the_end_of_the_engine_ends_a_client_that_still_sends(broker, engine, box):
    async def head(heard, reader, writer):  # as `head -1` does
        await switch(writer)
        await reader.readexactly(1)
        writer.write(b"y")
        await writer.drain()

    engine.behaviours[START] = head
    with broker.stream(broker.open_exec(box)) as wire:
        wire.send(b"y" * 100_000)
        assert wire.rest() == b"y"


@pytest.mark.usefixtures("short_ticks")
def test_a_client_that_goes_ends_the_engine_side(broker, engine, box):
    ended = []

    async def silent(heard, reader, writer):
        await switch(writer)
        while await reader.read(65536):
            pass
        # A command that goes on after its input has ended.
        await asyncio.sleep(0.3)
        try:
            for _ in range(200):
                writer.write(b"x" * 65536)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            ended.append("broken")

    engine.behaviours[START] = silent
    before = descriptors()
    broker.stream(broker.open_exec(box)).sock.close()
    eventually(lambda: ended == ["broken"])
    eventually(lambda: descriptors() <= before)


@pytest.mark.usefixtures("short_ticks")
def test_a_client_that_half_closes_and_then_goes_is_noticed(broker, engine, box):
    async def silent(heard, reader, writer):
        await switch(writer)
        await asyncio.sleep(30)

    engine.behaviours[START] = silent
    before = descriptors()
    wire = broker.stream(broker.open_exec(box))
    wire.sock.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    assert descriptors() > before, "half-closed is not gone"
    wire.sock.close()
    eventually(lambda: descriptors() <= before + 1)  # the fake engine sleeps on


def test_half_closed_a_client_still_gets_everything(broker, engine, box):
    async def sums(heard, reader, writer):
        await switch(writer)
        data = await reader.read()
        await asyncio.sleep(0.5)
        writer.write(str(len(data)).encode())
        await writer.drain()

    engine.behaviours[START] = sums
    with broker.stream(broker.open_exec(box)) as wire:
        wire.send(b"x" * 12345)
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"12345"


@pytest.mark.usefixtures("short_ticks")
def test_a_dead_engine_and_a_client_that_never_reads(broker, engine, box, monkeypatch):
    monkeypatch.setattr(streams, "_STALL_TICKS", 4)

    async def dies(heard, reader, writer):
        await switch(writer)
        writer.write(b"x" * (2 << 20))
        await asyncio.sleep(0.3)
        writer.transport.abort()

    engine.behaviours[START] = dies
    before = descriptors()
    wire = broker.stream(broker.open_exec(box))
    eventually(lambda: descriptors() <= before + 1)  # ours
    wire.sock.close()


@pytest.mark.usefixtures("short_ticks")
def test_a_stream_ends_with_its_time(idle):
    idle.settings = idle.settings.model_copy(update={"stream_seconds": 1})
    sandbox = idle.sandbox()
    idle.start()
    started = time.monotonic()
    with idle.stream(idle.open_exec(sandbox)) as wire:
        while time.monotonic() < started + 0.5:
            wire.send(b"x")
            time.sleep(0.05)
        wire.rest()
    assert 0.9 < time.monotonic() - started < 5


def test_streams_have_places_of_their_own(broker, box, monkeypatch):
    wires = [broker.stream(broker.open_exec(box)) for _ in range(clients.MAX_STREAMS)]
    one_more = exec_start(broker.open_exec(box))
    assert broker.raw(one_more).startswith(b"HTTP/1.1 429")
    # They keep nobody from calling, and the other client from nothing.
    assert broker.call("GET", "/v1.41/version").status == 200
    assert broker.call("GET", "/v1.41/version", client="controller").status == 200
    for index, wire in enumerate(wires):
        wire.send(b"%d" % index)
        assert wire.read(len(str(index))) == b"%d" % index
    wires.pop().sock.close()
    wire = eventually(lambda: started(broker, box))
    wire.sock.close()
    for wire in wires:
        wire.sock.close()


def started(broker, box):
    wire = broker.connect()
    wire.send(exec_start(broker.open_exec(box)))
    if wire.answer().status == 101:
        return wire
    wire.sock.close()
    return None


def test_many_streams_leave_nothing(broker, engine, box):
    before = descriptors()
    for index in range(300):
        wire = broker.stream(broker.open_exec(box))
        if index % 3 == 0:
            wire.send(b"x")
        if index % 3 == 1:
            wire.sock.shutdown(socket.SHUT_WR)
        wire.sock.close()
    eventually(lambda: descriptors() <= before and not engine.open)


def test_garbage_of_the_engine_after_the_switch_is_the_streams(broker, engine, box):
    async def behaviour(heard, reader, writer):
        await switch(writer, b"HTTP/1.1 200 OK\r\n\r\n\0\xff")

    engine.behaviours[START] = behaviour
    with broker.stream(broker.open_exec(box)) as wire:
        assert wire.rest() == b"HTTP/1.1 200 OK\r\n\r\n\0\xff"


def test_a_refused_start_leaves_the_connection_usable_as_http(broker, engine, box):
    async def gone(heard, reader, writer):
        await reply(writer, 409, {"message": "Container is not running"})

    engine.behaviours[START] = gone
    with broker.connect() as wire:
        wire.send(exec_start(broker.open_exec(box)))
        assert wire.answer().status == 409
        assert wire.request("GET", "/_ping").status == 200
