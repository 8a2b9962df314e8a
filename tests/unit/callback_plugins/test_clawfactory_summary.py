"""What a run says at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.playbooks import PlaybookRun, ansible_playbook

NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
HERE = {"ansible_connection": "local"}
PLAYBOOK = """
- hosts: bots
  gather_facts: false
  serial: "{{ steps | default([9]) }}"
  tasks:
    - {fail: {msg: "broken   it is"}, when: inventory_hostname == 'broken'}
    - {fail: {msg: "of {{ item }}"}, loop: [one, two], failed_when: item == 'two', when: inventory_hostname == 'looped'}
    - {raw: "echo this; echo the reason; exit 1", when: inventory_hostname == 'raw'}
    - {shell: "echo hush; exit 1", no_log: true, when: inventory_hostname == 'quiet'}
    - when: inventory_hostname == 'rescued'
      block: [{fail: {msg: not so bad}}]
      rescue: [{debug: {msg: well again}}]
    - {fail: {msg: never mind}, ignore_errors: true}
    - {command: "true"}
"""


def run(tmp_path: Path, bots: dict[str, dict[str, object]], *arguments: str) -> PlaybookRun:
    inventory, playbook = tmp_path / "our hosts.json", tmp_path / "play.yml"
    inventory.write_text(json.dumps({"bots": {"hosts": bots}}))
    playbook.write_text(PLAYBOOK)
    return ansible_playbook(str(playbook), inventory, *arguments)


def summary(done: PlaybookRun) -> list[str]:
    lines = done.stderr.splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.endswith(" failed:")) :]


def test_failed_bots_are_named_with_the_reason_and_the_command_that_retries_just_those(tmp_path: Path) -> None:
    bots = {"fine": HERE, "broken": HERE, "looped": HERE, "quiet": HERE, "raw": HERE, "rescued": HERE, "away": NOWHERE}
    done = run(tmp_path, bots, "--extra-vars", "password=hush")
    first, *lines, last = summary(done)
    assert first == "5 of 7 failed:"
    found = dict(line.strip().split(": ", 1) for line in lines)
    assert found["broken"] == "broken it is"
    assert found["looped"] == "of two"
    assert found["away"].startswith("its machine cannot be reached: ")
    assert "no_log" in found["quiet"]
    assert found["raw"] == "non-zero return code the reason"
    assert found.keys() == {"broken", "looped", "away", "quiet", "raw"}
    command = (
        f"ansible-playbook {tmp_path}/play.yml -i '{tmp_path}/our hosts.json' --limit away,broken,looped,quiet,raw"
    )
    assert last == f"once that is corrected: {command} (and the same --extra-vars)"
    assert "hush" not in done.stderr


def test_bots_whose_turn_did_not_come_are_retried_too(tmp_path: Path) -> None:
    done = run(tmp_path, {"broken": HERE, "second": HERE, "third": HERE}, "--extra-vars", '{"steps": [1]}')
    assert summary(done)[:-1] == ["1 of 3 failed:", "  broken: broken it is", "not tried: second, third"]
    assert "--limit broken,second,third" in summary(done)[-1]


def test_a_good_run_says_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, {"fine": HERE, "rescued": HERE}).succeeded().stderr == ""


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/update.yml"])
def test_own_playbooks_say_it_of_a_machine_that_does_not_answer(tmp_path: Path, playbook: str) -> None:
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"bots": {"hosts": {"far": NOWHERE}}}))
    assert "far: its machine cannot be reached" in ansible_playbook(playbook, inventory).stderr
