"""The broker's client. What a log or a command says is the bot's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.services import broker as module
from controller_app.services.broker import Broker
from controller_app.services.gateway_pairing import own_approval
from tests.support.broker_socket import EXEC, BrokerSocket, piece, reply

pytestmark = pytest.mark.anyio
RESTART = "POST /containers/clawfactory-bot1-gateway/restart"
LOGS = "GET /containers/clawfactory-bot1-gateway/logs"


@pytest.fixture
async def socket(tmp_path) -> AsyncIterator[BrokerSocket]:
    server = BrokerSocket(tmp_path / "broker.sock")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def broker(socket) -> Broker:
    return Broker(socket.path, "bot1")


async def lines(broker: Broker, **options) -> list[str]:
    return [line async for line in broker.logs("gateway", **{"tail": 10, **options})]


async def test_restart(broker, socket):
    socket.answers[RESTART] = reply(204)
    await broker.restart_gateway()
    assert socket.requests == [(RESTART, "t=20", None)]


@pytest.mark.parametrize(("said", "told"), [(404, 404), (409, 409), (429, 429), (403, 502), (500, 502), (200, 502)])
async def test_refusals_keep_what_they_say(broker, socket, said, told):
    socket.answers[RESTART] = reply(said, {"message": "no such thing"})
    with pytest.raises(Refusal, match="no such thing") as refusal:
        await broker.restart_gateway()
    assert refusal.value.status == told


async def test_nobody_there(tmp_path):
    with pytest.raises(Refusal, match=r"absent\.sock.*clawfactory-bot1-broker has to run") as refusal:
        await Broker(tmp_path / "absent.sock", "bot1").restart_gateway()
    assert refusal.value.status == 503


async def test_never_answering(broker, socket, monkeypatch):
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.2)
    monkeypatch.setattr(module, "_CALL_SECONDS", 0.2)
    socket.answers[RESTART] = socket.answers[LOGS] = None
    for asked in (broker.restart_gateway(), lines(broker)):
        with pytest.raises(Refusal) as refusal:
            await asked
        assert refusal.value.status == 504


@pytest.mark.parametrize("raw", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 204\r\nX: " + b"x" * 200_000])
async def test_what_is_no_http(broker, socket, raw):
    socket.answers[RESTART] = raw or b"\r\n\r\nConnection:"
    with pytest.raises(Refusal) as refusal:
        await broker.restart_gateway()
    assert refusal.value.status in (502, 504)


async def test_log_lines_across_pieces(broker, socket):
    socket.log(piece(b"one\ntw") + piece(b"error\n", 2) + piece(b"o\nthree"))
    assert await lines(broker) == ["one", "error", "two", "three"]
    assert socket.requests[0][1] == "stdout=1&stderr=1&timestamps=1&tail=10&follow=0"


async def test_log_does_not_steer_a_terminal(broker, socket):
    socket.log(piece(b"\x1b]0;evil\x07\xff\xfe\r\x00ok\tx\n"))
    (line,) = await lines(broker)
    assert line.replace("\t", "").isprintable() and line.endswith("ok\tx")


async def test_a_line_without_end_is_cut(broker, socket):
    socket.log(b"".join(piece(b"x" * 65536) for _ in range(40)) + piece(b"\nnext\n"))
    found = await lines(broker)
    assert found[-1] == "next" and all(len(line) <= 16384 for line in found)


@pytest.mark.parametrize("raw", [b"\x07\x00\x00\x00\x00\x00\x00\x01x", b"\x01\x00\x00\x00\xff\xff\xff\xffx"])
async def test_what_is_no_log(broker, socket, raw):
    socket.log(raw)
    with pytest.raises(Refusal, match="no log"):
        await lines(broker)


async def test_command(broker, socket):
    socket.command(piece(b"warning\n", 2) + piece(b'{"a"') + piece(b": 1}\n"), code=3)
    done = await broker.run(("openclaw", "health", "--json"), seconds=5)
    assert (done.code, done.text) == (3, '{"a": 1}\n')
    created, started = socket.requests[0], socket.requests[1]
    assert created[2] == {"AttachStdout": True, "AttachStderr": True, "Cmd": ["openclaw", "health", "--json"]}
    assert started == (f"POST /exec/{EXEC}/start", "", {"Detach": False, "Tty": False})


async def test_what_it_says_on_failing_is_kept(broker, socket):
    socket.command(piece(b"it does not work\n", 2), code=1)
    assert (await broker.run(("openclaw", "health", "--json"), seconds=5)).text == "it does not work\n"


async def test_output_is_bounded(broker, socket):
    socket.command(piece(b"x" * (1 << 20)) * 5)
    assert len((await broker.run(("openclaw", "health", "--json"), seconds=5)).text) == 2 << 20


async def test_command_that_does_not_end(broker, socket):
    socket.command(b"")
    socket.answers[f"POST /exec/{EXEC}/start"] = None
    with pytest.raises(Refusal, match=r"did not end within 0\.2 s") as refusal:
        await broker.run(("openclaw", "health", "--json"), seconds=0.2)
    assert refusal.value.status == 504


@pytest.mark.parametrize("identity", [None, 5, "../containers/x", "e" * 63])
async def test_exec_without_an_id(broker, socket, identity):
    socket.answers["POST /containers/clawfactory-bot1-gateway/exec"] = reply(201, {"Id": identity})
    with pytest.raises(Refusal, match="does not name it"):
        await broker.run(("openclaw",), seconds=5)
    assert len(socket.requests) == 1


async def test_commands_run_one_at_a_time(broker, socket):
    socket.command(piece(b"x"))
    await asyncio.gather(*(broker.run(("openclaw",), seconds=5) for _ in range(3)))
    assert [request[0] for request in socket.requests[:3]] * 3 == [request[0] for request in socket.requests]


async def test_own_approval_names_the_request(broker, socket):
    socket.command(piece(b"Approved\n"))
    await own_approval(broker)("75ff32ac-fb97-4a62-8868-804bf07bcac6")
    assert socket.requests[0][2]["Cmd"] == ["openclaw", "devices", "approve", "75ff32ac-fb97-4a62-8868-804bf07bcac6"]


async def test_own_approval_that_fails_says_why(broker, socket):
    socket.command(piece(b"No pending \x1b[1mdevice\n", 2), code=1)
    with pytest.raises(Refusal, match="No pending") as refusal:
        await own_approval(broker)("75ff32ac-fb97-4a62-8868-804bf07bcac6")
    assert "\x1b" not in str(refusal.value) and refusal.value.status == 503
