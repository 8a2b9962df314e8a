from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "filter_plugins" / "clawfactory_bot.py"
PLACE = {"port": 18789, "proxy_address": "10.213.0.4", "egress_address": "10.213.0.2"}

pytest.importorskip("ansible", reason="needs ansible-core, as on the control node")
from ansible.errors import AnsibleFilterError  # noqa: E402 - found by the path above


@pytest.fixture(scope="module")
def filters():
    spec = importlib.util.spec_from_file_location("clawfactory_bot", PLUGIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()


def test_the_filters_that_roles_use(filters):
    assert set(filters) == {
        "clawfactory_bot_plan", "clawfactory_openclaw_config", "clawfactory_key_problems",
        "clawfactory_machine", "clawfactory_leader", "clawfactory_wanted_secrets",
        "clawfactory_any_over_ssh", "clawfactory_remote_problems", "clawfactory_remote_access",
            "clawfactory_remote_addresses", "clawfactory_published", "clawfactory_serve_routes",
            "clawfactory_tunnel_credentials",
    }  # fmt: skip


def test_the_plan_is_plain_data(filters):
    plan = filters["clawfactory_bot_plan"]({"bot_providers": ["anthropic"]}, "bot1")
    assert json.loads(json.dumps(plan)) == plan
    assert plan["required_env"] == {"ANTHROPIC_API_KEY": "provider anthropic"}


def test_the_configuration_is_text(filters):
    text = filters["clawfactory_openclaw_config"]({"bot_providers": ["kimi"]}, "bot1", **PLACE)
    config = json.loads(text)
    assert config["models"]["providers"]["moonshot"]["baseUrl"] == "https://api.moonshot.ai/v1"
    assert config["proxy"]["proxyUrl"] == "http://10.213.0.2:3128"


def test_numbers_may_come_as_text(filters):
    """Templated numbers are text wherever Jinja did not run natively."""
    variables = {}
    text = filters["clawfactory_openclaw_config"](
        variables, "bot1", **{**PLACE, "port": "18789", "egress_port": "3128"}
    )
    assert text == filters["clawfactory_openclaw_config"](variables, "bot1", **PLACE)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clawfactory_bot_plan", [{"bot_providers": ["antropic"]}, "bot1"]),
        ("clawfactory_machine", [{}]),
        ("clawfactory_leader", [[], {}, "bot1"]),
    ],
)
def test_errors_are_the_cores_own_words(filters, name, arguments):
    with pytest.raises(AnsibleFilterError) as caught:
        filters[name](*arguments)
    assert caught.value.__suppress_context__
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) > 20


def test_keys_that_are_there_and_keys_that_are_not(filters):
    problems = filters["clawfactory_key_problems"]
    assert problems({"bot_channels": ["slack"]}, "bot1", ["SLACK_APP_TOKEN", "SLACK_BOT_TOKEN"]) == []
    (problem,) = problems({"bot_channels": ["slack"]}, "bot1", ["SLACK_APP_TOKEN"])
    assert "SLACK_BOT_TOKEN" in problem
    assert "SLACK_APP_TOKEN" not in problem


