"""What is not exactly one plain request is refused before anything is asked of the engine."""

from __future__ import annotations

import re
import socket
import time

import pytest

from broker_app import http
from tests.unit.broker_app.running import EXEC, descriptors, eventually, request

SANDBOX = "/v1.41/containers/clawfactory-bot1-sbx-a"
PING = "GET /_ping HTTP/1.1\r\nHost: x\r\n"
EXEC_HEAD = f"POST {SANDBOX}/exec HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
STOP = f"POST {SANDBOX}/stop?t=1 HTTP/1.1\r\nHost: x\r\n"
SECOND = f"DELETE {SANDBOX}?force=1 HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "two content-lengths that differ": f"{EXEC_HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    "two content-lengths that agree": f"{EXEC_HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}",
    "a list of content-lengths": f"{EXEC_HEAD}Content-Length: 2, 2\r\n\r\n{{}}",
    "a signed content-length": f"{EXEC_HEAD}Content-Length: +2\r\n\r\n{{}}",
    "a negative content-length": f"{EXEC_HEAD}Content-Length: -1\r\n\r\n{{}}",
    "a hexadecimal content-length": f"{EXEC_HEAD}Content-Length: 0x2\r\n\r\n{{}}",
    "a blank content-length": f"{EXEC_HEAD}Content-Length: \r\n\r\n{{}}",
    "an absurd content-length": f"{EXEC_HEAD}Content-Length: 99999999999999999999999\r\n\r\n{{}}",
    "content-length and chunked": f"{EXEC_HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked": f"{EXEC_HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
    "chunked in capitals": f"{EXEC_HEAD}TRANSFER-ENCODING: Chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
    "chunked, hidden by a tab": f"{EXEC_HEAD}Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "identity": f"{EXEC_HEAD}Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{{}}",
    "gzip": f"{EXEC_HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}",
    "a space before the colon": f"{PING}Content-Length : 0\r\n\r\n",
    "a space before the name": f"{PING} Accept: */*\r\n\r\n",
    "a folded line": f"{PING}Accept: a\r\n b\r\n\r\n",
    "a folded line with a tab": f"{PING}Accept: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    "a field without a colon": f"{PING}Accept\r\n\r\n",
    "a field without a name": f"{PING}: x\r\n\r\n",
    "bare line feeds": "GET /_ping HTTP/1.1\nHost: x\n\n",
    "one bare line feed": "GET /_ping HTTP/1.1\r\nHost: x\nAccept: a\r\n\r\n",
    "a head that ends with bare line feeds": f"{PING}\n\n",
    "a bare carriage return": f"{PING}Accept: a\rb\r\n\r\n",
    "a bare carriage return before the end": f"{PING}Accept: a\r\r\n\r\n",
    "NUL in a value": f"{PING}Accept: a\0b\r\n\r\n",
    "NUL in the path": "GET /_ping\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character": f"{PING}Accept: a\x0bb\r\n\r\n",
    "bytes beyond ASCII": f"{PING}Accept: \xe9\r\n\r\n",
    "an empty line first": f"\r\n{PING}\r\n",
    "no host": "GET /_ping HTTP/1.1\r\n\r\n",
    "two hosts": f"{PING}Host: y\r\n\r\n",
    "HTTP/1.0": "GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": "GET /_ping\r\n\r\n",
    "HTTP/1.2": "GET /_ping HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two spaces": "GET  /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the first line": "GET\t/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in small letters": "get /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute target": "GET http://x/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute target of the engine": "GET unix:///var/run/docker.sock HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority": "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an asterisk": "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded slash": f"GET {SANDBOX}%2fjson HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded dot": "GET /v1.41/%2e%2e/info HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded letter": "GET /v1.41/%69nfo HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded NUL": "GET /v1.41/info%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a segment of two dots": "GET /v1.41/containers/../info HTTP/1.1\r\nHost: x\r\n\r\n",
    "a segment of one dot": "GET /v1.41/./info HTTP/1.1\r\nHost: x\r\n\r\n",
    "two slashes": "GET /v1.41//info HTTP/1.1\r\nHost: x\r\n\r\n",
    "two slashes first": "GET //v1.41/info HTTP/1.1\r\nHost: x\r\n\r\n",
    "a slash last": "GET /v1.41/info/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a backslash": "GET /v1.41\\info HTTP/1.1\r\nHost: x\r\n\r\n",
    "a semicolon": "GET /v1.41/info;x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": "GET /v1.41/info#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a query of an engine without one": "GET /v1.41/info?x=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "expect": f"{EXEC_HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{{}}",
    "te": f"{PING}TE: trailers\r\n\r\n",
    "trailer": f"{PING}Trailer: x\r\n\r\n",
    "x-forwarded-for": f"{PING}X-Forwarded-For: 127.0.0.1\r\n\r\n",
    "a registry's password": f"{PING}X-Registry-Auth: e30=\r\n\r\n",
    "authorization": f"{PING}Authorization: Basic eA==\r\n\r\n",
    "cookie": f"{PING}Cookie: a=b\r\n\r\n",
    "keep-alive": f"{PING}Keep-Alive: 1\r\n\r\n",
    "a method override": f"{STOP}X-HTTP-Method-Override: DELETE\r\n\r\n",
    "two user agents": f"{PING}User-Agent: a\r\nUser-Agent: a\r\n\r\n",
    "another content type": f"{EXEC_HEAD.replace('application/json', 'text/plain')}Content-Length: 2\r\n\r\n{{}}",
    "another charset": f"{EXEC_HEAD.replace('json', 'json; charset=utf-7')}Content-Length: 2\r\n\r\n{{}}",
    "no content type": f"POST {SANDBOX}/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}",
    "a body without a length": f"{EXEC_HEAD}\r\n{{}}",
    "a body on GET": f"{PING}Content-Length: 2\r\n\r\n{{}}",
    "a body on stop": f"{STOP}Content-Length: 2\r\n\r\n{{}}",
    "a body on delete": f"{SECOND[:-2]}Content-Length: 2\r\n\r\n{{}}",
    "connection: other": f"{PING}Connection: te\r\n\r\n",
    "connection: a list": f"{PING}Connection: close, host\r\n\r\n",
    "upgrade without connection": f"{PING}Upgrade: tcp\r\n\r\n",
    "connection without upgrade": f"{PING}Connection: Upgrade\r\n\r\n",
    "upgrade where none belongs": f"{PING}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "upgrade of a stop": f"{STOP}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "h2c": f"{PING}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "h2c with its settings": f"{PING}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "websocket": f"{PING}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "two upgrades": f"{PING}Connection: Upgrade\r\nUpgrade: tcp\r\nUpgrade: tcp\r\n\r\n",
    "a list of upgrades": f"{PING}Connection: Upgrade\r\nUpgrade: tcp, h2c\r\n\r\n",
    "a session": "POST /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "garbage": "\x80\x81\x82garbage\r\n\r\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_and_what_follows_it_is_not_read(broker, engine, text):
    heard = len(engine.heard)
    answer = broker.raw(text.encode("latin-1") + SECOND.encode())
    statuses = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]
    assert len(statuses) == 1
    assert statuses[0] in (400, 403, 404, 411, 413, 415, 431, 505)
    assert b"connection: close" in answer.lower()
    assert len(engine.heard) == heard, "the engine was asked"
    (line,) = broker.audit()
    assert line["event"] == "broker.refused"
    assert line["client"] == "gateway"
    assert line["status"] == statuses[0]
    assert broker.call("GET", "/_ping").status == 200


def test_a_good_request_of_each_kind_passes(broker):
    # Or the table above could refuse everything.
    assert broker.call("GET", "/_ping").body == b"OK"
    assert broker.call("GET", "/v1.41/info").status == 200
    assert broker.call("POST", f"{SANDBOX}/exec", EXEC).status == 201
    assert broker.call("POST", f"{SANDBOX}/stop?t=1").status == 204
    assert broker.call("DELETE", "/v1.41/containers/clawfactory-bot1-sbx-a?force=1").status == 204


def test_head_has_no_body(broker):
    with broker.connect() as wire:
        answer = wire.request("HEAD", "/_ping")
        assert (answer.status, answer.headers["api-version"], answer.headers["ostype"]) == (200, "1.41", "linux")
        assert wire.request("GET", "/_ping").body == b"OK"
    answer = broker.raw(b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403")
    assert answer.endswith(b"\r\n\r\n")


def test_requests_follow_one_another_on_a_connection(broker):
    with broker.connect() as wire:
        wire.send(request("GET", "/_ping") * 20)
        assert [wire.answer().status for _ in range(20)] == [200] * 20


def test_close_is_obeyed(broker):
    answer = broker.raw(request("GET", "/_ping", None, "Connection: close") + SECOND.encode())
    assert answer.count(b"HTTP/1.1") == 1


def test_a_request_in_single_bytes_is_read(broker):
    with broker.connect() as wire:
        for byte in request("POST", f"{SANDBOX}/exec", EXEC):
            wire.send(bytes([byte]))
        assert wire.answer().status == 201


@pytest.mark.parametrize("length", [http.HEAD_BYTES, http.HEAD_BYTES + 1, 1 << 20])
def test_a_head_that_is_too_large(broker, length):
    answer = broker.raw(PING.encode() + b"Accept: " + b"a" * length + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_head_without_end_is_cut_off(broker):
    with broker.connect() as wire, pytest.raises((BrokenPipeError, ConnectionResetError)):
        wire.send(b"GET /" + b"a" * (8 << 20))


def test_too_many_fields(broker):
    names = ["Accept", "User-Agent", "Accept-Encoding"] * 11
    answer = broker.raw((PING + "".join(f"{name}: x\r\n" for name in names) + "\r\n").encode())
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_body_that_is_too_large_is_not_read(broker, engine):
    head = f"{EXEC_HEAD}Content-Length: {256 * 1024 + 1}\r\n\r\n".encode()
    assert broker.raw(head).startswith(b"HTTP/1.1 413")
    assert broker.raw(head + b"x" * 300_000).startswith(b"HTTP/1.1 413")
    assert not engine.calls("POST")


def test_a_head_that_comes_too_slowly(broker, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.3)
    with broker.connect() as wire:
        started = time.monotonic()
        wire.send(b"GET /_ping HTTP/1.1\r\n")
        assert wire.rest().startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started < 5
    assert broker.audit()[0]["status"] == 408


def test_drops_of_a_head_do_not_gain_time(broker, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.5)
    started = time.monotonic()
    with broker.connect() as wire:
        wire.send(b"GET /_ping HTTP/1.1\r\nHost: ")
        try:
            while time.monotonic() < started + 8:
                wire.send(b"x")
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert time.monotonic() - started < 5


def test_a_body_that_comes_too_slowly(broker, engine, monkeypatch):
    monkeypatch.setattr(http, "BODY_SECONDS", 0.3)
    with broker.connect() as wire:
        wire.send(f"{EXEC_HEAD}Content-Length: 200\r\n\r\n{{".encode())
        assert wire.rest().startswith(b"HTTP/1.1 408")
    assert not engine.calls("POST")


def test_an_idle_connection_is_closed_without_a_word(broker, monkeypatch):
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.3)
    with broker.connect() as wire:
        assert wire.closed()
    with broker.connect() as wire:
        assert wire.request("GET", "/_ping").status == 200
        assert wire.closed()
    assert broker.audit() == []


def test_a_client_that_ends_its_side_still_gets_its_answer(broker):
    with broker.connect() as wire:
        wire.send(request("GET", "/v1.41/version"))
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 200
        assert wire.closed()


@pytest.mark.parametrize("sent", ["GET /_ping", f"{EXEC_HEAD}Content-Length: 200\r\n\r\n{{"])
def test_a_client_that_ends_its_side_half_way_is_refused(broker, engine, sent):
    with broker.connect() as wire:
        wire.send(sent.encode())
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest().startswith(b"HTTP/1.1 400")
    assert not engine.calls("POST")


def test_a_client_that_goes_half_way_leaves_nothing(broker):
    before = descriptors()
    for sent in (b"GET", PING.encode(), f"{EXEC_HEAD}Content-Length: 200\r\n\r\n{{".encode(), b"\n", b""):
        with broker.connect() as wire:
            wire.send(sent)
    eventually(lambda: descriptors() <= before)
    assert broker.call("GET", "/_ping").status == 200


def test_a_client_that_never_reads_is_dropped(broker, monkeypatch):
    monkeypatch.setattr(http, "WRITE_SECONDS", 0.3)
    before = descriptors()
    with broker.connect() as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sock.setblocking(False)
        sent = 0
        try:
            while sent < 100 << 20:
                try:
                    sent += wire.sock.send(request("GET", "/v1.41/info") * 100)
                except BlockingIOError:
                    time.sleep(0.01)
                if sent > 1 << 20 and descriptors() < before + 2:
                    break
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 100 << 20
    eventually(lambda: descriptors() <= before)


def test_what_was_refused_is_written_without_query_and_on_one_line(broker):
    broker.call("GET", "/v1.41/containers/json?token=secret&x=%0a")
    broker.raw(b"GET /v1.41/\x7f\n HTTP/1.1\r\nHost: x\r\n\r\n")
    broker.call("GET", "/v1.41/" + "a" * 4000)
    first, second, third = broker.audit()
    assert first["path"] == "/v1.41/containers/json"
    assert "secret" not in str(first)
    assert (second["method"], second["path"]) == ("-", "-")
    assert len(third["path"]) == 256


def test_refusals_become_slower(broker, monkeypatch):
    from broker_app import clients

    monkeypatch.setattr(clients, "REFUSAL_STEP_SECONDS", 0.05)
    monkeypatch.setattr(clients, "REFUSALS_FORGOTTEN_PER_SECOND", 0.0)
    times = []
    for _ in range(12):
        started = time.monotonic()
        assert broker.call("GET", "/v1.41/swarm").status == 403
        times.append(time.monotonic() - started)
    assert min(times[-3:]) > 0.35 > times[0]
    started = time.monotonic()
    assert broker.call("GET", "/_ping").status == 200
    assert time.monotonic() - started < 0.35
