"""What commands ask Ansible for, which bot they mean, and what they print as JSON; see test_app.py for the basics."""

from __future__ import annotations

import json

import pytest

from clawfactory_core.names import env_prefix


def variables(made):
    """Of ``-e`` with JSON, which is how the command line hands on what it was told."""
    arguments = made["arguments"]
    found = [arguments[index + 1] for index, word in enumerate(arguments) if word == "-e"]
    return json.loads(found[0]) if found else {}


@pytest.mark.parametrize(
    ("line", "playbook", "expected"),
    [
        ("snapshot create --label x --full", "snapshot", {"snapshot_label": "x", "snapshot_full": True}),
        ("snapshot create", "snapshot", {}),
        ("snapshot list", "snapshots", {}),
        ("snapshot verify", "snapshots", {"snapshots_verify": "digest"}),
        ("snapshot verify -n A --content", "snapshots", {"snapshots_verify": "content", "snapshots_name": "A"}),
        ("snapshot restore", "restore", {}),
        ("snapshot restore -n A --stop --from other --rotate-token --no-snapshot-first", "restore", {
            "restore_name": "A", "restore_stop": True, "restore_from": "other", "restore_rotate_token": True,
            "restore_snapshot_first": False,
        }),
        ("snapshot restore --path a --path b --destination /d", "restore",
         {"restore_paths": ["a", "b"], "restore_destination": "/d"}),
        ("snapshot restore --decide kept", "restore", {"restore_decide": "kept"}),
        ("proposals", "proposals", {}),
        ("promote", "promote", {}),
        ("promote --proposal kinder", "promote", {"promote_branch": "proposal/kinder"}),
        ("promote -p proposal/kinder", "promote", {"promote_branch": "proposal/kinder"}),
        ("promote --sha 1a", "promote", {"promote_sha": "1a"}),
        ("rollback --sha 1a", "rollback", {"rollback_sha": "1a"}),
        ("update", "update", {}),
        ("update --available", "available-updates", {}),
        ("update --version 2026.9.7 --canary 2 --serial 20%", "update",
         {"gateway_version": "2026.9.7", "update_canary": 2, "update_serial": "20%"}),
        # An empty digest would silently undo one that the inventory pins; as it is, the playbook refuses.
        ("update --image r.example/o:1", "update", {"gateway_image_reference": "r.example/o:1"}),
        ("update --image r.example/o:1@sha256:ab --allow-downgrade", "update", {
            "gateway_image_reference": "r.example/o:1", "gateway_image_digest": "sha256:ab",
            "update_allow_downgrade": True,
        }),
    ],
)  # fmt: skip
def test_command_runs_its_playbook_with_what_it_was_told(call, line, playbook, expected):
    result, made = call(*line.split(), "-i", "bot1")
    assert result.exit_code == 0, result.output
    assert made["arguments"][:3] == [f"playbooks/{playbook}.yml", "-l", "bot1"]
    assert variables(made) == expected


