#!/usr/bin/env python3
"""What the broker costs, against the engine's own socket in the same run.

- ``added-median-ms``, ``added-p99-ms``: time a call takes longer, of ping, inspect, list and exec-inspect; connections
  are kept, which suits the engine's own socket best.
- ``exec-output``, ``exec-input``: bytes per second of an exec's stream, as a share of the engine's own.
- ``rss-mb``: memory of the broker with 50 open streams that have carried data.

Starts a broker as a process of its own and one container of the image ``clawfactory-base``, which role ``host`` makes;
takes both away at the end. Needs root.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from playing import docker

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "/var/run/docker.sock"
BOT = "bench-broker"
SANDBOX = f"clawfactory-{BOT}-sbx-bench"
UID = 20099
STREAMS = 50
CHUNK = 1 << 18
GOALS = {
    "added-median-ms": "<= 1.5",
    "added-p99-ms": "<= 5",
    "exec-output": ">= 0.70",
    "exec-input": ">= 0.70",
    "rss-mb": "<= 60",
}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer."""
        content = None if body is None else json.dumps(body)
        headers = {"Accept-Encoding": "identity"} | ({} if body is None else {"Content-Type": "application/json"})
        self.request(method, path, content, headers)
        response = self.getresponse()
        data = response.read()
        if response.status >= 300:
            raise SystemExit(f"{method} {path} on {self._path} answered {response.status}: {data[:300]!r}")
        return json.loads(data) if data[:1] in (b"{", b"[") else data


def new_exec(path: str, *command: str) -> str:
    """Id of an exec in the sandbox, made through the socket at ``path``."""
    connection = UnixConnection(path)
    body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": False, "Cmd": command}
    exec_id = connection.call("POST", f"/v1.41/containers/{SANDBOX}/exec", body)["Id"]
    connection.close()
    return str(exec_id)


def start_exec(path: str, exec_id: str) -> socket.socket:
    """The exec's stream."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    body = json.dumps({"Detach": False, "Tty": False})
    sock.sendall(
        f"POST /v1.41/exec/{exec_id}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{body}".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: the stream follows at once
        head += sock.recv(1)
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise SystemExit(f"an exec on {path} did not start: {head!r}")
    return sock


def output_rate(path: str, size: int) -> float:
    """Bytes per second that come out of an exec."""
    exec_id = new_exec(path, "head", "-c", str(size), "/dev/zero")
    buffer = bytearray(CHUNK)
    with start_exec(path, exec_id) as sock:
        started, got = time.perf_counter(), 0
        while count := sock.recv_into(buffer):
            got += count
        elapsed = time.perf_counter() - started
    if got < size:
        raise SystemExit(f"an exec on {path} gave {got} bytes of {size}")
    return got / elapsed


def input_rate(path: str, size: int) -> float:
    """Bytes per second that go into an exec, until it says how many there were."""
    exec_id = new_exec(path, "wc", "-c")
    data = bytes(CHUNK)
    with start_exec(path, exec_id) as sock:
        started = time.perf_counter()
        for _ in range(size // CHUNK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while part := sock.recv(CHUNK):
            answer += part
        elapsed = time.perf_counter() - started
    if str(size).encode() not in answer:
        raise SystemExit(f"an exec on {path} read {answer!r} and not {size} bytes")
    return size / elapsed


def latency(path: str, broker: str, calls: int) -> dict[str, float]:
    """Added milliseconds, from calls made in turn on both sockets."""
    label = f"%7B%22label%22%3A%5B%22clawfactory.bot%3D{BOT}%22%5D%7D"
    exec_ids = {socket_path: new_exec(socket_path, "true") for socket_path in (path, broker)}
    requests: dict[str, Callable[[str], str]] = {
        "ping": lambda _: "/_ping",
        "inspect": lambda _: f"/v1.41/containers/{SANDBOX}/json",
        "list": lambda _: f"/v1.41/containers/json?all=1&filters={label}",
        "exec-inspect": lambda socket_path: f"/v1.41/exec/{exec_ids[socket_path]}/json",
    }
    connections = {socket_path: UnixConnection(socket_path) for socket_path in (path, broker)}
    pooled: dict[str, list[float]] = {path: [], broker: []}
    added = []
    for name, target in requests.items():
        times: dict[str, list[float]] = {path: [], broker: []}
        for number in range(calls + 20):
            for socket_path, connection in connections.items():
                started = time.perf_counter()
                connection.call("GET", target(socket_path))
                if number >= 20:  # the first ones warm up
                    times[socket_path].append((time.perf_counter() - started) * 1000)
        added.append(statistics.median(times[broker]) - statistics.median(times[path]))
        print(
            f"ms {name} engine {statistics.median(times[path]):.2f} broker {statistics.median(times[broker]):.2f}"
            f" p99 {percentile(times[path]):.2f} {percentile(times[broker]):.2f}",
            file=sys.stderr,
        )
        for socket_path, values in times.items():
            pooled[socket_path] += values
    return {
        # The worst of the calls, not their mean: a free ping must not hide a dear inspect.
        "added-median-ms": max(added),
        "added-p99-ms": percentile(pooled[broker]) - percentile(pooled[path]),
    }


def percentile(values: list[float]) -> float:
    """The 99th."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def throughput(path: str, broker: str, size: int, runs: int) -> dict[str, float]:
    """Shares of the engine's own rates."""
    shares = {}
    for name, rate in (("exec-output", output_rate), ("exec-input", input_rate)):
        rates: dict[str, list[float]] = {path: [], broker: []}
        for _ in range(runs):
            for socket_path, found in rates.items():
                found.append(rate(socket_path, size))
        medians = {socket_path: statistics.median(found) for socket_path, found in rates.items()}
        print(f"MB/s {name} engine {medians[path] / 1e6:.0f} broker {medians[broker] / 1e6:.0f}", file=sys.stderr)
        shares[name] = medians[broker] / medians[path]
    return shares


