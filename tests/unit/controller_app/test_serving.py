"""The process as the container runs it: socket, signals, log, health check."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clawfactory_core.errors import Conflict
from controller_app import healthcheck
from controller_app.serving import bind_operator_socket

START_SECONDS = 30


@pytest.fixture
def socket_path(tmp_path) -> Path:
    return tmp_path / "controller.sock"


@pytest.fixture
def agent_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def environment(tmp_path, secret_values, approved_dir, socket_path, agent_address) -> dict[str, str]:
    secrets_file = tmp_path / "controller.env"
    secrets_file.write_text("".join(f"{name}={value}\n" for name, value in secret_values.items()))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONTROLLER_")}
    return {
        **clean,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "CONTROLLER_SECRETS_FILE": str(secrets_file),
        "CONTROLLER_BOT": "bot1",
        "CONTROLLER_GATEWAY_URL": "http://127.0.0.1:1",
        "CONTROLLER_APPROVED_DIR": str(approved_dir),
        "CONTROLLER_SOCKET": str(socket_path),
        "CONTROLLER_AGENT_ADDRESS": agent_address,
    }


@pytest.fixture
def start(environment, socket_path, tmp_path) -> Iterator:
    processes = []

    def run() -> subprocess.Popen:
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "controller_app"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while healthcheck.check(str(socket_path)) is not None:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def over(socket_path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path)), base_url="http://127.0.0.1:8080")


def test_process_serves_its_socket_and_removes_it(start, socket_path, token, tmp_path):
    process = start()
    mode = socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    with over(socket_path) as client:
        headers = {"X-Forwarded-For": "192.0.2.7"}
        assert client.get(f"/?token={token}", headers=headers).headers["location"] == "/"
        assert client.get("/?token=hunter2", headers=headers).status_code == 401
        status = client.get("/status", headers={"Authorization": f"Bearer {token}"}).json()
    assert status["gateway"]["state"] == "down"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert not socket_path.exists()
    log = (tmp_path / "log").read_text()
    assert "192.0.2.7 GET / 303" in log
    assert "192.0.2.7 GET / 401" in log
    assert token not in log
    assert "hunter2" not in log
    assert "/health" not in log, "health checks would fill the log"


def test_socket_of_a_killed_process_is_replaced(start, socket_path):
    first = start()
    first.kill()
    first.wait()
    assert socket_path.exists()
    assert healthcheck.check(str(socket_path)) is not None
    start()
    assert healthcheck.check(str(socket_path)) is None


def test_second_process_leaves_the_first_alone(start, environment, socket_path):
    start()
    command = [sys.executable, "-m", "controller_app"]
    elsewhere = environment | {
        "CONTROLLER_AGENT_ADDRESS": environment["CONTROLLER_AGENT_ADDRESS"].replace(".1:", ".2:")
    }
    second = subprocess.run(command, env=elsewhere, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == os.EX_CONFIG
    assert "another process answers" in second.stderr
    assert healthcheck.check(str(socket_path)) is None


def test_health_check_process_reports_by_exit_code(start, environment):
    command = [sys.executable, "-m", "controller_app.healthcheck"]
    down = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert down.returncode == 1
    assert "controller.sock" in down.stderr
    start()
    up = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (up.returncode, up.stderr) == (0, "")


def test_bot_and_operator_have_servers_of_their_own(start, secret_values, agent_address, socket_path, token):
    start()
    agent = {"Authorization": f"Bearer {secret_values['CONTROLLER_AGENT_TOKEN']}"}
    with httpx.Client(base_url=f"http://{agent_address}") as client:
        assert client.get("/agent/status", headers=agent).json()["bot"] == "bot1"
        for path in ("/", "/health", "/login", "/status", "/branches", "/webhook/github", "/static/app.css"):
            assert client.get(path, headers=agent).status_code == 404
            assert client.post(path, headers=agent).status_code == 404
        assert client.get("/agent/status", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    with over(socket_path) as client:
        assert client.get("/agent/status", headers=agent).status_code == 404
        assert client.get("/status", headers=agent).status_code == 401


def test_address_in_use_ends_the_process(start, environment, socket_path, agent_address):
    host, port = agent_address.split(":")
    with socket.socket() as other:
        other.bind((host, int(port)))
        other.listen()
        command = [sys.executable, "-m", "controller_app"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == os.EX_CONFIG
    assert f"cannot bind CONTROLLER_AGENT_ADDRESS {agent_address}" in ended.stderr
    assert not socket_path.exists()


def test_open_connections_of_the_bot_do_not_hinder_the_operator(start, agent_address, socket_path):
    start()
    host, port = agent_address.split(":")
    held = []
    try:
        for _ in range(300):
            connection = socket.create_connection((host, int(port)), timeout=5)
            held.append(connection)
        time.sleep(0.5)
        ended = 0
        for connection in held:
            connection.setblocking(False)
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
            except BlockingIOError:
                continue
        assert ended >= 300 - 32
        assert healthcheck.check(str(socket_path)) is None
    finally:
        for connection in held:
            connection.close()


def test_other_file_at_the_path_is_kept(socket_path):
    socket_path.write_text("mine")
    with pytest.raises(Conflict, match="is not a socket"):
        bind_operator_socket(socket_path)
    assert socket_path.read_text() == "mine"


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(Conflict, match=r"cannot bind .*absent"):
        bind_operator_socket(tmp_path / "absent" / "controller.sock")


def test_socket_has_the_group_of_its_directory(tmp_path, socket_path):
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory to a group it is not in")
    os.chown(tmp_path, -1, 40001)
    bind_operator_socket(socket_path).close()
    assert socket_path.stat().st_gid == 40001


def test_umask_is_restored(socket_path):
    before = os.umask(0o022)
    os.umask(before)
    listener = bind_operator_socket(socket_path)
    after = os.umask(before)
    assert after == before
    assert listener.family == socket.AF_UNIX
    listener.close()