def run_play(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml")]
    environment = {
        "ANSIBLE_FILTER_PLUGINS": str(PLUGIN.parent), "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_HOME": str(folder / "home"), "HOME": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
    }  # fmt: skip
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_leader_and_machine(filters):
    hosts = {name: {"inventory_hostname": name, "ansible_connection": "local"} for name in ("bot1", "bot2")}
    assert filters["clawfactory_machine"](hosts["bot2"]) == "localhost"
    assert filters["clawfactory_leader"](["bot1", "bot2"], hosts, "bot2") == "bot1"


def test_wanted_secrets_are_the_role_s_defaults_where_the_inventory_says_nothing(filters):
    defaults = yaml.safe_load((ROOT / "roles/secrets/defaults/main.yml").read_text())
    wanted = filters["clawfactory_wanted_secrets"](["bot1"], {"bot1": {}})["bot1"]
    assert wanted.pop("used") == []
    assert wanted.pop("remote") == {"url": "", "host_keys": []}
    assert {f"secrets_{name}": value for name, value in wanted.items()} == {
        "secrets_values": defaults.pop("secrets_env"),
        **defaults,
    }


def test_ansible_finds_and_runs_them(tmp_path):
    """Through Ansible itself: its own text types, hostvars, and the message an operator sees."""
    (tmp_path / "hosts.yml").write_text(
        "bots:\n  hosts:\n"
        "    bot1: {ansible_connection: local, bot_providers: [kimi, {name: ollama}], bot_channels: [slack]}\n"
        "    bot2: {ansible_connection: local, bot_providers: ['{{ typo }}'], typo: antropic}\n"
        "    bot3: {ansible_host: Far.example.org}\n"
    )
    (tmp_path / "play.yml").write_text(
        "- hosts: bots\n  gather_facts: false\n  connection: local\n  tasks:\n"
        "    - ansible.builtin.copy:\n"
        f"        dest: '{tmp_path}/{{{{ inventory_hostname }}}}.json'\n"
        "        content: \"{{ {'plan': hostvars[inventory_hostname] | clawfactory_bot_plan(inventory_hostname),"
        " 'leader': ansible_play_hosts_all | clawfactory_leader(hostvars, inventory_hostname),"
        " 'config': hostvars[inventory_hostname] | clawfactory_openclaw_config(inventory_hostname, port=18789,"
        " proxy_address='10.0.0.4', egress_address='10.0.0.2')} | to_json }}\"\n"
    )
    done = run_play(tmp_path)
    result = json.loads((tmp_path / "bot1.json").read_text())
    assert result["plan"]["default_model"] == "moonshot/kimi-k2.7-code"
    assert result["plan"]["host_ports"] == [11434]
    assert result["leader"] == "bot1"
    assert json.loads(result["config"])["channels"]["slack"]["mode"] == "socket"
    assert json.loads((tmp_path / "bot3.json").read_text())["leader"] == "bot3"
    assert "bot 'bot2': bot_providers: 'antropic': not known; known are anthropic" in " ".join(
        done.stdout.split() + done.stderr.split()
    )
    assert not (tmp_path / "bot2.json").exists()


def test_bot_with_unusable_secrets_does_not_keep_the_others_from_being_asked_about(tmp_path):
    hosts = {
        "bot1": {"key": "sk-1", "secrets_env": {"OPENAI_API_KEY": "{{ key }}"}, "bot_providers": ["openai"]},
        "undefined-value": {"secrets_env": {"OPENAI_API_KEY": "{{ nowhere }}"}},
        "undefined": {"secrets_env": "{{ nowhere }}"},
        "undefined-place": {"secrets_snapshot_key": "{{ nowhere }}"},
        "undefined-provider": {"bot_providers": "{{ nowhere }}"},
        "number": {"secrets_env": {"OPENAI_API_KEY": 5}},
        "text": {"secrets_env": "OPENAI_API_KEY"},
        "list": {"secrets_env": ["OPENAI_API_KEY"]},
        "undefined-remote": {"bot_repository": "{{ nowhere }}"},
        "odd-host-keys": {"promotion_remote_host_keys": [5]},
        "odd-remote-key": {"secrets_remote_key": 5},
        "stranger": {"bot_providers": ["antropic"]},
        "last": {"bot_repository": "git@git.example:b", "promotion_remote_host_keys": ["k"], "secrets_remote_key": "p"},
    }
    (tmp_path / "hosts.yml").write_text(json.dumps({"bots": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    asked = (
        "{{ groups.bots | clawfactory_wanted_secrets(hostvars)"
        " | combine({'over_ssh': [groups.bots | clawfactory_any_over_ssh(hostvars),"
        " (groups.bots | difference(['last'])) | clawfactory_any_over_ssh(hostvars)]}) | to_json }}"
    )
    task = {"ansible.builtin.copy": {"dest": f"{tmp_path}/found.json", "content": asked}}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "bot1", "gather_facts": False, "tasks": [task]}]))
    done = run_play(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.pop("over_ssh") == [True, False]
    assert list(found) == ["bot1", "last"]
    assert found["last"]["remote"] == {"url": "git@git.example:b", "host_keys": ["k"]}
    assert found["last"]["remote_key"] == "p" and found["bot1"]["remote_key"] == ""
    assert found["bot1"]["values"] == {"OPENAI_API_KEY": "sk-1"} and found["bot1"]["used"] == ["OPENAI_API_KEY"]
