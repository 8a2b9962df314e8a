"""Processes that Ansible forks do not go through what was loaded before, nor do again what another has done."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import sys
import time
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from ansible._internal._templating._jinja_bits import AnsibleEnvironment

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

sys.path.insert(0, str(REPOSITORY / "callback_plugins"))

from clawfactory_forks import OLD, CompiledTemplates, folder_of

CODE = compile("1 + 1", "<template>", "eval")
KEY = "0" * 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ansible keeps its things."""
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def play(tmp_path: Path, *tasks: dict[str, Any], variables: dict[str, Any] | None = None) -> list[Any]:
    """What each task of a playbook said, one per item for a loop; the playbook is none of this project's."""
    inventory, playbook = tmp_path / "hosts.json", tmp_path / "play.yml"
    inventory.write_text(
        json.dumps({"bots": {"hosts": {"bot1": {"ansible_connection": "local"}}, "vars": variables or {}}})
    )
    playbook.write_text(json.dumps([{"hosts": "bots", "gather_facts": False, "tasks": tasks}]))
    done = ansible_playbook(str(playbook), inventory).succeeded()
    results = [task["hosts"]["bot1"] for task in done.report["plays"][0]["tasks"]]
    return [
        [one["msg"] for one in result["results"]] if "results" in result else result.get("msg") for result in results
    ]


def refused(tmp_path: Path) -> PlaybookRun:
    """A run whose message is a template of this project."""
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"other": {"ansible_connection": "local"}}}}))
    done = ansible_playbook("site.yml", inventory, "--limit", "other")
    assert done.returncode == 2
    return done


def kept(code: CodeType) -> bytes:
    text = marshal.dumps(code)
    return hashlib.sha256(text).digest() + text


def test_most_of_what_is_loaded_is_out_of_the_collector_s_reach(tmp_path: Path) -> None:
    (tmp_path / "filter_plugins").mkdir()
    # Of a filter, because that is worked out in the process of the task.
    (tmp_path / "filter_plugins" / "frozen.py").write_text(
        "import gc\nclass FilterModule:\n    def filters(self):\n"
        "        return {'frozen_objects': lambda _: gc.get_freeze_count()}\n"
    )
    [found] = play(tmp_path, {"debug": {"msg": "{{ 0 | frozen_objects }}"}})
    assert found > 50_000


class TestCompiledTemplates:
    def test_of_this_project_are_taken_from_where_they_are_kept(self, tmp_path: Path, home: Path) -> None:
        assert "is not in the inventory group" in refused(tmp_path).failures["other"]
        [path] = [path for path in folder_of(home).iterdir() if b"is not in the inventory group" in path.read_bytes()]
        path.write_bytes(kept(AnsibleEnvironment().compile("from where it is kept")))
        assert "from where it is kept" in refused(tmp_path).failures["other"]

    def test_of_an_inventory_or_another_playbook_are_not_kept(self, tmp_path: Path, home: Path) -> None:
        said = play(tmp_path, {"debug": {"msg": "a-secret {{ other }}"}}, variables={"other": "b-secret {{ 1 }}"})
        assert said == ["a-secret b-secret 1"]
        assert list(folder_of(home).iterdir()) == []

    def test_altered_ones_are_compiled_again(self, tmp_path: Path, home: Path) -> None:
        refused(tmp_path)
        swapped = kept(AnsibleEnvironment().compile("swapped"))
        for number, path in enumerate(sorted(folder_of(home).iterdir())):
            path.write_bytes([swapped[:-1], b"", bytes(len(swapped)), bytes(32) + swapped[32:]][number % 4])
        assert "is not in the inventory group" in refused(tmp_path).failures["other"]
        assert all(path.read_bytes() != swapped for path in folder_of(home).iterdir())

    def test_a_home_that_cannot_be_written_changes_nothing(self, tmp_path: Path, home: Path) -> None:
        home.mkdir()
        (home / "clawfactory-templates").write_text("no folder")
        assert "is not in the inventory group" in refused(tmp_path).failures["other"]

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
    def test_a_folder_that_others_can_write_is_not_used(self, tmp_path: Path, mode: int) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / KEY).write_bytes(kept(CODE))
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE
        (tmp_path / "kept").chmod(mode)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) is None

    def test_a_folder_of_somebody_else_is_not_used(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / KEY).write_bytes(kept(CODE))
        os.chown(tmp_path / "kept", 4711, 4711)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) is None

    def test_a_link_to_a_folder_is_not_used(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / KEY).write_bytes(kept(CODE))
        (tmp_path / "link").symlink_to(tmp_path / "kept")
        assert CompiledTemplates(tmp_path / "link").get(KEY) is None

    def test_keeps_for_the_next_run_and_leaves_nothing_unfinished(self, tmp_path: Path) -> None:
        templates = CompiledTemplates(tmp_path / "kept")
        templates.keep(KEY, CODE)
        assert templates.get(KEY) == CODE
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE
        assert [path.name for path in (tmp_path / "kept").iterdir()] == [KEY]
        assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700

    def test_a_new_version_removes_those_that_nobody_added_to_for_long(self, tmp_path: Path) -> None:
        for name, age in (("old", OLD + 60), ("recent", OLD - 60)):
            CompiledTemplates(tmp_path / name).keep(KEY, CODE)
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        CompiledTemplates(tmp_path / "new")
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["new", "recent"]


