"""Sockets, peers, crowds, health, and the end."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker_app import clients, healthcheck, server
from tests.unit.broker_app.running import BOT, Running, descriptors, eventually, exec_start, request, with_own_uid

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="connects as another user")


def test_a_socket_has_its_mode_and_the_group_of_its_directory(broker, broker_settings):
    for client in (broker_settings.clients.gateway, broker_settings.clients.controller):
        mode = os.stat(client.socket).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        assert os.listdir(Path(client.socket).parent) == ["docker.sock"]


@root_only
def test_the_group_comes_from_a_setgid_directory(tmp_path):
    tmp_path.chmod(0o2750)
    os.chown(tmp_path, -1, 12345)
    tmp_path.chmod(0o2750)
    with server.bind(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_gid == 12345


@pytest.mark.parametrize("stale", ["socket", "file"])
def test_what_is_left_over_is_replaced_without_a_gap(tmp_path, stale):
    path = tmp_path / "s"
    if stale == "socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as old:
            old.bind(str(path))
    else:
        path.write_text("x")
    with server.bind(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
        assert os.listdir(tmp_path) == ["s"]


def test_a_directory_that_is_missing_ends_it(idle):
    gateway = Path(idle.settings.clients.gateway.socket)
    gateway.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        idle.start()
    idle._served = None
    gateway.parent.mkdir()


def test_a_foreign_user_is_refused_and_written_down(idle, engine):
    idle.settings = with_own_uid(idle.settings, gateway=os.geteuid() + 1, controller=os.geteuid() + 2)
    idle.start()
    heard = len(engine.heard)
    # This process has the broker's own user: that is the health check's, and nobody else's.
    for method, target in (("GET", "/v1.41/version"), ("GET", "/v1.41/containers/json"), ("POST", "/v1.41/x")):
        assert b"HTTP" not in idle.raw(request(method, target))
    assert len(engine.heard) == heard


@root_only
def test_a_user_who_is_neither_client_nor_broker(idle, tmp_path):
    idle.settings = with_own_uid(idle.settings, gateway=os.geteuid() + 1)
    idle.start()
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
        "os.chdir(sys.argv[1]); os.setresuid(int(sys.argv[2]), int(sys.argv[2]), int(sys.argv[2]))\n"
        "s.connect('docker.sock'); s.sendall(b'GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(100))\n"
    )
    os.chmod(idle.settings.clients.gateway.socket, 0o666)  # noqa: S103 - else the mode refuses, and not the broker
    folder = str(Path(idle.settings.clients.gateway.socket).parent)

    def ask(uid: int) -> str:
        done = subprocess.run([sys.executable, "-c", script, folder, str(uid)], capture_output=True, text=True)
        return done.stdout + done.stderr

    assert "HTTP/1.1 403" in ask(54321)
    assert "HTTP/1.1 200" in ask(os.geteuid() + 1)
    (line,) = idle.audit()
    assert line["reason"] == "uid 54321 is not the client's"


def test_health_is_the_engines_too(idle, engine):
    idle.settings = with_own_uid(idle.settings, gateway=os.geteuid() + 1)
    path = idle.settings.clients.gateway.socket
    assert "No such file" in healthcheck.check(path)
    idle.start()
    assert healthcheck.check(path) is None
    assert engine.heard[-1].path == "/_ping"
    idle.do(engine.stop())
    assert healthcheck.check(path) == "/_ping answered 503"
    idle.do(engine.start())


def test_more_connections_than_there_are_places_wait(broker):
    wires = [broker.connect() for _ in range(clients.MAX_CONNECTIONS)]
    for wire in wires:
        assert wire.request("GET", "/_ping").status == 200
    late = broker.connect(timeout=0.5)
    late.send(request("GET", "/_ping"))
    with pytest.raises(TimeoutError):
        late.answer()
    # The other client does not notice.
    assert broker.call("GET", "/_ping", client="controller").status == 200
    wires.pop().sock.close()
    late.sock.settimeout(10)
    assert late.answer().status == 200
    for wire in [*wires, late]:
        wire.sock.close()


def answers(broker):
    try:
        return broker.call("GET", "/_ping").status == 200
    except BlockingIOError:
        return False  # those who left still stand in its queue


def test_a_crowd_does_not_take_more_descriptors_than_its_places(broker):
    before = descriptors()
    crowd = []
    try:
        for _ in range(400):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            if sock.connect_ex(broker.settings.clients.gateway.socket):
                sock.close()
                break
            crowd.append(sock)
        time.sleep(0.3)
        taken = descriptors() - before - len(crowd)
        assert taken <= clients.MAX_CONNECTIONS + 2
        assert broker.call("GET", "/_ping", client="controller").status == 200
    finally:
        for sock in crowd:
            sock.close()
    assert eventually(lambda: answers(broker))
    eventually(lambda: descriptors() <= before)


def test_many_connections_leave_nothing(broker, engine):
    box = engine.named("clawfactory-bot1-sbx-a")
    before = descriptors()
    for index in range(600):
        with broker.connect() as wire:
            kind = index % 6
            if kind == 0:
                wire.request("GET", "/v1.41/version")
            elif kind == 1:
                wire.send(b"GET /_ping HT")
            elif kind == 2:
                wire.send(request("GET", "/v1.41/containers/json"))
            elif kind == 3:
                wire.send(b"\0\r\n\r\n")
            elif kind == 4:
                wire.send(exec_start(broker.open_exec(box)))
    eventually(lambda: descriptors() <= before and not engine.open, 30)


def test_answers_to_many_at_once_are_each_their_own(broker, engine):
    for number in range(40):
        engine.add(f"clawfactory-bot1-sbx-n{number}", bot="bot1", service="sandbox")
    wires = [broker.connect() for _ in range(40)]
    for number, wire in enumerate(wires):
        wire.send(request("GET", f"/v1.41/containers/clawfactory-bot1-sbx-n{number}/json"))
    for number, wire in enumerate(wires):
        assert wire.answer().json["Name"] == f"/clawfactory-bot1-sbx-n{number}"
        wire.sock.close()


def test_an_engine_that_hangs_for_one_does_not_hang_the_others(broker, engine):
    async def never(heard, reader, writer):
        await reader.read()

    engine.behaviours["GET /version"] = never
    wires = [broker.connect() for _ in range(30)]
    for wire in wires:
        wire.send(request("GET", "/v1.41/version"))
    assert broker.call("GET", "/v1.41/info").status == 200
    assert broker.call("GET", "/v1.41/info", client="controller").status == 403
    for wire in wires:
        wire.sock.close()


def test_lists_that_nobody_reads_are_few(broker, engine):
    """Each may be large. Other calls and the other client go on."""
    for number in range(3):
        engine.add(f"clawfactory-bot1-sbx-{number}", bot=BOT, service="sandbox", long="x" * 400_000)
    before = len(engine.calls("GET", "/containers/json"))
    wires = [broker.connect() for _ in range(20)]
    for wire in wires:
        wire.send(request("GET", "/v1.41/containers/json?all=1"))
    assert eventually(lambda: len(engine.calls("GET", "/containers/json")) == before + clients.MAX_ANSWERS)
    time.sleep(0.3)
    assert len(engine.calls("GET", "/containers/json")) == before + clients.MAX_ANSWERS
    assert broker.call("GET", "/v1.41/version").status == 200
    assert broker.call("GET", "/v1.41/containers/json?all=1", client="controller").status == 200
    for wire in wires:
        wire.sock.close()


def test_the_end_is_quick_and_leaves_nothing(idle):
    sandbox = idle.sandbox()
    before = descriptors()
    idle.start()
    wires = [idle.stream(idle.open_exec(sandbox)), idle.connect(), idle.connect()]
    wires[1].send(b"GET /")
    started = time.monotonic()
    idle.stop()
    assert time.monotonic() - started < 3
    assert sandbox.state == "running"
    for wire in wires:
        assert wire.rest() is not None
        wire.sock.close()
    eventually(lambda: descriptors() <= before + 4)  # the thread of the audit log


def test_a_log_that_cannot_be_written_does_not_stop_refusing(broker, caplog):
    audit = Path(broker.settings.audit_file)
    audit.mkdir()
    assert broker.call("GET", "/v1.41/swarm").status == 403
    assert "audit" in caplog.text


@pytest.mark.parametrize("call", [("GET", "/v1.41/_ping"), ("GET", "/v1.41/info"), ("GET", "/v1.41/containers/json")])
def test_of_a_locked_bot_nothing_is_answered(broker, call):
    assert broker.call(*call).status == 200
    lock = Path(broker.settings.lock_file)
    lock.symlink_to("/nowhere")  # whatever it is
    answer = broker.call(*call)
    assert answer.status == 423 and b"playbooks/unlock.yml -l bot1" in answer.body
    lock.unlink()
    assert broker.call(*call).status == 200


def test_an_error_of_ours_shows_nothing(broker, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("secret")

    monkeypatch.setattr("broker_app.responses.version", fail)
    assert b"secret" not in broker.raw(request("GET", "/v1.41/version"))
    assert "RuntimeError" in caplog.text
    assert broker.call("GET", "/_ping").status == 200


@pytest.mark.parametrize("arguments", [["/nonexistent/broker.json"], []])
def test_the_process_says_what_is_wrong_with_its_settings(arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "broker_app", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith("broker: cannot read ")


def test_a_client_of_each_kind_at_the_same_time(broker: Running):
    with broker.connect() as gateway, broker.connect("controller") as controller:
        assert gateway.request("GET", "/v1.41/info").status == 200
        assert controller.request("GET", "/v1.41/version").status == 200
