"""The connection to the gateway, and gateways that were taken over at the other end of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Response as HttpResponse

from clawfactory_core.jobs.protocol import Refusal
from controller_app.services import gateway_link
from controller_app.services.gateway_link import (
    LARGEST_FRAME,
    GatewayLink,
    GatewayMisbehaves,
    GatewayRefused,
    GatewayUnavailable,
)
from tests.support.gateway_server import (
    FRAMES,
    KEY,
    TOKEN,
    GatewayServer,
    accepted,
    compact,
    device_directory,
    silence,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[GatewayServer]:
    server = GatewayServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def directory(tmp_path):
    return device_directory(tmp_path)


@pytest.fixture
async def link(server, directory) -> AsyncIterator[GatewayLink]:
    link = GatewayLink(server.url, directory, server.approve)
    yield link
    await link.close()


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits long here."""
    monkeypatch.setattr(gateway_link, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(gateway_link, "_FIRST_PAUSE", 0.0)


class TestHandshake:
    async def test_the_first_time_it_has_itself_approved(self, server, link):
        devices = await link.call("device.pair.list")
        assert devices == FRAMES["device.pair.list"]["payload"]
        assert len(server.paired) == 1 and server.connections == 2
        assert link.connected and await link.server_version() == "2026.9.6"

    async def test_one_connection_is_kept(self, server, link):
        await asyncio.gather(*(link.call("device.pair.list") for _ in range(20)))
        await link.call("channels.pairing.list", {"channel": "telegram"})
        assert server.connections == 2  # the first was for being approved
        assert server.requests[-1]["params"] == {"channel": "telegram"}

    async def test_a_device_that_is_known_is_not_approved_again(self, server, link, directory):
        await link.call("device.pair.list")

        async def never(request: str) -> None:
            raise AssertionError(request)

        other = GatewayLink(server.url, directory, never)
        await other.call("device.pair.list")
        await other.close()

    async def test_after_its_state_was_replaced_it_is_approved_again(self, server, link):
        await link.call("device.pair.list")
        await self._lose(server, link)
        server.paired.clear()
        await link.call("device.pair.list")
        assert len(server.paired) == 1

    async def test_a_new_token_is_read_when_it_connects_again(self, server, link, directory):
        await link.call("device.pair.list")
        await self._lose(server, link)
        server.token = "a" + TOKEN[1:]
        (directory / "token").write_text(server.token)
        await link.call("device.pair.list")

    async def test_wrong_token_is_told_and_not_tried_over_and_over(self, server, link):
        server.token = "another"
        for _ in range(3):
            with pytest.raises(GatewayRefused, match=r"another token.*site\.yml"):
                await link.call("device.pair.list")
        assert server.connections == 1

    async def test_missing_identity_names_the_way_out(self, server, link, directory):
        (directory / "key").unlink()
        with pytest.raises(GatewayUnavailable, match=r"key: No such file.*site\.yml"):
            await link.call("device.pair.list")

    async def test_no_secret_in_what_is_said(self, server, link, directory):
        (directory / "key").write_text(KEY[1:])
        with pytest.raises(GatewayUnavailable) as refusal:
            await link.call("device.pair.list")
        assert TOKEN not in str(refusal.value) and KEY[1:] not in str(refusal.value)

    async def test_approval_that_fails_is_a_refusal(self, server, directory):
        async def fail(request: str) -> None:
            raise Refusal(503, "The broker does not answer", "start it")

        link = GatewayLink(server.url, directory, fail)
        with pytest.raises(Refusal, match="start it") as refusal:
            await link.call("device.pair.list")
        assert refusal.value.status == 503

    @pytest.mark.parametrize("request_id", ["--help", "", "a b", 5, None, "x" * 200, "$(id)", "../../../x"])
    async def test_only_an_id_reaches_the_command_line(self, server, directory, request_id):
        asked = []

        async def approve(request: str) -> None:
            asked.append(request)

        async def script(socket):
            await socket.send(compact(FRAMES["challenge"]))
            request = json.loads(await socket.recv())
            answer = json.loads(compact(FRAMES["not_paired"]))
            answer["error"]["details"]["requestId"] = request_id
            await socket.send(compact({**answer, "id": request["id"]}))

        server.script = script
        link = GatewayLink(server.url, directory, approve)
        with pytest.raises(GatewayRefused):
            await link.call("device.pair.list")
        assert asked == []

    async def test_a_gateway_that_never_has_enough_is_approved_once(self, server, directory):
        asked = []

        async def approve(request: str) -> None:
            asked.append(request)  # and nothing comes of it

        link = GatewayLink(server.url, directory, approve)
        for _ in range(3):
            with pytest.raises(GatewayRefused, match="although it was approved"):
                await link.call("device.pair.list")
        assert len(asked) == 1

    @staticmethod
    async def _lose(server, link):
        for connection in list(server._server.connections):
            await connection.close()
        while link.connected:
            await asyncio.sleep(0.01)


class TestDown:
    async def test_nobody_there(self, directory):
        link = GatewayLink("http://127.0.0.1:1", directory, _never)
        with pytest.raises(GatewayUnavailable, match=r"127\.0\.0\.1:1") as refusal:
            await link.call("health")
        assert refusal.value.status == 503

    async def test_comes_back(self, server, link, monkeypatch, quick):
        await link.call("device.pair.list")
        url = server.url
        await server.stop()
        with pytest.raises(GatewayUnavailable):
            await link.call("device.pair.list")
        server._server = await serve(server._converse, "127.0.0.1", int(url.rsplit(":", 1)[1]), compression=None)
        for _ in range(100):
            try:
                await link.call("device.pair.list")
                break
            except GatewayUnavailable:
                await asyncio.sleep(0.02)
        else:
            raise AssertionError("it did not connect again")

    async def test_the_background_connects_by_itself(self, server, link):
        running = asyncio.create_task(link.run())
        while not link.connected:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not link.connected and server.requests == []

    async def test_still_starting_is_no_offence(self, server, link):
        async def script(socket):
            await socket.send(compact(FRAMES["challenge"]))
            request = json.loads(await socket.recv())
            error = {"code": "UNAVAILABLE", "message": "starting", "details": {"reason": "startup-sidecars"}}
            await socket.send(compact({"type": "res", "id": request["id"], "ok": False, "error": error}))

        server.script = script
        with pytest.raises(GatewayUnavailable, match="still starting"):
            await link.call("health")


class TestHostile:
    @pytest.mark.parametrize(
        "frame",
        [
            "nonsense",
            "[]",
            "null",
            "[" * 100_000,
            '{"type":"res"}',
            '{"type":"res","id":7,"ok":true}',
            '{"type":"res","id":"x","ok":"yes"}',
            '{"type":"res","id":"x","ok":false}',
            '{ "type":"event"}',
            '{"type":"res","id":"never-asked","ok":true,"payload":{}}',
            b"\x00\x01",
        ],
    )
    async def test_what_is_no_frame_ends_the_connection(self, server, link, frame):
        async def after(socket):
            await socket.recv()
            await socket.send(frame)
            await silence(socket)

        server.script = accepted(after)
        with pytest.raises(GatewayMisbehaves):
            await link.call("device.pair.list")
        # And it is left alone for a while.
        with pytest.raises(GatewayMisbehaves):
            await link.call("device.pair.list")
        assert server.connections == 1

    @pytest.mark.parametrize("size", [(1 << 20) + 1, LARGEST_FRAME + 1])
    async def test_huge_answer(self, server, link, size):
        async def after(socket):
            request = json.loads(await socket.recv())
            await socket.send(compact({"type": "res", "id": request["id"], "ok": True, "payload": "x" * size}))
            await silence(socket)

        server.script = accepted(after)
        with pytest.raises(GatewayMisbehaves):
            await link.call("device.pair.list")

    async def test_a_large_answer_that_is_expected(self, server, link):
        server.answers["config.schema"] = {"type": "res", "ok": True, "payload": "x" * (3 << 20)}
        assert len(await link.call("config.schema", largest=LARGEST_FRAME)) == 3 << 20

    async def test_what_is_allowed_for_one_answer_is_not_for_another(self, server, link):
        async def after(socket):
            ids = {}
            for _ in range(2):
                request = json.loads(await socket.recv())
                ids[request["method"]] = request["id"]
            large = {"type": "res", "id": ids["device.pair.list"], "ok": True, "payload": "x" * (2 << 20)}
            await socket.send(compact(large))
            await silence(socket)

        server.script = accepted(after)
        answers = await asyncio.gather(
            link.call("config.schema", largest=LARGEST_FRAME), link.call("device.pair.list"), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [GatewayMisbehaves, GatewayMisbehaves]

    async def test_an_answer_counts_once(self, server, link):
        async def after(socket):
            request = json.loads(await socket.recv())
            answer = compact({"type": "res", "id": request["id"], "ok": True, "payload": {"first": True}})
            await socket.send(answer)
            await socket.send(answer.replace("true}", "false}"))
            await silence(socket)

        server.script = accepted(after)
        assert await link.call("health") == {"first": True}
        with pytest.raises(GatewayMisbehaves, match="nobody asked"):
            await link.call("health")

    async def test_ids_cannot_be_guessed(self, server, link):
        for _ in range(3):
            await link.call("device.pair.list")
        ids = [request["id"].split("-")[0] for request in server.requests]
        assert len(set(ids)) == 3 and all(len(bytes.fromhex(part)) == 8 for part in ids)

    async def test_never_answering(self, server, link):
        server.script = accepted(silence)
        with pytest.raises(GatewayUnavailable, match=r"did not answer health within 0\.2 s"):
            await link.call("health", seconds=0.2)
        assert not link.connected

    async def test_never_finishing_the_handshake(self, server, link, quick):
        server.script = silence
        with pytest.raises(GatewayUnavailable, match="handshake in time"):
            await link.call("health")

    async def test_dripping_bytes_for_a_handshake(self, directory, quick):
        async def drip(reader, writer):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
            while True:
                writer.write(b"X-Drip: x\r\n")
                await asyncio.sleep(0.05)

        async with await asyncio.start_server(drip, "127.0.0.1", 0) as raw:
            port = raw.sockets[0].getsockname()[1]
            with pytest.raises(GatewayUnavailable):
                await GatewayLink(f"http://127.0.0.1:{port}", directory, _never).call("health")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_lead_nowhere(self, server, directory, status):
        def redirect(connection, request):
            return HttpResponse(status, "Moved", _headers(Location=f"ws{server.url.removeprefix('http')}/"), b"")

        async with serve(silence, "127.0.0.1", 0, process_request=redirect) as redirecting:
            port = next(iter(redirecting.sockets)).getsockname()[1]
            link = GatewayLink(f"http://127.0.0.1:{port}", directory, server.approve)
            with pytest.raises(GatewayUnavailable):
                await link.call("health")
        assert server.connections == 0

    async def test_a_proxy_in_the_environment_is_not_asked(self, server, link, monkeypatch):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        await link.call("device.pair.list")

    async def test_flood_of_events(self, server, link, monkeypatch):
        monkeypatch.setattr(gateway_link, "_MOST_EVENTS", 50)

        async def after(socket):
            await socket.recv()
            while True:
                await socket.send(compact(FRAMES["event"]))

        server.script = accepted(after)
        with pytest.raises(GatewayMisbehaves, match="51 events"):
            await link.call("health")

    async def test_pings_of_a_gateway_that_never_reads_do_not_pile_up(self, server, link, monkeypatch):
        monkeypatch.setattr(gateway_link, "_UNREAD_SECONDS", 0.05)

        async def after(socket):
            socket.transport.pause_reading()
            pings = Frame(Opcode.PING, bytes(125)).serialize(mask=False) * 500
            while not socket.transport.is_closing():
                if socket.transport.get_write_buffer_size() < 1 << 20:
                    socket.transport.write(pings)
                await asyncio.sleep(0.001)

        server.script = accepted(after)
        await link.server_version()
        async with asyncio.timeout(20):
            while link.connected:
                await asyncio.sleep(0.05)
        # It is a connection that was lost, and the next one is made.
        server.script = None
        await link.call("device.pair.list")

    async def test_the_connection_that_asked_for_approval_is_not_kept(self, server, directory):
        ended = asyncio.Event()

        async def script(socket):
            await socket.send(compact(FRAMES["challenge"]))
            request = json.loads(await socket.recv())
            await socket.send(compact({**FRAMES["not_paired"], "id": request["id"]}))
            await socket.wait_closed()
            ended.set()

        async def approve(request: str) -> None:
            await asyncio.wait_for(ended.wait(), 5)

        server.script = script
        with pytest.raises(GatewayRefused, match="although it was approved"):
            await GatewayLink(server.url, directory, approve).call("health")

    async def test_events_are_no_offence(self, server, link):
        for _ in range(10):
            await link.call("device.pair.list")
        assert link.connected

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("protocol", 3),
            ("type", "hello"),
            ("auth", {"role": "node", "scopes": ["operator.admin"]}),
            ("auth", {"role": "operator", "scopes": []}),
            ("auth", {"role": "operator", "scopes": [["operator.admin"]]}),
            ("auth", None),
            ("server", {}),
        ],
    )
    async def test_hello_that_grants_something_else(self, server, link, part, value):
        async def script(socket):
            await socket.send(compact(FRAMES["challenge"]))
            request = json.loads(await socket.recv())
            payload = {**FRAMES["hello"]["payload"], part: value}
            await socket.send(compact({**FRAMES["hello"], "id": request["id"], "payload": payload}))
            await silence(socket)

        server.script = script
        with pytest.raises(GatewayMisbehaves):
            await link.call("health")

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            {},
            {"nonce": "n"},
            {"nonce": 5, "ts": 5},
            {"nonce": "", "ts": 5},
            {"nonce": "a|b", "ts": 5},
            {"nonce": "n", "ts": -1},
            {"nonce": "n", "ts": True},
            {"nonce": "n", "ts": 1.5},
            {"nonce": "n" * 1000, "ts": 5},
        ],
    )
    async def test_challenge_that_nothing_is_signed_for(self, server, link, payload):
        received = []

        async def script(socket):
            await socket.send(compact({"type": "event", "event": "connect.challenge", "payload": payload}))
            async for text in socket:
                received.append(text)

        server.script = script
        with pytest.raises(GatewayMisbehaves):
            await link.call("health")
        assert received == []

    async def test_its_words_are_shown_short_and_plain(self, server, link):
        error = {"code": "X" * 500, "message": "\x1b[31mred\n" + "y" * 10_000}
        server.answers["health"] = {"type": "res", "ok": False, "error": error}
        with pytest.raises(GatewayRefused) as refusal:
            await link.call("health")
        assert "\x1b" not in refusal.value.detail and "\n" not in refusal.value.detail
        assert len(refusal.value.detail) <= 300 and len(refusal.value.code) <= 64

    async def test_too_many_questions_at_once(self, server, link):
        server.script = accepted(silence)
        asked = [asyncio.create_task(link.call("health", seconds=60)) for _ in range(40)]
        refused: set[asyncio.Task[object]] = set()
        waiting = set(asked)
        while len(refused) < 8:
            ended, waiting = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert ended, "they were not refused"
            refused |= ended
        assert all("questions wait" in str(task.exception()) for task in refused)
        more, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not more and len(waiting) == 32
        for task in waiting:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def test_who_gives_up_does_not_spoil_it_for_others(self, server, link):
        released = asyncio.Event()

        async def after(socket):
            first = json.loads(await socket.recv())
            second = json.loads(await socket.recv())
            await released.wait()
            for request in (first, second):
                answer = {"type": "res", "id": request["id"], "ok": True, "payload": request["method"]}
                await socket.send(compact(answer))
            await silence(socket)

        server.script = accepted(after)
        leaving = asyncio.create_task(link.call("one"))
        staying = asyncio.create_task(link.call("two"))
        await asyncio.sleep(0.2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        released.set()
        assert await staying == "two" and link.connected


async def _never(request: str) -> None:
    raise AssertionError(request)


def _headers(**named: str):
    from websockets.datastructures import Headers

    return Headers(**named)