class TestVariables:
    def test_are_rendered_once_in_a_template_and_again_in_the_next(self, tmp_path: Path) -> None:
        variables = {
            "counted": f"{{{{ lookup('pipe', 'echo x >> {tmp_path}/count; wc -l < {tmp_path}/count') }}}}",
            "other": "{{ counted }}",
            "another": "{{ counted }} {{ other }}",
        }
        task = {"debug": {"msg": "{{ counted }} {{ other }} {{ another }}"}}
        assert play(tmp_path, task, task, variables=variables) == ["1 1 1 1", "2 2 2 2"]

    def test_of_a_loop_are_those_of_each_turn(self, tmp_path: Path) -> None:
        variables = {"of_item": "{{ item }}", "other": "{{ of_item }}"}
        task = {"debug": {"msg": "{{ of_item }} {{ other }}"}, "loop": [1, 2]}
        assert play(tmp_path, task, variables=variables) == [["1 1", "2 2"]]

    def test_of_a_fact_are_those_that_were_set_last(self, tmp_path: Path) -> None:
        said = {"debug": {"msg": "{{ fact }} {{ other }}"}}
        tasks = [{"set_fact": {"fact": "one"}}, said, {"set_fact": {"fact": "two"}}, said]
        assert play(tmp_path, *tasks, variables={"other": "{{ fact }}"})[1::2] == ["one one", "two two"]

    def test_given_to_another_template_are_those_of_that_one(self, tmp_path: Path) -> None:
        (tmp_path / "inner.j2").write_text("{{ number }} {{ other }}")
        inner = f"lookup('template', '{tmp_path}/inner.j2', template_vars={{'number': n}})"
        task = {"debug": {"msg": f"{{{{ other }}}}{{% for n in [1, 2] %}}, {{{{ {inner} }}}}{{% endfor %}}"}}
        assert play(tmp_path, task, variables={"number": 0, "other": "{{ number }}"}) == ["0, 1 1, 2 2"]

    def test_of_another_host_are_that_host_s(self, tmp_path: Path) -> None:
        inventory, playbook = tmp_path / "hosts.json", tmp_path / "play.yml"
        inventory.write_text(
            json.dumps({"all": {"hosts": {"a": {"own": 1}, "b": {"own": 2}}, "vars": {"other": "{{ own }}"}}})
        )
        message = "{{ other }} {{ hostvars['a'].other }} {{ hostvars['b'].other }}"
        playbook.write_text(
            json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"debug": {"msg": message}}]}])
        )
        [play_] = ansible_playbook(str(playbook), inventory).succeeded().report["plays"]
        said = {host: result["msg"] for host, result in play_["tasks"][0]["hosts"].items()}
        assert said == {"a": "1 1 2", "b": "2 1 2"}
