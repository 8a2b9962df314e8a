"""Check mode on a converged machine says "no change", and makes none."""

from __future__ import annotations

import json

from testinfra.host import Host

from tests.support.machines import differences, fingerprint

from .conftest import MACHINE, Play


def test_check_mode_finds_nothing_to_do_and_does_nothing(play: Play) -> None:
    before = fingerprint(MACHINE)
    run = play("site.yml", "--check", "--diff").succeeded()
    assert run.changed == []
    assert differences(before, fingerprint(MACHINE)) == []


def test_check_mode_of_a_change_tells_it_and_does_nothing(play: Play) -> None:
    before = fingerprint(MACHINE)
    wanted = '{"egress_allow_extra": ["changed.example.org"]}'
    run = play("site.yml", "--limit", "bot1", "--check", "--diff", "--extra-vars", wanted).succeeded()
    assert run.changed != []
    assert "changed.example.org" in str(run.report)
    assert differences(before, fingerprint(MACHINE)) == []


def test_output_and_diff_of_a_changed_secret_hold_no_secret(machine: Host, play: Play) -> None:
    new = "0123456789abcdef" * 2 + "fedcba98"
    wanted = json.dumps({"secrets_env": {"CONTROLLER_TOKEN": new}})
    run = play("site.yml", "--limit", "bot1", "--check", "--diff", "-vvv", "--extra-vars", wanted).succeeded()
    assert run.changed != []
    held = machine.check_output(
        "cat /srv/clawfactory/secrets/bot1/gateway.env /srv/clawfactory/secrets/bot1/controller.env"
    )
    # The recipient is a public key.
    values = {new, *(line.partition("=")[2] for line in held.splitlines() if "RECIPIENT" not in line)} - {""}
    assert len(values) > 3
    assert [value for value in values if value in str(run.report) + run.stderr] == []
