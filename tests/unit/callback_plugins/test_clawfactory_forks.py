"""Processes that Ansible forks do not go through what was loaded before, nor do again what another has done."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from ansible._internal._templating._jinja_bits import AnsibleEnvironment

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

PLUGINS = REPOSITORY / "callback_plugins"
sys.path.insert(0, str(PLUGINS))

import clawfactory_forks  # noqa: E402 - plugins are not a package
from clawfactory_forks import OLD, CompiledTemplates, folder_of, is_own  # noqa: E402 - plugins are not a package

CODE = compile("1 + 1", "<template>", "eval")
KEY = "0" * 64
GREET = {"debug": {"msg": "greetings {{ 1 }}"}}


def kept(code: CodeType) -> bytes:
    text = marshal.dumps(code)
    return hashlib.sha256(text).digest() + text


class Project:
    """A checkout with one playbook, and an inventory in its place.

    :param top: also where Ansible keeps its things.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folder = top / "home" / "clawfactory-templates"
        self.arguments: tuple[str, ...] = ()
        for name in ("callback_plugins", "playbooks", "inventory/host_vars", "filter_plugins"):
            (top / name).mkdir(parents=True)
        shutil.copy(PLUGINS / "clawfactory_forks.py", top / "callback_plugins")
        self.inventory(bot1={})

    def inventory(self, **hosts: dict[str, Any]) -> None:
        """Variables of hosts."""
        local = {name: {"ansible_connection": "local", **variables} for name, variables in hosts.items()}
        (self.top / "inventory" / "hosts.json").write_text(json.dumps({"all": {"hosts": local}}))

    def run(self, *tasks: dict[str, Any], variables: dict[str, Any] | None = None) -> PlaybookRun:
        """Play tasks with variables of the play."""
        play = {"hosts": "all", "gather_facts": False, "vars": variables or {}, "tasks": tasks}
        (self.top / "playbooks" / "play.yml").write_text(json.dumps([play]))
        done = ansible_playbook(f"{self.top}/playbooks/play.yml", self.top / "inventory", *self.arguments)
        # Ansible goes on without a callback that fails.
        assert "callback" not in done.stderr
        return done.succeeded()

    def said(self, *tasks: dict[str, Any], variables: dict[str, Any] | None = None) -> list[Any]:
        """What each task said on bot1, one per item for a loop."""
        done = self.run(*tasks, variables=variables)
        results = [task["hosts"]["bot1"] for task in done.report["plays"][0]["tasks"]]
        return [
            [one["msg"] for one in result["results"]] if "results" in result else result.get("msg")
            for result in results
        ]

    def files(self) -> list[Path]:
        """Of the templates that are kept."""
        return sorted(self.folder.glob("*/*"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", f"{tmp_path}/callback_plugins:{PLUGINS}")
    return Project(tmp_path)


def test_most_of_what_is_loaded_is_out_of_the_collector_s_reach(project: Project) -> None:
    (project.top / "playbooks" / "filter_plugins").mkdir()
    # Of a filter, because that is worked out in the process of the task.
    (project.top / "playbooks" / "filter_plugins" / "frozen.py").write_text(
        "import gc\nclass FilterModule:\n    def filters(self):\n"
        "        return {'frozen_objects': lambda _: gc.get_freeze_count()}\n"
    )
    [found] = project.said({"debug": {"msg": "{{ 0 | frozen_objects }}"}})
    assert found > 50_000


class TestCompiledTemplates:
    def test_are_taken_from_where_they_are_kept(self, project: Project) -> None:
        assert project.said(GREET) == ["greetings 1"]
        [path] = project.files()
        path.write_bytes(kept(AnsibleEnvironment().compile("from where it is kept")))
        assert project.said(GREET) == ["from where it is kept"]

    def test_of_this_checkout_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "home"))
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"other": {}}}}))
        done = ansible_playbook("site.yml", tmp_path / "hosts.json", "--limit", "other")
        assert "is not in the inventory group" in done.failures["other"]
        files = folder_of(tmp_path / "home").iterdir()
        assert any(b"is not in the inventory group" in path.read_bytes() for path in files)

    @pytest.mark.parametrize("where", ["inventory/host_vars/bot1.yml", "playbooks/host_vars/bot1.yml"])
    def test_of_an_inventory_in_the_checkout_are_not_kept(self, project: Project, where: str) -> None:
        (project.top / where).parent.mkdir(exist_ok=True)
        (project.top / where).write_text(json.dumps({"key": "a-secret {{ 1 }}"}))
        assert project.said({"debug": {"msg": "its {{ key }}"}}) == ["its a-secret 1"]
        [path] = project.files()
        assert b"a-secret" not in path.read_bytes()

    def test_of_a_vault_are_not_kept_wherever_it_is(self, project: Project) -> None:
        (project.top / "password").write_text("of the vault")
        (project.top / "playbooks" / "vault.yml").write_text(json.dumps({"key": "a-secret {{ 1 }}"}))
        subprocess.run(
            [Path(sys.executable).with_name("ansible-vault"), "encrypt", "--vault-password-file", "password",
             "playbooks/vault.yml"],
            cwd=project.top, check=True, capture_output=True,
        )  # fmt: skip
        include = {"include_vars": f"{project.top}/playbooks/vault.yml"}
        project.arguments = ("--vault-password-file", f"{project.top}/password")
        assert project.said(include, {"debug": {"msg": "its {{ key }}"}})[1] == "its a-secret 1"
        assert not any(b"a-secret" in path.read_bytes() for path in project.files())

    def test_of_another_playbook_are_not_kept(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "own.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [GREET]}]))
        done = ansible_playbook(f"{tmp_path}/own.yml", project.top / "inventory").succeeded()
        assert project.files() == [] and "callback" not in done.stderr

    @pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "other digest"])
    def test_damaged_ones_are_compiled_again(self, project: Project, damage: str) -> None:
        assert project.said(GREET) == ["greetings 1"]
        [path] = project.files()
        good, other = path.read_bytes(), kept(AnsibleEnvironment().compile("other"))
        damaged = {"cut": other[:-1], "empty": b"", "zeros": bytes(len(other)), "other digest": good[:32] + other[32:]}
        path.write_bytes(damaged[damage])
        assert project.said(GREET) == ["greetings 1"]
        assert clawfactory_forks._read(path) is not None

    def test_a_home_that_cannot_be_written_changes_nothing(self, project: Project) -> None:
        project.folder.parent.mkdir()
        project.folder.write_text("no folder")
        assert project.said(GREET) == ["greetings 1"]

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o755])
    def test_a_folder_that_is_not_one_user_s_alone_is_not_used(self, tmp_path: Path, mode: int) -> None:
        CompiledTemplates(tmp_path / "kept").keep(KEY, CODE)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE
        (tmp_path / "kept").chmod(mode)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
    def test_a_folder_of_somebody_else_is_not_used(self, tmp_path: Path) -> None:
        CompiledTemplates(tmp_path / "kept").keep(KEY, CODE)
        os.chown(tmp_path / "kept", 4711, 4711)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) is None

    def test_a_link_to_a_folder_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        CompiledTemplates(tmp_path / "kept").keep(KEY, CODE)
        (tmp_path / "link").symlink_to(tmp_path / "kept")
        # A link has every right here, and elsewhere those of a folder.
        monkeypatch.setattr(clawfactory_forks.stat, "S_IMODE", lambda mode: 0o700)
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE
        assert CompiledTemplates(tmp_path / "link").get(KEY) is None

    def test_what_else_lies_there_is_passed_over(self, tmp_path: Path) -> None:
        CompiledTemplates(tmp_path / "kept").keep(KEY, CODE)
        (tmp_path / "kept" / "folder").mkdir()
        (tmp_path / "kept" / "link").symlink_to("nowhere")
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE

    def test_are_kept_for_the_next_run_and_nothing_is_left_unfinished(self, tmp_path: Path) -> None:
        templates = CompiledTemplates(tmp_path / "kept")
        templates.keep(KEY, CODE)
        assert templates.get(KEY) == CODE
        assert CompiledTemplates(tmp_path / "kept").get(KEY) == CODE
        assert [path.name for path in (tmp_path / "kept").iterdir()] == [KEY]
        assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700

    def test_a_new_version_removes_those_that_nobody_used_for_long(self, tmp_path: Path) -> None:
        for name, age in (("old", OLD + 60), ("recent", OLD - 60), ("used", OLD + 60)):
            CompiledTemplates(tmp_path / name).keep(KEY, CODE)
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        (tmp_path / "a file").write_text("of somebody")
        (tmp_path / "a link").symlink_to("nowhere")
        os.utime(tmp_path / "a file", (0, 0))
        CompiledTemplates(tmp_path / "used")
        CompiledTemplates(tmp_path / "new").keep(KEY, CODE)
        assert CompiledTemplates(tmp_path / "new").get(KEY) == CODE
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "a link", "new", "recent", "used"]

    def test_only_playbooks_and_roles_are_the_project_s_own(self) -> None:
        assert is_own(f"{REPOSITORY}/roles/host/vars/main.yml")
        assert is_own(f"{REPOSITORY}/playbooks/deploy.yml")
        for path in (None, "", f"{REPOSITORY}/inventory/hosts.yml", f"{REPOSITORY}/rolesque/x.yml", "/etc/roles/x.yml",
                     f"{REPOSITORY}/playbooks/group_vars/all.yml"):  # fmt: skip
            assert not is_own(path)


