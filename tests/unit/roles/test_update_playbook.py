"""Which bots an update tries, and to what it moves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
HERE = {"ansible_connection": "local", "ansible_become": False}
OLD, NEW = "2026.9.6", "2026.9.7"


def play(tmp_path: Path, hosts: dict[str, dict[str, Any]], playbook: Any, *arguments: str) -> PlaybookRun:
    inventory, path = tmp_path / "hosts.json", tmp_path / "play.yml"
    inventory.write_text(json.dumps({"bots": {"hosts": hosts}}))
    path.write_text(json.dumps([playbook]))
    return ansible_playbook(str(path), inventory, *arguments)


def test_no_bot_is_tried_after_the_canaries_failed(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"bots": {"hosts": {f"far{number}": NOWHERE for number in range(5)}}}))
    run = ansible_playbook("playbooks/update.yml", inventory, "--extra-vars", "update_canary=2 update_serial=1")
    assert run.returncode == 4
    assert run.stats.keys() == {"far0", "far1"}


class TestSteps:
    """The playbook's own steps and gate, around an update that does nothing but fail for some."""

    def rollout(self, tmp_path: Path, broken: str, **options: object) -> PlaybookRun:
        (update,) = yaml.safe_load((REPOSITORY / "playbooks" / "update.yml").read_text())
        work = next(task for task in update["tasks"] if "block" in task)
        work["block"][:-1] = [
            {"ansible.builtin.fail": {"msg": "it does not get ready"}, "when": "inventory_hostname == broken"}
        ]
        given = {"broken": broken, **options}
        hosts = {f"bot{number}": HERE for number in range(1, 6)}
        return play(tmp_path, hosts, update, "--extra-vars", json.dumps(given))

    def test_all_are_updated_if_none_fails(self, tmp_path: Path) -> None:
        assert self.rollout(tmp_path, "").succeeded().stats.keys() == {f"bot{number}" for number in range(1, 6)}

    def test_one_canary_that_fails_beside_a_good_one_ends_it(self, tmp_path: Path) -> None:
        run = self.rollout(tmp_path, "bot1", update_canary=2, update_serial=2)
        assert run.returncode == 2
        told = "was not tried, for the update failed of bot1"
        assert {bot: told in why for bot, why in run.failures.items()} == {"bot1": False, "bot3": True, "bot4": True}
        assert "bot5" not in run.stats

    def test_bot_of_a_later_step_that_fails_ends_it(self, tmp_path: Path) -> None:
        run = self.rollout(tmp_path, "bot2", update_serial=1)
        assert run.stats.keys() == {"bot1", "bot2"}
        assert run.failures.keys() == {"bot2"}
        assert "not tried: bot3, bot4, bot5" in run.stderr


def versions(before: str, after: str, **variables: Any) -> dict[str, Any]:
    found = {"results": [{"stdout": before}, {"stdout": after}]}
    given = {"__gateway_source": "pull", "gateway_version": after, "update_allow_downgrade": False}
    return {**HERE, "__update_versions": found, **given, **variables}


def test_older_one_is_refused_by_what_is_in_the_image_and_not_by_its_name(tmp_path: Path) -> None:
    refusal = "__update_version_refusal"
    task = {"ansible.builtin.assert": {"that": f"{refusal} == ''", "fail_msg": f"{{{{ {refusal} }}}}"}}
    files = [str(REPOSITORY / "roles" / "update" / "vars" / "main.yml")]
    bots = {
        "newer": versions(OLD, NEW),
        "same": versions(OLD, OLD),
        "older": versions(NEW, OLD),
        "meant": versions(NEW, OLD, update_allow_downgrade="true"),
        "mislabelled": versions(NEW, OLD, gateway_version="2026.10.1"),
        "unbuilt": versions(OLD, OLD, __gateway_source="build", gateway_version=NEW),
    }
    run = play(tmp_path, bots, {"hosts": "bots", "gather_facts": False, "vars_files": files, "tasks": [task]})
    assert run.failures.keys() == {"older", "mislabelled", "unbuilt"}
    told = f"runs OpenClaw {NEW}, and {OLD} is older"
    assert all(f"{bot} {told}" in run.failures[bot] for bot in ("older", "mislabelled"))
    assert "update_allow_downgrade=true" in run.failures["older"]
    assert f"gateway_version is '{NEW}', but a build installs what" in run.failures["unbuilt"]


def test_digest_pins_the_image_whatever_its_tag_says(tmp_path: Path) -> None:
    """Another digest is another image, so that an update makes a bot anew that has the same version."""
    files = [str(REPOSITORY / "roles" / "gateway" / part / "main.yml") for part in ("defaults", "vars")]
    # Above the role's own defaults, which vars_files would put over a host's variables.
    pinned = {"gateway_version": NEW, "gateway_image_digest": "{{ digest }}"}
    shown = ["{{ __gateway_upstream }}", "{{ __gateway_references.pull }}"]
    task = {"ansible.builtin.debug": {"msg": shown}, "vars": pinned}
    digests = {"tagged": "", "first": f"sha256:{'a' * 64}", "second": f"sha256:{'b' * 64}"}
    common = {**HERE, "host_base_image": "base:1", "clawfactory_source_dir": str(REPOSITORY)}
    hosts = {bot: {**common, "digest": digest} for bot, digest in digests.items()}
    playbook = {"hosts": "bots", "gather_facts": False, "vars_files": files, "tasks": [task]}
    run = play(tmp_path, hosts, playbook).succeeded()
    (debug,) = run.report["plays"][0]["tasks"]
    found = {bot: result["msg"] for bot, result in debug["hosts"].items()}
    name = "ghcr.io/openclaw/openclaw"
    assert {bot: upstream for bot, (upstream, _) in found.items()} == {
        "tagged": f"{name}:{NEW}", "first": f"{name}@{digests['first']}", "second": f"{name}@{digests['second']}"
    }  # fmt: skip
    assert len({reference for _, reference in found.values()}) == 3
