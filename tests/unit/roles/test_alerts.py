"""Alerts as the role settles them, on a machine without systemd: cron's command tells a real server."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook
from tests.support.snapshot_files import BOT, Files


class _Webhook(BaseHTTPRequestHandler):
    got: list[dict[str, Any]] = []  # noqa: RUF012 - of the one test that uses it

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def settle(files: Files, part: str, **variables: object) -> PlaybookRun:
    tasks = [
        {"import_role": {"name": "alerts", "tasks_from": part}},
        {"fail": {"msg": "{{ __alerts_problems | join('; ') }}"}, "when": "__alerts_problems | length > 0"},
    ]
    play = files.root.parent / "play.yml"
    play.write_text(json.dumps([{"hosts": "bots", "gather_facts": False, "tasks": tasks}]))
    cron = files.root.parent / "cron"
    given = {
        "host_machine": {"init": "none", "rendered": {str(cron): ""} if cron.exists() else {}},
        "clawfactory_source_dir": str(REPOSITORY), "clawfactory_network_pool": "10.213.0.0/16",
        "__alerts_cron": str(cron), **variables,
    }  # fmt: skip
    return ansible_playbook(str(play), files.inventory, "--extra-vars", json.dumps(given))


def test_cron_tells_the_webhook_that_a_bot_is_down_and_never_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path / "root")
    library = files.root / "lib"
    library.mkdir()
    (library / "clawfactory_core").symlink_to(REPOSITORY / "module_utils" / "clawfactory_core")
    (library / "clawfactory-alerts").symlink_to(REPOSITORY / "roles" / "alerts" / "files" / "clawfactory-alerts")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Webhook) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/T0-hush"
            run = settle(files, "configure", alerts_webhook=url).succeeded()
            assert "T0-hush" not in json.dumps(run.report)
            settings = files.root / "alerts" / f"{BOT}.json"
            assert (settings.stat().st_mode & 0o777, json.loads(settings.read_text())["webhook"]) == (0o600, url)
            line = (tmp_path / "cron").read_text().splitlines()[-1]
            assert line.startswith("*/5 * * * * root ") and "T0-hush" not in line
            command = line.split(" root ")[1].split(" >> ")[0]
            for _ in range(3):
                subprocess.run(["/bin/sh", "-c", command], check=True, timeout=120, env={"no_proxy": "127.0.0.1"})
        finally:
            server.shutdown()
    assert [list(message["begun"]) for message in _Webhook.got] == [["down"]]
    settle(files, "configure").succeeded()
    assert not (tmp_path / "cron").exists()


def test_what_nobody_could_be_told_by_is_refused(tmp_path: Path) -> None:
    given = {"alerts_webhook": "ftp://hush", "alerts_mail": "a, b", "alerts_minutes": 0, "alerts_snapshot_hours": -1}
    said = settle(Files(tmp_path / "root"), "preflight", **given).failures[BOT]
    for name in given:
        assert f"{name} is" in said
    assert "hush" not in said
