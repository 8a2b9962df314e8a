"""Long modules of the role snapshots show how far they are while a playbook runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGINS = REPOSITORY / "roles" / "snapshots" / "action_plugins"
MODULE = """
import json, os, time
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"root": {}, "bot": {}, "label": {}, "full": {}}, supports_check_mode=True)
path = f"{module.params['root']}/snapshots/{module.params['bot']}/.progress-snapshot.json"
for number in range(0 if module.check_mode else SECONDS * 4):
    event = {"schema": 1, "phase": "archiving", "done": number + 1, "total": 100, "rate": 4, "remaining": 9.0}
    with open(path + ".new", "w") as file:
        json.dump(event, file)
    os.rename(path + ".new", path)
    time.sleep(0.25)
module.exit_json(changed=True, snapshot={"id": "made", "kind": "full"}, reason="a test")
"""


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("progress_plugin", PLUGINS / "clawfactory_snapshot.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(done: int) -> str:
    return json.dumps({"schema": 1, "phase": "archiving", "done": done, "total": 100, "rate": 0, "remaining": 0})


def test_what_a_killed_run_left_is_not_shown(plugin, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(plugin.time, "monotonic", lambda: now[0])
    shown = plugin.Shown(report(1))
    assert shown.line(report(1)) == ""
    now[0] += 100
    assert shown.line(report(1)) == shown.line("") == shown.line("{") == ""
    assert shown.line(report(2)) == "archiving: 2 % of 100 bytes"


def test_a_report_that_stays_the_same_is_shown_again_after_a_while(plugin, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(plugin.time, "monotonic", lambda: now[0])
    shown = plugin.Shown("")
    assert [shown.line(report(1)), shown.line(report(1))] == ["archiving: 1 % of 100 bytes", ""]
    now[0] += plugin.REPEAT + 1
    assert shown.line(report(1)) == "archiving: 1 % of 100 bytes"


def test_every_module_that_takes_long_has_it():
    names = {path.name for path in PLUGINS.glob("*.py")}
    assert names == {"clawfactory_snapshot.py", "clawfactory_snapshot_info.py", "clawfactory_restore.py"}
    assert len({path.resolve() for path in PLUGINS.glob("*.py")}) == 1
    assert all((REPOSITORY / "library" / name).is_file() for name in names)


@pytest.mark.parametrize(("seconds", "options", "lines"), [(3, [], [1, 2, 3]), (3, ["--check"], [0]), (0, [], [0])])
def test_a_playbook_shows_it(tmp_path, seconds, options, lines):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "clawfactory_snapshot.py").write_text(MODULE.replace("SECONDS", str(seconds)))
    (tmp_path / "snapshots" / "bot1").mkdir(parents=True)
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"clawfactory_root": str(tmp_path), "host_python": sys.executable},
        "tasks": [{"import_role": {"name": "snapshots", "tasks_from": "create"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environment = {
        **os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_LIBRARY": str(tmp_path / "library"),
        "ANSIBLE_NOCOLOR": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "bot1,", "-c", "local", "play.yml", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("bot1: archiving: ")]
    assert len(shown) in lines, done.stdout
    assert all(line.endswith(" % of 100 bytes, 0.0 MB/s, 9 s left") for line in shown)
    assert "changed=1" in done.stdout