def resident(broker: str, pid: int) -> float:
    """Megabytes of the broker's memory with all streams open."""
    streams = [start_exec(broker, new_exec(broker, "cat")) for _ in range(STREAMS)]
    data = b"x" * 65536
    for sock in streams:
        sock.sendall(data)
        left = len(data)
        while left > 0:  # the engine puts a frame of 8 bytes around each part
            left -= len(sock.recv(CHUNK))
    kilobytes = next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    for sock in streams:
        sock.close()
    return kilobytes * 1024 / 1e6


def measure(pipe: Connection, broker: str, pid: int, quick: bool) -> None:
    """Everything, as the user the broker expects, with the engine's group for the comparison."""
    os.setgroups([Path(ENGINE).stat().st_gid])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    size = (64 if quick else 512) << 20
    pipe.send(
        latency(ENGINE, broker, 200 if quick else 1000)
        | throughput(ENGINE, broker, size, 1 if quick else 5)
        | {"rss-mb": resident(broker, pid)}
    )


def base_image() -> str:
    """A reference of the base image that is on the engine."""
    found = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-base").split()
    if not found:
        raise SystemExit("there is no image clawfactory-base on this machine; run site.yml once, which makes it")
    return found[0]


@contextmanager
def sandbox(image: str) -> Iterator[None]:
    """A running container that is the broker's bot's own."""
    docker(
        *("run", "--detach", "--name", SANDBOX, "--network", "none", "--init", "--user", f"{UID}:{UID}"),
        *("--label", f"clawfactory.bot={BOT}", "--label", "clawfactory.service=sandbox", image, "sleep", "infinity"),
    )
    try:
        yield
    finally:
        docker("rm", "--force", SANDBOX)


@contextmanager
def broker(folder: Path, image: str) -> Iterator[tuple[str, int]]:
    """A broker that serves: its gateway's socket, and its process id."""
    clients: dict[str, dict[str, Any]] = {}
    for name, uid in (("gateway", UID), ("controller", UID + 1)):
        directory = folder / name
        directory.mkdir()
        os.chown(directory, -1, uid)
        directory.chmod(0o2750)
        clients[name] = {"socket": str(directory / "docker.sock"), "uid": uid}
    settings = {
        "schema": 1,
        "bot": BOT,
        "engine_socket": ENGINE,
        "lock_file": str(folder / "lock"),
        "audit_file": str(folder / "audit.jsonl"),
        "clients": clients,
        "gateway_probe": ["true"],
        "bot_directory": str(folder / "bot"),
        "sandbox": {
            "images": {image: docker("image", "inspect", "--format", "{{.Id}}", image)},
            "uid": UID,
            "max_count": 1,
            "memory_bytes": 1 << 30,
            "nano_cpus": 10**9,
            "pids": 256,
            "tmpfs_bytes": 1 << 26,
            "sources": ["workspace"],
            "network": None,
        },
        "stream_seconds": 3600,
    }
    file = folder / "broker.json"
    file.write_text(json.dumps(settings))
    process = subprocess.Popen(
        [sys.executable, "-m", "broker_app", str(file)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'module_utils'}"},
    )
    path = clients["gateway"]["socket"]
    try:
        wait_healthy(path, process)
        yield path, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_healthy(path: str, process: subprocess.Popen[bytes]) -> None:
    """Poll until the broker answers its health check."""
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit("the broker did not start")
        try:
            UnixConnection(path).call("GET", "/_ping")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the broker does not answer")


def main() -> None:
    """Start, measure, take away, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer calls, less data, one run of each")
    parser.add_argument("--json", action="store_true", help="print the ratios as one JSON object")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it is two users, and one of them has the engine's group")
    image = base_image()
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-"))
    folder.chmod(0o755)
    try:
        with sandbox(image), broker(folder, image) as (path, pid):
            receiver, sender = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("fork")
            client = context.Process(target=measure, args=(sender, path, pid, options.quick))
            client.start()
            sender.close()
            try:
                ratios: dict[str, float] = receiver.recv()
            except EOFError:
                raise SystemExit("the client failed; see above") from None
            finally:
                client.join()
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))
    for name, value in ratios.items():
        print(f"ratio {name} {value:.2f} goal {GOALS[name]}")


if __name__ == "__main__":
    main()
