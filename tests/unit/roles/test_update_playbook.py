"""Which bots an update tries, and to what it moves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import pinned_openclaw
from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
HERE = {"ansible_connection": "local", "ansible_become": False}
OLD, NEW = "2026.9.6", "2026.9.7"
DIGEST = f"sha256:{'a' * 64}"
PINNED = f"ghcr.io/openclaw/openclaw@{DIGEST}"
VARIABLES = REPOSITORY / "roles" / "update" / "vars" / "main.yml"


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
    given = {
        "__gateway_source": "pull",
        "gateway_version": after,
        "update_allow_downgrade": False,
        "__gateway_upstream": PINNED,
    }
    return {**HERE, "__update_versions": found, **given, **variables}


def refusing(variable: str) -> dict[str, Any]:
    """A play of the task that refuses what the variable of role update tells."""
    task = {"ansible.builtin.assert": {"that": f"{variable} == ''", "fail_msg": f"{{{{ {variable} }}}}"}}
    return {"hosts": "bots", "gather_facts": False, "vars_files": [str(VARIABLES)], "tasks": [task]}


def test_older_one_is_refused_by_what_is_in_the_image_and_not_by_its_name(tmp_path: Path) -> None:
    bots = {
        "newer": versions(OLD, NEW),
        "same": versions(OLD, OLD),
        "older": versions(NEW, OLD),
        "meant": versions(NEW, OLD, update_allow_downgrade="true"),
        "mislabelled": versions(NEW, OLD, gateway_version="2026.10.1"),
        "unbuilt": versions(OLD, OLD, __gateway_source="build", gateway_version=NEW),
    }
    run = play(tmp_path, bots, refusing("__update_version_refusal"))
    assert run.failures.keys() == {"older", "mislabelled", "unbuilt"}
    told = f"runs OpenClaw {NEW}, and {OLD} is older"
    assert all(f"{bot} {told}" in run.failures[bot] for bot in ("older", "mislabelled"))
    assert "update_allow_downgrade=true" in run.failures["older"]
    assert f"gateway_version is '{NEW}', but a build installs what" in run.failures["unbuilt"]


def test_image_that_has_another_version_than_it_would_be_called_is_refused(tmp_path: Path) -> None:
    """The pinned digest decides what is pulled, and gateway_version what that is called ever after."""
    bots = {
        "pinned": versions(OLD, OLD, gateway_version=NEW),
        "behind": versions(OLD, NEW, gateway_version=OLD),
        "patched": versions(OLD, f"{OLD}-1", gateway_version=OLD),
        "forced": versions(NEW, NEW, gateway_version=OLD, update_allow_downgrade=True),
        "prefixed": versions(OLD, OLD, gateway_version=f"v{NEW}"),
        "variant": versions(OLD, NEW, gateway_version=f"{NEW}-slim"),
        "moving": versions(OLD, NEW, gateway_version="latest"),
        "forked": versions(OLD, NEW, gateway_version=OLD, __gateway_source="fork"),
    }
    run = play(tmp_path, bots, refusing("__update_version_refusal"))
    assert run.failures.keys() == {"pinned", "behind", "patched", "forced", "prefixed"}
    for told in (
        f"pinned: gateway_version is '{NEW}'",
        PINNED,
        f"has OpenClaw {OLD} in it",
        f"gateway_version to {OLD}",
    ):
        assert told in run.failures["pinned"]


class TestPinnedDigest:
    """Of the playbook itself: who is not refused is asked, and does not answer."""

    def tried(self, tmp_path: Path, given: object, **variables: object) -> str:
        (tmp_path / "hosts.json").write_text(
            json.dumps({"bots": {"hosts": {"far": {**NOWHERE, "gateway_image_digest": DIGEST, **variables}}}})
        )
        extra = given if isinstance(given, str) else json.dumps(given)
        run = ansible_playbook("playbooks/update.yml", tmp_path / "hosts.json", "--check", "--extra-vars", extra)
        return run.failures["far"]

    @pytest.mark.parametrize(
        "given",
        [
            {"gateway_version": NEW},
            # What `clawfactory update --image r.example/o:1` makes of that.
            {"gateway_image_reference": "r.example/o:1"},
            {"gateway_image_reference": f"r.example/o@sha256:{'b' * 64}", "gateway_version": NEW},
        ],
    )
    def test_decides_nothing_about_another_image_that_was_asked_for(
        self, tmp_path: Path, given: dict[str, str]
    ) -> None:
        told = self.tried(tmp_path, given)
        for expected in ("far: ", *(f"{name} {value}" for name, value in given.items()), DIGEST):
            assert expected in told
        assert "-e gateway_image_digest=sha256:…" in told

    @pytest.mark.parametrize(
        ("given", "variables"),
        [
            ({"update_canary": 1}, {"gateway_version": NEW}),
            (f"gateway_version={NEW} gateway_image_digest=sha256:{'b' * 64}", {}),
            (f"gateway_version={NEW} gateway_image_digest=", {}),
            ({"gateway_version": NEW}, {"gateway_image_digest": ""}),
            ({"gateway_version": NEW}, {"gateway_image_source": "build"}),
        ],
    )
    def test_is_no_reason_to_refuse_anything_else(
        self, tmp_path: Path, given: object, variables: dict[str, str]
    ) -> None:
        told = self.tried(tmp_path, given, **variables)
        assert "gateway_image_digest" not in told and "127.0.0.1" in told


def test_digest_pins_the_image_whatever_its_tag_says(tmp_path: Path) -> None:
    """Another digest is another image, so that an update makes a bot anew that has the same version."""
    files = [str(REPOSITORY / "roles" / "gateway" / part / "main.yml") for part in ("defaults", "vars")]
    # Above the role's own defaults, which vars_files would put over a host's variables.
    pinned = {"gateway_version": NEW, "gateway_image_digest": "{{ digest }}"}
    shown = ["{{ __gateway_upstream }}", "{{ __gateway_references.pull }}"]
    task = {"ansible.builtin.debug": {"msg": shown}, "vars": pinned}
    digests = {"tagged": "", "first": DIGEST, "second": f"sha256:{'b' * 64}"}
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
    # The end-to-end tests put an image there under this name.
    assert found["first"][1] == pinned_openclaw.reference("base:1", NEW, DIGEST)


def test_state_counts_as_touched_unless_no_new_container_ever_ran(tmp_path: Path) -> None:
    def container(started: str) -> list[dict[str, str]]:
        return [
            {"service": "egress", "started_at": "2027-01-15T08:00:00Z"},
            {"service": "gateway", "started_at": started},
        ]

    never, ran = container("0001-01-01T00:00:00Z"), container("2027-01-15T08:00:00Z")
    bots = {
        "ran": {"host_containers": ran},
        "never": {"host_containers": never},
        # Made again with the configuration of before (roles/gateway/tasks/ready.yml), and that failed half-way.
        "gone": {"host_containers": never[:1]},
        "again": {"host_containers": never, "__gateway_restored": {"changed": True}},
        "skipped": {"host_containers": never, "__gateway_restored": {"changed": False, "skipped": True}},
    }
    task = {"ansible.builtin.debug": {"msg": "{{ __update_started }}"}}
    hosts = {bot: {**HERE, **variables} for bot, variables in bots.items()}
    playbook = {"hosts": "bots", "gather_facts": False, "vars_files": [str(VARIABLES)], "tasks": [task]}
    run = play(tmp_path, hosts, playbook).succeeded()
    (debug,) = run.report["plays"][0]["tasks"]
    found = {bot: result["msg"] for bot, result in debug["hosts"].items()}
    assert found == {"ran": True, "never": False, "gone": True, "again": True, "skipped": False}
