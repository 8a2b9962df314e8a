"""Stands in for the jobs service of a machine: reads requests as the real one does, and answers what the test says."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clawfactory_core.jobs.protocol import KINDS, REQUEST_BYTES, Refusal, Request, encode, parse_request
from clawfactory_core.locks import Lock

#: A bot to which nothing has happened yet.
PROMOTION: dict[str, Any] = {
    "bot": "bot1", "approved": "", "main": "", "ahead": 0, "behind": 0, "on_main": True, "remote": False,
    "branch": "main", "locked": False, "running": "", "drift": [], "proposals": [], "history": [],
}  # fmt: skip
MACHINE: dict[str, Any] = {"locked": False, "key": True, "free_bytes": 8 << 30, "total_bytes": 64 << 30, "schedule": {}}
MEMORY: dict[str, Any] = {
    "commit": "", "changed": True, "files": {"MEMORY.md": 2048}, "left_out": {}, "indexes": {"main.sqlite": 1 << 20},
    "remote": False,
}  # fmt: skip
CONTENTS: dict[str, Any] = {"path": "workspace", "count": 7, "bytes": 3 << 20, "listing": {"count": 3, "entries": [
    {"name": "memory", "kind": "d", "bytes": 2 << 20, "files": 3, "mtime_ns": 1795000000 * 10**9, "target": ""},
    {"name": "latest", "kind": "l", "bytes": 0, "files": 0, "mtime_ns": 1795000000 * 10**9, "target": "memory/a.md"},
    {"name": "MEMORY.md", "kind": "f", "bytes": 2048, "files": 1, "mtime_ns": 1795000000 * 10**9, "target": ""},
]}}  # fmt: skip
Answer = dict[str, Any] | Refusal | bytes


class JobsServer:
    """One bot's jobs socket.

    ``requests`` has every accepted request with its ``op``; ``answers`` maps an op to what is answered: a document, a
    refusal, raw bytes, or a function of the fields that returns one of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, str]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Answer | Callable[[dict[str, str]], Answer]] = {
            **{kind: self._start(kind) for kind in KINDS},
            "job": self._find,
            "jobs": lambda fields: {"jobs": list(reversed(self.jobs.values()))},
            "snapshots": {"snapshots": []},
            "snapshot_contents": {"contents": dict(CONTENTS)},
            "lock": self._lock,
            "promotion_info": {"promotion": dict(PROMOTION)},
            "machine_info": {"machine": dict(MACHINE)},
            "memory_info": {"memory": dict(MEMORY)},
            "egress_info": {"egress": {"lines": 0, "denied": []}},
            "audit": {"audit": {"entries": [], "total": 0, "more": False}},
            "audit_verify": {"audit": {"lines": 0, "problems": []}},
            "follow": self._follow,
            "refused": {"written": True},
            "decided": {"written": True},
        }
        #: Replaces the reader of requests, for one that this version of the protocol does not know yet.
        self.parse: Callable[[bytes], Request] = parse_request
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(server._answer(self.rfile.readline(REQUEST_BYTES + 1)))

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> JobsServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, op: str) -> list[dict[str, str]]:
        """The fields of every request with that op."""
        return [{k: v for k, v in request.items() if k != "op"} for request in self.requests if request["op"] == op]

    def add_job(self, kind: str, *, actor: str, state: str = "queued", **fields: Any) -> dict[str, Any]:
        """Have a job, as the protocol describes one."""
        number = f"{len(self.jobs) + 1:024x}"
        self.jobs[number] = {
            "id": number, "kind": kind, "actor": actor, "source": fields.pop("source", "dashboard"), "options": {},
            "state": state, "asked": "2027-01-15T08:00:00.000000Z", "started": None, "ended": None, "progress": None,
            "result": None, "error": None, **fields,
        }  # fmt: skip
        return self.jobs[number]

    def _answer(self, line: bytes) -> bytes:
        try:
            request = self.parse(line)
        except Refusal as refusal:
            return encode(refusal.to_dict())
        fields = dict(request.fields)
        self.requests.append({"op": request.op, **fields})
        answer = self.answers[request.op]
        if callable(answer):
            answer = answer(fields)
        if isinstance(answer, bytes):
            return answer
        return encode(answer.to_dict() if isinstance(answer, Refusal) else answer)

    def _start(self, kind: str) -> Callable[[dict[str, str]], Answer]:
        def start(fields: dict[str, str]) -> Answer:
            source = "agent" if fields["actor"] == "agent" else fields.get("source", "dashboard")
            return {"job": self.add_job(kind, actor=fields["actor"], source=source)}

        return start

    def _lock(self, fields: dict[str, str]) -> Answer:
        time = "2027-01-15T08:00:00.000+00:00"
        return {"lock": Lock("bot1", fields["actor"], time, fields.get("reason", ""), scope="bot").to_dict()}

    def _find(self, fields: dict[str, str]) -> Answer:
        job = self.jobs.get(fields["id"])
        return {"job": job} if job else Refusal(404, "Not found", f"there is no job {fields['id']}")

    def _follow(self, fields: dict[str, str]) -> Answer:
        job = self.jobs.get(fields["id"])
        if job is None:
            return Refusal(404, "Not found", f"there is no job {fields['id']}")
        states = [{**job, "state": state} for state in ("queued", "running", "done")]
        return b"".join(json.dumps({"job": state}).encode() + b"\n" for state in states)
