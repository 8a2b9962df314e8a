"""What role broker makes of its variables: the settings that the broker itself accepts, the container, the refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

from broker_app.settings import load_settings
from clawfactory_core.allocation import describe

ROLE = Path(__file__).resolve().parents[3] / "roles" / "broker"
ID = "sha256:" + "a" * 64
BOT = describe(
    Path("/srv/clawfactory"), "bot1", "10.213.0.0/16", {"slot": 0, "gateway_port": 18789, "controller_port": 8080}
)
FACTS = {
    "host_bot": BOT,
    "inventory_hostname": "bot1",
    "clawfactory_source_dir": str(ROLE.parents[1]),
    "gateway_image": {"name": "clawfactory-gateway"},
    "host_images_wanted": {
        "clawfactory-sandbox": {"reference": "clawfactory-sandbox:1"},
        "clawfactory-broker": {"reference": "clawfactory-broker:1"},
    },
    "host_machine": {
        "docker": {"images": {"clawfactory-sandbox:1": ID, "tools:2": ID, "new:1": ""}, "socket_group": 105}
    },
}


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    init_plugin_loader()


def value(expression: str, **variables: Any) -> Any:
    loader = DataLoader()
    loaded: dict[str, Any] = {}
    for kind in ("defaults", "vars"):
        loaded |= loader.load_from_file(str(ROLE / kind / "main.yml"), cache="none", trusted_as_template=True)
    templar = Templar(loader, variables=loaded | FACTS | variables)
    return templar.template(trust_as_template(f"{{{{ {expression} }}}}"))


def settings(tmp_path: Path, **variables: Any):
    file = tmp_path / "broker.json"
    file.write_text(value("__broker_config", **variables))
    return load_settings(file)


def test_the_broker_takes_its_settings(tmp_path):
    found = settings(tmp_path)
    assert (found.bot, found.clients.gateway.uid, found.clients.controller.uid) == ("bot1", 20001, 30001)
    assert found.sandbox.images == {"clawfactory-sandbox:1": ID}
    assert (found.sandbox.memory_bytes, found.sandbox.nano_cpus, found.sandbox.network) == (2**30, 10**9, None)
    assert found.gateway_probe[:2] == ["/opt/node/bin/node", "-e"]
    # Without a blank or a newline more: the broker compares word for word.
    assert found.gateway_probe[2] == (
        'const fs=require("node:fs");process.stdout.write(JSON.stringify([fs.readFileSync('
        '"/proc/sys/kernel/random/boot_id","utf8").trim(),fs.readlinkSync("/proc/self/ns/mnt")]));'
    )


def test_settings_follow_the_variables(tmp_path):
    found = settings(
        tmp_path, broker_sandbox_network="egress", broker_sandbox_images=["tools:2"], broker_sandbox_cpus="0.5",
        gateway_image={"dockerfile": "Dockerfile.pull"},
    )  # fmt: skip
    assert found.sandbox.network is not None
    assert (found.sandbox.network.name, found.sandbox.network.proxy) == (
        "clawfactory-bot1-sandbox",
        "http://10.213.0.66:3128",
    )
    assert (set(found.sandbox.images), found.sandbox.nano_cpus) == ({"clawfactory-sandbox:1", "tools:2"}, 5 * 10**8)
    assert found.gateway_probe[0] == "/usr/local/bin/node"


def test_ids_of_images_built_in_this_run_are_read(tmp_path):
    assert value("__broker_images_unread", broker_sandbox_images=["new:1"]) == ["new:1"]
    read = {"results": [{"item": "new:1", "images": [{"Id": "sha256:" + "b" * 64}]}]}
    found = settings(tmp_path, broker_sandbox_images=["new:1"], __broker_images_read=read)
    assert found.sandbox.images["new:1"] == "sha256:" + "b" * 64


def test_check_mode_tells_settings_with_an_image_that_is_not_there(tmp_path):
    wanted = {"clawfactory-sandbox": {"reference": "clawfactory-sandbox:2"}}
    with pytest.raises(AnsibleError, match="clawfactory-sandbox:2"):
        settings(tmp_path, host_images_wanted=wanted)
    found = settings(tmp_path, host_images_wanted=wanted, ansible_check_mode=True)
    assert found.sandbox.images == {"clawfactory-sandbox:2": "sha256:" + "0" * 64}


def test_container_has_the_engines_group_and_no_network():
    container = value("__broker_container")
    assert (container["groups"], container["network_mode"], "networks" in container) == (["105"], "none", False)
    sources = {mount["target"]: (mount["source"], mount["read_only"]) for mount in container["mounts"]}
    assert sources["/run/engine/docker.sock"] == ("/var/run/docker.sock", True)
    assert sources["/etc/clawfactory"] == ("/srv/clawfactory/broker/bot1", True)
    assert sources["/run/locks"] == ("/srv/clawfactory/locks", True)
    assert json.dumps(container)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"broker_sandbox_images": ["absent:1"]}, "broker_sandbox_images: the machine has no image 'absent:1'"),
        ({"broker_sandbox_images": ["tools"]}, "'tools' is not an image"),
        ({"broker_sandbox_images": ["Tools:1"]}, "'Tools:1' is not an image"),
        ({"broker_sandbox_packages": ["vim; rm -rf /"]}, "is not the name of a Debian package"),
        ({"broker_sandbox_packages": ["-y"]}, "is not the name of a Debian package"),
        ({"broker_sandbox_count": 0}, "broker_sandbox_count is 0"),
        ({"broker_sandbox_memory_mb": 8}, "broker_sandbox_memory_mb is 8"),
        ({"broker_sandbox_pids": 1}, "broker_sandbox_pids is 1"),
        ({"broker_stream_hours": 0}, "broker_stream_hours is 0"),
    ],
)
def test_what_the_broker_could_not_work_with_is_refused(variables, expected):
    (problem,) = value("__broker_problems", **variables)
    assert expected in problem


def test_good_variables_are_not_refused():
    assert value("__broker_problems") == []
    good = {
        "broker_sandbox_packages": ["g++", "libc6-dev"],
        "broker_sandbox_images": ["tools:2"],
    }
    assert value("__broker_problems", **good) == []