def test_keygen_is_about_this_computer(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, made = call("snapshot", "keygen", "rescue.key")
    assert made["arguments"][0] == "playbooks/keygen.yml" and "-l" not in made["arguments"]
    assert variables(made) == {"keygen_file": str(tmp_path / "rescue.key")}


@pytest.mark.parametrize("line", ["promote -C -D", "rollback -C -D", "update -C -D"])
def test_what_can_be_tried_is_tried(call, line):
    assert call(*line.split())[1]["arguments"][-2:] == ["--check", "--diff"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("snapshot restore --path a", "--destination"),
        ("snapshot restore --decide perhaps", "'perhaps'"),
        ("update --serial some", "'some'"),
        ("update --canary 0", "--canary"),
        ("promote --from /nowhere/at/all", "/nowhere/at/all"),
        ("snapshot verify --key-file /nowhere/at/all", "/nowhere/at/all"),
        ("logs nothing", "'gateway', 'proxy', 'controller', 'egress', 'broker'"),
        ("logs --lines -1", "--lines"),
        ("audit show -n 0", "--lines"),
        ("info bot1 bot2", "bot1, bot2"),
        ("info nobody", "it has bot1"),
        ("use nobody", "it has bot1"),
        ("-i bot1 version", "'version' takes no bot"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
def test_bad_input_names_the_value_and_runs_nothing(call, monkeypatch, line, named):
    monkeypatch.setenv("BOTS", "bot1 bot2" if "bot2" in line else "bot1")
    result, made = call(*line.split())
    assert (result.exit_code, made) == (2, None)
    assert named in " ".join(result.output.split())


def test_instance_is_the_same_before_and_after_the_command(call):
    assert call("-i", "bot2", "stop")[1]["arguments"] == call("stop", "--instance", "bot2")[1]["arguments"]
    assert call("stop", "bot1", "-i", "bot2", "-i", "bot1")[1]["arguments"][2] == "bot1,bot2"


@pytest.mark.parametrize("inventory", ["bot1,", "hosts.yml", "inventory/"])
def test_instance_with_a_mark_of_an_inventory_is_one(call, inventory):
    arguments = call("stop", "bot1", "-i", inventory)[1]["arguments"]
    assert arguments[:2] == ["playbooks/stop.yml", "-l"] and "-i" in arguments


def test_default_is_remembered_and_meant_where_none_is_named(call, monkeypatch, tmp_path):
    monkeypatch.setenv("BOTS", "bot1 bot2")
    assert call("use", "bot2")[0].exit_code == 0
    assert call("stop")[1]["arguments"] == ["playbooks/stop.yml", "-l", "bot2"]
    assert call("stop", "bot1")[1]["arguments"] == ["playbooks/stop.yml", "-l", "bot1"]
    (file,) = (tmp_path / "settings").iterdir()
    assert file.read_text() == "bot2\n" and file.stat().st_mode & 0o777 == 0o600


def test_default_that_is_gone_is_not_meant(call, monkeypatch):
    call("use", "bot1")
    monkeypatch.setenv("BOTS", "bot2 bot3")
    result, made = call("stop")
    assert (result.exit_code, made) == (2, None) and "bot2, bot3" in result.output


def test_default_that_cannot_be_read_is_an_error(call, monkeypatch, tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/instance").write_text("../x\n")
    result, made = call("stop")
    assert (result.exit_code, made) == (1, None) and "clawfactory use BOT" in result.output


@pytest.mark.parametrize("flags", [["--vault-password-file", "other"], ["-J"]])
def test_password_file_that_init_made_is_used_unless_told_otherwise(call, tmp_path, flags):
    made_file = tmp_path / "settings/vault-password"
    made_file.parent.mkdir()
    made_file.touch()
    assert str(made_file) in call("stop", "bot1")[1]["arguments"]
    assert str(made_file) not in call("stop", "bot1", *flags)[1]["arguments"]


def test_playbook_finds_the_password_file_that_init_made(call, tmp_path, monkeypatch):
    assert call("playbook", "verify")[1]["password_file"] is None
    made_file = tmp_path / "settings/vault-password"
    made_file.parent.mkdir()
    made_file.touch()
    made = call("playbook", "verify", "-l", "bot1")[1]
    assert made["password_file"] == str(made_file)
    assert made["arguments"] == ["playbooks/verify.yml", "-l", "bot1"]
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "mine")
    assert call("playbook", "verify")[1]["password_file"] == "mine"


REPORT = {
    "stats": {
        "bot1": {"unreachable": 0, "failures": 0, "changed": 1},
        "bot2": {"unreachable": 0, "failures": 1, "changed": 0},
        "bot3": {"unreachable": 1, "failures": 0, "changed": 0},
    },
    "plays": [
        {
            "tasks": [
                {"hosts": {
                    "bot1": {"action": "clawfactory_promotion", "sha": "1a", "_ansible_no_log": False},
                    "bot2": {"action": "clawfactory_promotion", "failed": True, "msg": "no such commit"},
                    "bot3": {"unreachable": True, "msg": "timed out"},
                }},
            ]
        }
    ],
}  # fmt: skip


def test_json_says_of_each_bot_how_it_went(call, monkeypatch):
    monkeypatch.setenv("PRINT", json.dumps(REPORT))
    monkeypatch.setenv("EXIT", "6")
    result, made = call("promote", "all", "--json")
    assert result.exit_code == 5
    assert made["callback"] == "ansible.posix.json"
    assert json.loads(result.stdout) == {
        "bot1": {"state": "ok", "changed": True, "message": "", "result": {"sha": "1a"}},
        "bot2": {"state": "failed", "changed": False, "message": "no such commit", "result": {}},
        "bot3": {"state": "unreachable", "changed": False, "message": "timed out"},
    }


def test_json_of_a_run_that_did_not_begin_is_empty_and_the_reason_is_on_the_side(call, monkeypatch):
    monkeypatch.setenv("PRINT", "no hosts")
    monkeypatch.setenv("EXIT", "1")
    result, _ = call("stop", "bot1", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {})
    assert "no hosts" in result.stderr


def test_list_shows_machines_and_the_default(call):
    call("use", "bot1")
    result, _ = call("list")
    assert result.output == "bot   machine       default\nbot1  this machine  *\n"
    assert json.loads(call("list", "--json")[0].stdout) == [{"bot": "bot1", "machine": "this machine", "default": True}]


FACTS = {
    "bot": "bot1", "state": "healthy", "version": "2026.9.6", "approved": "ab" * 20, "restarts": 0, "sandboxes": 1,
    "gateway_url": "http://127.0.0.1:18789/", "controller_url": "http://127.0.0.1:8080/", "lock": "",
    "snapshot": "failed", "snapshot_time": "2027-01-15T08:00:00Z", "snapshot_problem": "disk\x1b[2Jfull",
}  # fmt: skip


def test_status_is_a_plain_table_where_there_is_no_terminal(call, monkeypatch):
    monkeypatch.setenv("STATUS", json.dumps([FACTS]))
    result, _ = call("status")
    header, line, problem = result.output.splitlines()
    assert header.split()[:4] == ["bot", "state", "version", "approved"]
    assert line.split()[:4] == ["bot1", "healthy", "2026.9.6", "abababababab"]
    assert "the last scheduled snapshot failed" in problem and "\x1b" not in result.output


def test_status_as_a_page_is_written_where_the_operator_is(call, monkeypatch, tmp_path):
    monkeypatch.setenv("STATUS", json.dumps([FACTS]))
    monkeypatch.chdir(tmp_path)
    result, made = call("status", "--html", "fleet.html", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout) == [FACTS]
    assert variables(made) == {"status_html_file": str(tmp_path / "fleet.html")}
    assert variables(call("status", "-v", "--html", "fleet.html")[1]) == {"status_html_file": f"{tmp_path}/fleet.html"}
    assert call("status", "--html", str(tmp_path))[0].exit_code == 2


@pytest.mark.parametrize("command", ["info", "controller"])
def test_addresses_come_without_a_token(call, monkeypatch, command):
    monkeypatch.setenv("STATUS", json.dumps([FACTS]))
    result, _ = call(command, "bot1")
    assert result.exit_code == 0
    assert "http://127.0.0.1:8080/" in result.output
    assert f"sudo grep ^{env_prefix('bot1')} /srv/clawfactory/secrets/tokens.env" in result.output
    shown = json.loads(call(command, "bot1", "--json")[0].stdout)
    assert shown["controller"] == "http://127.0.0.1:8080/" and "tokens" not in shown and "token" not in shown


def test_info_of_a_remote_bot_names_the_tunnel(call, monkeypatch):
    monkeypatch.setenv("STATUS", json.dumps([FACTS]))
    monkeypatch.setenv("VARIABLES", json.dumps({"ansible_host": "203.0.113.7", "clawfactory_root": "/opt/claw"}))
    shown = json.loads(call("info", "--json")[0].stdout)
    assert shown["tunnel"].startswith("ssh -L 18789:127.0.0.1:18789") and shown["machine"] == "203.0.113.7"
    assert shown["snapshots"] == "/opt/claw/snapshots/bot1"


TOKENS = "BOT1_CONTROLLER_TOKEN=c0ffee\nBOT1_X_CONTROLLER_TOKEN=dead\nBOT1_OPENCLAW_GATEWAY_TOKEN=beef\n"


def there(stdout, rc=0):
    result = {"action": "ansible.builtin.command", "stdout": stdout, "rc": rc, "stderr": "" if rc == 0 else "refused"}
    stats = {"bot1": {"unreachable": 0, "failures": int(rc != 0), "changed": 1}}
    return json.dumps({"stats": stats, "plays": [{"tasks": [{"hosts": {"bot1": result}}]}]})


def test_tokens_are_read_when_asked_for_and_only_the_bots_own(call, monkeypatch):
    monkeypatch.setenv("STATUS", json.dumps([FACTS]))
    monkeypatch.setenv("THERE", there(TOKENS))
    assert json.loads(call("controller", "--token", "--json")[0].stdout)["token"] == "c0ffee"
    shown = json.loads(call("info", "--tokens", "--json")[0].stdout)["tokens"]
    assert shown == {"BOT1_CONTROLLER_TOKEN": "c0ffee", "BOT1_OPENCLAW_GATEWAY_TOKEN": "beef"}


def test_controller_of_a_bot_that_is_not_deployed_says_how_it_gets_there(call, monkeypatch):
    monkeypatch.setenv("STATUS", json.dumps([{**FACTS, "gateway_url": "", "controller_url": ""}]))
    result, _ = call("controller")
    assert result.exit_code == 1 and "clawfactory up bot1" in result.output


EVENTS = [
    {"time": "2027-01-15T08:00:00Z", "bot": "bot1", "event": "lock", "actor": "me", "reason": "x\x1b", "previous": "0"},
    {"time": "2027-01-15T09:00:00Z", "bot": "bot1", "event": "unlock", "previous": "1"},
]


def test_audit_shows_the_newest_events(call, monkeypatch):
    monkeypatch.setenv("THERE", there("\n".join(map(json.dumps, EVENTS))))
    result, _ = call("audit", "show", "-n", "2")
    assert [line.split()[:2] for line in result.output.splitlines()[1:]] == [
        ["2027-01-15T08:00:00Z", "lock"],
        ["2027-01-15T09:00:00Z", "unlock"],
    ]
    assert "previous" not in result.output and "\x1b" not in result.output
    assert json.loads(call("audit", "show", "--json")[0].stdout) == EVENTS


@pytest.mark.parametrize(
    ("severity", "state", "code"), [("warning", "healthy", 0), ("error", "healthy", 3), ("warning", "unhealthy", 3)]
)
def test_doctor_fails_where_something_is_serious(call, monkeypatch, severity, state, code):
    finding = {"checkId": "core/x", "severity": severity, "message": "look at this"}
    monkeypatch.setenv("STATUS", json.dumps([{**FACTS, "state": state}]))
    monkeypatch.setenv("THERE", there(json.dumps({"checksRun": 3, "findings": [finding]}), rc=1))
    result, _ = call("doctor")
    assert result.exit_code == code and "look at this" in result.output
    assert json.loads(call("doctor", "--json")[0].stdout)["checks"]["findings"] == [finding]


def test_doctor_needs_a_running_gateway(call, monkeypatch):
    monkeypatch.setenv("STATUS", json.dumps([{**FACTS, "state": "locked"}]))
    result, _ = call("doctor")
    assert result.exit_code == 3 and "bot1 is locked" in result.output


def test_program_that_fails_there_is_named_with_its_complaint(call, monkeypatch):
    monkeypatch.setenv("THERE", there("", rc=2))
    result, _ = call("audit", "show")
    assert result.exit_code == 3 and "bot1: find: refused" in result.output
