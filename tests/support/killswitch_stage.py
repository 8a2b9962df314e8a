"""A machine of directories for the kill switch: files of an engine, processes, cgroups, and a set as packet filter."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from clawfactory_core.killswitch.containers import EngineFiles
from clawfactory_core.killswitch.engine import Engine
from clawfactory_core.killswitch.network import Cut, Exceptions, NetworkError
from clawfactory_core.killswitch.processes import Process, Processes
from clawfactory_core.killswitch.world import World

ENGINE_PID = 1


class Death(BaseException):
    """The program was killed here."""


class Filter:
    """A packet filter; see ``Network``."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.cut_off: set[str] = set()
        self.machine: Exceptions | None = None
        self.broken = ""

    def cut(self, bots: Iterable[str], machine: Exceptions | None = None) -> Cut:
        self.events.append("cut")
        if self.broken:
            return Cut(problems=[self.broken])
        self.cut_off |= set(bots)
        self.machine = machine or self.machine
        return Cut("nft", "bridge")

    def open(self, bots: Iterable[str], *, last: bool) -> None:
        self.events.append("open")
        if self.broken:
            raise NetworkError(self.broken)
        self.cut_off = set() if last else self.cut_off - set(bots)
        if last:
            self.machine = None

    def is_cut(self, bots: Iterable[str], *, machine: bool = False) -> bool:
        return set(bots) <= self.cut_off and (not machine or self.machine is not None)

    def ports(self, bridges: Iterable[str]) -> list[str]:
        return []

    def load(self, script: str) -> None:
        self.events.append("load")
        self.machine = None


class EngineServer:
    """An engine that answers ``_ping`` and updates of restart policies, in its memory and on disk."""

    def __init__(self, socket: Path, stage: Stage) -> None:
        self.updates: list[tuple[str, str]] = []
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                container = self.path.split("/")[2]
                server.updates.append((container, body["RestartPolicy"]["Name"]))
                if server.status == 200:
                    stage.write_policy(container, body["RestartPolicy"]["Name"])
                self._say(server.status)

            def _say(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

            def address_string(self) -> str:
                return "engine"

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = socketserver.ThreadingUnixStreamServer(str(socket), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Stage:
    """:param top: an empty directory. ``events`` has what happened, in its order."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root, self.proc, self.data = top / "root", top / "proc", top / "docker"
        self.cgroup = top / "cgroup"
        self.events: list[str] = []
        self.filter = Filter(self.events)
        self.immortal: set[int] = set()
        self.on_kill: Callable[[int], None] = lambda pid: None
        self.server: EngineServer | None = None
        (self.data / "containers").mkdir(parents=True)
        (self.root / "locks").mkdir(parents=True)
        (self.root / "audit").mkdir()
        self.cgroup.mkdir()
        (self.proc / "self" / "ns").mkdir(parents=True)
        (self.proc / "self" / "ns" / "pid").symlink_to("pid:[1]")
        (self.proc / "self" / "mountinfo").write_text(f"30 20 0:1 / {self.cgroup} rw - cgroup2 cgroup2 rw\n")
        self._pid = 100
        self.world = World(
            network=self.filter,  # type: ignore[arg-type]
            processes=Processes(self.proc, self._send),
            files=EngineFiles([self.data]),
            engine=Engine(str(top / "engine.sock"), self.proc, top / "docker.pid"),
            proc=self.proc,
            turn=top / "turn",
            engine_turn=top / "engine_turn",
        )

    def start_engine(self) -> EngineServer:
        """Let an engine run and answer."""
        self.have_process(ENGINE_PID, "dockerd", "")
        self.server = EngineServer(self.top / "engine.sock", self)
        return self.server

    def hang_engine(self) -> None:
        """Let an engine run that does not answer: its socket takes connections and says nothing."""
        import socket

        self.have_process(ENGINE_PID, "dockerd", "")
        (self.top / "engine.sock").unlink(missing_ok=True)
        self.silent = socket.socket(socket.AF_UNIX)
        self.silent.bind(str(self.top / "engine.sock"))
        self.silent.listen()

    def container(
        self, bot: str, service: str, *, processes: int = 1, policy: str = "unless-stopped", uid: int = 0
    ) -> str:
        """Have a container. :returns: its id."""
        name = f"clawfactory-{bot}-{service}"
        number = hashlib.sha256(name.encode()).hexdigest()
        directory = self.data / "containers" / number
        directory.mkdir()
        labels = {"clawfactory.bot": bot, "clawfactory.service": service} if bot else {}
        log = directory / "json.log"
        log.write_text(
            json.dumps({"log": f"{name} speaks\n", "stream": "stdout", "time": "2027-01-15T08:00:00Z"}) + "\n"
        )
        config = {"ID": number, "Name": f"/{name}", "Config": {"Labels": labels}, "LogPath": str(log)}
        (directory / "config.v2.json").write_text(json.dumps(config))
        (directory / "hostconfig.json").write_text(json.dumps({"RestartPolicy": {"Name": policy}, "Memory": 7}))
        for _ in range(processes):
            self.spawn(number, uid)
        return number

    def spawn(self, container: str, uid: int = 0) -> int:
        """Have one more process in a container."""
        self._pid += 1
        self.have_process(self._pid, "node", f"0::/docker/{container}\n", uid)
        group = self.cgroup / "docker" / container
        group.mkdir(parents=True, exist_ok=True)
        for name in ("cgroup.freeze", "cgroup.kill"):
            (group / name).touch()
        (group / "cgroup.procs").write_text("")
        return self._pid

    def have_process(self, pid: int, name: str, cgroups: str, uid: int = 0, parent: int = 0) -> None:
        """Have a process."""
        process = self.proc / str(pid)
        (process / "ns").mkdir(parents=True, exist_ok=True)
        (process / "cgroup").write_text(cgroups)
        odd = name.encode("utf-8", "surrogateescape")
        (process / "stat").write_bytes(b"%d (%b) S %d 0" % (pid, odd, parent))
        (process / "status").write_bytes(b"Name:\t%b\nUid:\t%d\t%d\t%d\t%d\n" % (odd, uid, uid, uid, uid))
        (process / "comm").write_bytes(odd + b"\n")
        (process / "cmdline").write_bytes(odd + b"\0--flag\0")
        if not (process / "ns" / "pid").is_symlink():
            (process / "ns" / "pid").symlink_to("pid:[1]")

    def policy(self, container: str) -> str:
        """Restart policy as the engine's file has it."""
        path = self.data / "containers" / container / "hostconfig.json"
        return str(json.loads(path.read_text())["RestartPolicy"]["Name"])

    def write_policy(self, container: str, policy: str) -> None:
        """As the engine does."""
        self.events.append("policy")
        path = self.data / "containers" / container / "hostconfig.json"
        path.write_text(json.dumps({"RestartPolicy": {"Name": policy}, "Memory": 7}))

    def alive(self) -> set[int]:
        """Processes in containers that live."""
        return {process.pid for process in self.world.processes.in_containers()}

    def audit(self, bot: str) -> list[dict[str, object]]:
        """Lines of the bot's audit."""
        path = self.root / "audit" / f"{bot}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def lock_file(self, bot: str) -> Path:
        return self.root / "locks" / bot

    def close(self) -> None:
        if self.server:
            self.server.close()

    def _send(self, process: Process, proc: Path) -> None:
        self.events.append("kill")
        self.on_kill(process.pid)
        if process.pid not in self.immortal and os.path.isdir(proc / str(process.pid)):
            shutil.rmtree(proc / str(process.pid))
