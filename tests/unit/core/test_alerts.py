"""What is told about a bot, and how often."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core import alerts, audit
from clawfactory_core.adapters.alert_senders import post_webhook, send_mail
from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.snapshots.schedule import COPY, begin_run, write_run
from clawfactory_core.status import SERVICES
from tests.support.snapshot_files import BOT, Files

NOW = datetime.now(UTC)


class _Answers(BaseHTTPRequestHandler):
    """A gateway, and somebody who takes webhooks."""

    status = 200
    got: list[dict[str, Any]]

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def do_POST(self) -> None:
        type(self).got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_Answers, "status", 200)
    monkeypatch.setattr(_Answers, "got", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def bot(tmp_path: Path) -> Files:
    files = Files(tmp_path / "root")
    (files.root / "audit" / BOT).mkdir(parents=True)
    (files.root / "alerts").mkdir()
    settle(files)
    return files


def settle(files: Files, age: timedelta = timedelta(0), **values: object) -> None:
    path = alerts.settings_path(files.root, BOT)
    path.write_text(json.dumps({"webhook": "", "mail": "", "snapshot_hours": 36, **values}))
    moment = (NOW - age).timestamp()
    os.utime(path, (moment, moment))


def machine(port: int, **services: dict[str, str]) -> dict[str, Any]:
    plain = {"status": "running", "health": "healthy", "restarts": 0, "started_at": "t", "image": "x:1-2", "bot": BOT}
    found = {name: {**plain, "service": name, **services.get(name, {})} for name in SERVICES}
    return {
        "docker": {"available": True, "containers": found}, "locked": {}, "approved": {}, "snapshots": {}, "drift": [],
        "allocations": {BOT: {"gateway_port": port, "controller_port": 1, "slot": 0}},
    }  # fmt: skip


def problems(files: Files, facts: dict[str, Any], now: datetime = NOW) -> dict[str, str]:
    settings = alerts.read_alert_settings(files.root, BOT)
    return alerts.find_problems(files.root, BOT, facts, settings, now)


def test_a_bot_that_is_well_has_no_problems(bot: Files, server: ThreadingHTTPServer) -> None:
    bot.snapshot()
    assert problems(bot, machine(server.server_port)) == {}


def test_a_bot_that_starts_is_not_down(bot: Files) -> None:
    assert problems(bot, machine(1, gateway={"health": "starting"})) == {}


def test_down_deaf_and_locked_are_told_apart(
    bot: Files, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    down = problems(bot, machine(port, gateway={"status": "exited"}))
    assert down == {"down": "it is down; running: proxy, controller, broker, egress"}
    assert "does not answer" in problems(bot, machine(1))["deaf"]
    assert "unhealthy" in problems(bot, machine(port, gateway={"health": "unhealthy"}))["deaf"]
    monkeypatch.setattr(_Answers, "status", 503)
    assert problems(bot, machine(port)) == {"deaf": f"port {port} answers 503 to /readyz"}
    lock = {"actor": "ops", "time": "2026-11-29T00:00:00+00:00", "reason": "odd\x1b[31m"}
    locked = problems(bot, {**machine(1), "locked": {BOT: lock}})
    assert locked.keys() == {"locked"}
    assert "odd?[31m" in locked["locked"]


def test_a_snapshot_is_missed_from_when_it_was_due(bot: Files, server: ThreadingHTTPServer) -> None:
    facts = machine(server.server_port)
    assert problems(bot, facts) == {}  # a new bot
    settle(bot, timedelta(hours=37))
    assert "36 hours are allowed" in problems(bot, facts)["snapshot"]
    bot.snapshot()
    assert problems(bot, facts) == {}
    assert "snapshot" in problems(bot, facts, NOW + timedelta(hours=37))
    settle(bot, timedelta(hours=99), snapshot_hours=0)
    assert problems(bot, facts, NOW + timedelta(hours=99)) == {}


def test_failed_runs_and_a_broken_log_are_found(bot: Files, server: ThreadingHTTPServer) -> None:
    bot.snapshot()
    run = begin_run()
    write_run(bot.root, BOT, type(run)(run.began, finished=run.began, problem="disk full"))
    write_run(bot.root, BOT, type(run)(run.began, finished=run.began, problem="no route"), COPY)
    log = bot.root / "audit" / f"{BOT}.jsonl"
    for number in range(3):
        audit.append(log, "promotion", BOT, {"number": number}, max_bytes=1 << 20)
    found = problems(bot, machine(server.server_port))
    assert {kind: text.split(": ")[-1] for kind, text in found.items()} == {"snapshot": "disk full", "copy": "no route"}
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2])
    assert str(log) in problems(bot, machine(server.server_port))["audit"]


def test_each_change_is_told_once_and_what_passes_is_not(tmp_path: Path) -> None:
    sent: list[alerts.Told] = []
    path = tmp_path / "told"

    def look(**found: str) -> list[str]:
        sent.clear()
        alerts.tell_changes(path, found, sent.append)
        return [f"+{kind}" for told in sent for kind in told.begun] + [
            f"-{kind}" for told in sent for kind in told.over
        ]

    assert look(down="x") == []  # perhaps a restart
    assert look(down="x") == ["+down"]
    assert look(down="in other words") == []
    assert look(down="x", audit="y") == ["+audit"]
    assert look(audit="y") == ["-down"]
    assert look(audit="y", deaf="z") == []
    assert look(audit="y") == []
    assert look(locked="l") == ["+locked", "-audit"]
    assert look() == ["-locked"]
    assert look() == []
    path.write_text("no JSON")
    assert look(locked="l") == ["+locked"]


def test_what_could_not_be_sent_is_sent_by_the_next_look(tmp_path: Path) -> None:
    sent: list[alerts.Told] = []

    def refuse(_: alerts.Told) -> None:
        raise CoreError("no")

    for _ in range(2):
        with pytest.raises(CoreError):
            alerts.tell_changes(tmp_path / "told", {"audit": "x"}, refuse)
    alerts.tell_changes(tmp_path / "told", {"audit": "x"}, sent.append)
    assert [told.begun for told in sent] == [{"audit": "x"}]


def test_webhook_gets_json_that_chat_services_show(server: ThreadingHTTPServer) -> None:
    told = alerts.Told({"down": "it is stopped"}, ("deaf",), {"down": "it is stopped"})
    message = alerts.message(BOT, told)
    post_webhook(f"http://127.0.0.1:{server.server_port}/secret-part", message)
    assert _Answers.got == [message]
    assert (
        message["text"]
        == message["content"]
        == f"ClawFactory: {BOT} on {message['machine']}: down: it is stopped; deaf is over"
    )


def test_a_webhook_that_refuses_is_an_error_without_its_address(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Answers, "status", 500)
    for url, said in (
        (f"http://127.0.0.1:{server.server_port}/hush", "answers 500"),
        ("http://127.0.0.1:1/hush", "refused"),
    ):
        with pytest.raises(CoreError, match=said) as failure:
            post_webhook(url, {})
        assert "hush" not in str(failure.value)


def test_mail_goes_to_the_program_of_the_machine(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    message = alerts.message(BOT, alerts.Told({"down": "line\nBcc: x@example.com"}, (), {"down": "x"}))
    send_mail("ops@example.com", message, str(program))
    assert (tmp_path / "arguments").read_text() == "-t -i\n"
    headers, _, body = (tmp_path / "mail").read_text().partition("\n\n")
    assert "To: ops@example.com" in headers and "Bcc" not in headers
    assert "down: x" in body
    with pytest.raises(CoreError, match="is not on this machine"):
        send_mail("ops@example.com", message, "/nonexistent")


def test_settings_that_cannot_be_read_are_refused(bot: Files) -> None:
    alerts.settings_path(bot.root, BOT).write_text('{"webhook": 1}')
    with pytest.raises(InvalidInput, match=r"run: ansible-playbook site\.yml"):
        alerts.read_alert_settings(bot.root, BOT)