class TestVariables:
    def test_are_rendered_once_in_a_template_and_again_in_the_next(self, project: Project) -> None:
        variables = {
            "counted": f"{{{{ lookup('pipe', 'echo x >> {project.top}/n; wc -l < {project.top}/n') }}}}",
            "other": "{{ counted }}",
            "another": "{{ counted }} {{ other }} {{ lookup('vars', 'other') }}",
        }
        task = {"debug": {"msg": "{{ counted }} {{ other }} {{ another }}"}}
        assert project.said(task, task, variables=variables) == ["1 1 1 1 1", "2 2 2 2 2"]

    def test_in_a_template_of_an_inventory_are_rendered_as_ansible_does(self, project: Project) -> None:
        counted = f"{{{{ lookup('pipe', 'echo x >> {project.top}/n; wc -l < {project.top}/n') }}}}"
        (project.top / "own.yml").write_text(
            json.dumps([{"hosts": "all", "gather_facts": False, "vars": {"counted": counted, "other": "{{ counted }}"},
                         "tasks": [{"debug": {"msg": "{{ counted }} {{ other }}"}}]}])
        )  # fmt: skip
        done = ansible_playbook(f"{project.top}/own.yml", project.top / "inventory").succeeded()
        assert "callback" not in done.stderr
        assert done.report["plays"][0]["tasks"][0]["hosts"]["bot1"]["msg"] == "1 2"

    def test_of_a_loop_are_those_of_each_turn(self, project: Project) -> None:
        variables = {"of_item": "{{ item }}", "other": "{{ of_item }}"}
        task = {"debug": {"msg": "{{ of_item }} {{ other }}"}, "loop": [1, 2]}
        assert project.said(task, variables=variables) == [["1 1", "2 2"]]

    def test_of_a_fact_are_those_that_were_set_last(self, project: Project) -> None:
        said = {"debug": {"msg": "{{ fact }} {{ other }}"}}
        tasks = [{"set_fact": {"fact": "one"}}, said, {"set_fact": {"fact": "two"}}, said]
        assert project.said(*tasks, variables={"other": "{{ fact }}"})[1::2] == ["one one", "two two"]

    def test_given_to_another_template_are_those_of_that_one(self, project: Project) -> None:
        (project.top / "inner.j2").write_text("{{ number }} {{ other }}")
        inner = f"lookup('template', '{project.top}/inner.j2', template_vars={{'number': n}})"
        task = {"debug": {"msg": f"{{{{ other }}}}{{% for n in [1, 2] %}}, {{{{ {inner} }}}}{{% endfor %}}"}}
        assert project.said(task, variables={"number": 0, "other": "{{ number }}"}) == ["0, 1 1, 2 2"]

    def test_of_another_host_are_that_host_s(self, project: Project) -> None:
        project.inventory(a={"own": 1, "other": "{{ own }}"}, b={"own": 2, "other": "{{ own }}"})
        message = "{{ other }} {{ hostvars['a'].other }} {{ hostvars['b'].other }}"
        [play] = project.run({"debug": {"msg": message}}).report["plays"]
        assert {host: result["msg"] for host, result in play["tasks"][0]["hosts"].items()} == {
            "a": "1 1 2",
            "b": "2 1 2",
        }

    def test_that_are_undefined_stay_so(self, project: Project) -> None:
        variables = {"broken": "{{ nowhere }}", "saved": "{{ broken | default('saved') }}"}
        task = {"debug": {"msg": "{{ saved }} {{ broken | default('again') }} {{ broken is defined }}"}}
        assert project.said(task, variables=variables) == ["saved again False"]
