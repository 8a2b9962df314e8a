from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from clawfactory_core.container import spec_digest
from filter_plugins import clawfactory_deploy as deploy

POOL = "10.213.0.0/16"


@pytest.fixture
def context(tmp_path) -> list[dict[str, str]]:
    image = tmp_path / "image"
    (image / "bin" / "__pycache__").mkdir(parents=True)
    (image / "Dockerfile").write_text("FROM x\n")
    (image / "bin" / "start").write_text("#!/bin/sh\n")
    (image / "bin" / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    (image / "b.pyc").write_text("x")
    (tmp_path / "lock").write_text("lock\n")
    return [{"src": str(image), "dest": "."}, {"src": str(tmp_path / "lock"), "dest": "app/requirements.lock"}]


def image(context, **more: Any) -> dict[str, Any]:
    return {"name": "clawfactory-x", "version": "1.2", "context": context, "args": {"A": "1"}, **more}


def place(bot: str, mates: list[str], machine: dict | None = None, **variables: dict) -> dict[str, Any]:
    hostvars = {name: variables.get(name, {}) for name in mates}
    facts = {"allocations": {}, "listening": {}, "drift": [], "locked": [], "approved": {}, **(machine or {})}
    return dict(deploy.place(deploy.places(mates, facts, hostvars, "/srv/clawfactory", POOL), bot))


def test_context_lists_files_under_their_names(context):
    found = deploy.context_files(context)
    assert [name for name, _ in found] == ["Dockerfile", "app/requirements.lock", "bin/start"]
    assert all(Path(path).is_file() for _, path in found)


def test_absent_context_is_named(tmp_path):
    with pytest.raises(AnsibleFilterError, match=f"{tmp_path}/absent does not exist"):
        deploy.context_files([{"src": f"{tmp_path}/absent", "dest": "."}])


def test_reference_is_stable_and_named(context):
    reference = deploy.image_reference(image(context), "base:1")
    assert reference.startswith("clawfactory-x:1.2-") and len(reference.rpartition("-")[2]) == 12
    assert reference == deploy.image_reference(image(list(reversed(context))), "base:1")
    assert deploy.image_reference(image(context, version="")).startswith("clawfactory-x:")


def test_reference_follows_files_names_arguments_and_parts(context):
    top = Path(context[0]["src"])
    references = [deploy.image_reference(image(context), "base:1"), deploy.image_reference(image(context), "base:2")]
    references.append(deploy.image_reference(image(context, args={"A": "2"}), "base:1"))
    (top / "bin" / "start").rename(top / "bin" / "begin")
    references.append(deploy.image_reference(image(context), "base:1"))
    (top / "bin" / "begin").write_text("#!/bin/bash\n")
    references.append(deploy.image_reference(image(context), "base:1"))
    assert len(set(references)) == len(references)


def test_reference_ignores_what_tools_leave(context):
    before = deploy.image_reference(image(context))
    (Path(context[0]["src"]) / "bin" / "__pycache__" / "b.cpython-311.pyc").write_text("y")
    assert deploy.image_reference(image(context)) == before


def test_places_of_one_run_do_not_meet():
    mates = ["bot1", "bot2", "bot3"]
    places = [place(bot, mates) for bot in mates]
    assert [item["description"]["slot"] for item in places] == [0, 1, 2]
    assert all(item["due"] for item in places)


def test_place_of_a_known_bot_is_unchanged_unless_something_drifted():
    entry = {"slot": 4, "gateway_port": 19269, "controller_port": 8084, "host_ports": []}
    machine = {"allocations": {"bot1": entry}}
    found = place("bot1", ["bot1"], machine)
    assert (found["due"], found["description"]["gateway_uid"]) == (False, 20005)
    assert place("bot1", ["bot1"], {**machine, "drift": ["/srv/clawfactory"]})["due"]


@pytest.mark.parametrize(
    ("path", "due"),
    [("run", True), ("firewall/clawfactory.nft", True), ("run/bot1/operator", True), ("run/bot2/operator", False)],
)
def test_place_of_a_bot_is_not_due_because_another_one_drifted(path, due):
    entries = {
        f"bot{n + 1}": {"slot": n, "gateway_port": 18789 + 120 * n, "controller_port": 8080 + n, "host_ports": []}
        for n in range(2)
    }
    assert place("bot1", ["bot1"], {"allocations": entries, "drift": [f"/srv/clawfactory/{path}"]})["due"] is due


def test_place_agrees_with_what_the_machine_will_allocate():
    taken = {"other": {"slot": 0, "gateway_port": 18789, "controller_port": 8080, "host_ports": []}}
    found = place("bot2", ["bot1", "bot2"], {"allocations": taken}, bot2={"gateway_port": "3000"})
    assert (found["description"]["slot"], found["description"]["gateway_port"]) == (2, 3000)


@pytest.mark.parametrize(
    ("machine", "variables", "said"),
    [
        ({"listening": {"18789": "/usr/bin/nc -l"}}, {}, "gateway_port 18789 is in use by /usr/bin/nc;"),
        ({"locked": {"bot1": {"refusal": "bot1 is locked by alice"}}}, {}, "bot1 is locked by alice"),
        ({"approved": {"bot1": {"commit": "c", "entries": [], "error": "x is a link"}}}, {}, "x is a link"),
        ({}, {"gateway_port": "many"}, "gateway_port is 'many'"),
        ({}, {"controller_port": 0}, "controller_port is 0"),
        ({}, {"controller_port": 18789}, "both 18789"),
        ({"allocations": {"b": {"slot": 3, "gateway_port": 1, "controller_port": 8080}}}, {}, "belongs to bot 'b'"),
    ],
)
def test_unusable_place_is_refused_with_the_reason(machine, variables, said):
    with pytest.raises(AnsibleFilterError) as caught:
        place("bot1", ["bot1"], machine, bot1=variables)
    assert said in str(caught.value) and "bot1" in str(caught.value)


def test_two_bots_of_one_run_with_one_port_are_refused():
    with pytest.raises(AnsibleFilterError, match="bot2: gateway_port 5000 belongs to bot 'bot1'"):
        place("bot2", ["bot1", "bot2"], bot1={"gateway_port": 5000}, bot2={"gateway_port": 5000})


@pytest.mark.parametrize("unusable", [{"gateway_port": 5000}, {"gateway_port": "many"}])
def test_place_of_a_bot_does_not_hang_on_one_that_is_refused(unusable):
    machine = {"allocations": {"bot1": {"slot": 0, "gateway_port": 5000, "controller_port": 8080, "host_ports": []}}}
    found = place("bot3", ["bot2", "bot3"], machine, bot2=unusable)
    assert found["description"]["slot"] == 1
    with pytest.raises(AnsibleFilterError, match="gateway_port"):
        place("bot2", ["bot2", "bot3"], machine, bot2=unusable)


def test_bot_of_another_machine_is_refused():
    with pytest.raises(AnsibleFilterError, match="bot9 is not among"):
        place("bot9", ["bot1"])


def test_bot_keeps_of_the_machine_what_is_its_own_or_nobody_s():
    paths = ["/srv/egress/bot1/squid.conf", "/srv/egress/bot2/squid.conf", "/etc/x/clawfactory-snapshot-bot1.timer"]
    paths += ["/srv/remote_access/config.yml", "/etc/systemd/system/clawfactory-tunnel.service"]
    own = {"bot1": {"of": "bot1"}}
    both = {**own, "bot2": {"of": "bot2"}}
    machine = {
        "allocations": both, "locked": both, "venv": "v", "approved": both, "secrets": both, "snapshots": both,
        "disk": {"bot2": {}}, "rendered": {path: {} for path in paths},
        "docker": {
            "images": {"x:1": ""},
            "containers": {"clawfactory-bot1-gateway": {}, "clawfactory-bot1-sbx-1": {}, "clawfactory-bot2-proxy": {}},
            "networks": {"clawfactory-bot1-inside": {}, "clawfactory-bot2-inside": {}},
        },
    }  # fmt: skip
    found = deploy.machine_of(machine, "bot1")
    assert [*found["rendered"]] == [paths[0], *paths[2:]]
    assert found["docker"] == {
        "images": {"x:1": ""},
        "containers": {"clawfactory-bot1-gateway": {}, "clawfactory-bot1-sbx-1": {}},
        "networks": {"clawfactory-bot1-inside": {}},
    }
    assert [found[name] for name in ("approved", "secrets", "disk", "snapshots")] == [own, own, {}, own]
    assert [found[name] for name in ("allocations", "locked", "venv")] == [both, both, "v"]
    assert len(machine["docker"]["containers"]) == 3


def test_workspace_is_mounted_read_only_entry_by_entry():
    (mount,) = deploy.container.entry_mounts(
        [{"name": "AGENTS.md", "kind": "file"}], "/approved", "/home/node/workspace"
    )
    assert mount == {
        "source": "/approved/workspace/AGENTS.md",
        "target": "/home/node/workspace/AGENTS.md",
        "type": "bind",
        "read_only": True,
    }


@pytest.mark.parametrize("changed", [None, "subnet", "internal", "bridge", "absent"])
def test_networks_that_differ_are_missing(changed):
    bot = place("bot1", ["bot1"])["description"]
    live = {
        item["name"]: {key: item[key] for key in ("subnet", "internal", "bridge")} for item in bot["networks"].values()
    }
    inside = bot["networks"]["inside"]
    if changed == "absent":
        del live[inside["name"]]
    elif changed:
        live[inside["name"]][changed] = "other"
    assert deploy.missing_networks(bot, {"networks": live}) == ([inside] if changed else [])
    sandbox = bot["sandbox_network"]
    assert deploy.missing_networks(bot, {"networks": live}, True) == ([inside, sandbox] if changed else [sandbox])


def test_container_is_judged_by_the_engine_s_facts():
    wanted = {"image": "x:1", "networks": [], "memory_mb": 1, "cpus": 1, "pids": 1}
    live = {"status": "running", "spec": spec_digest(wanted), "image_id": "sha256:a", "networks": {},
            "restart_policy": "unless-stopped", "memory": 2**20, "nano_cpus": 10**9, "pids_limit": 1}  # fmt: skip
    engine = {"containers": {"c": live}, "images": {"x:1": "sha256:a"}}
    assert deploy.is_current(wanted, engine, "c")
    assert not deploy.is_current(wanted, engine, "absent")


def test_container_without_a_network_is_current_only_without_one():
    wanted = {"image": "x:1", "network_mode": "none", "memory_mb": 1, "cpus": 1, "pids": 1}
    live = {"status": "running", "spec": spec_digest(wanted), "image_id": "sha256:a", "networks": {"none": ""},
            "restart_policy": "unless-stopped", "memory": 2**20, "nano_cpus": 10**9, "pids_limit": 1}  # fmt: skip
    engine = {"containers": {"c": live}, "images": {"x:1": "sha256:a"}}
    assert deploy.is_current(wanted, engine, "c")
    assert not deploy.is_current(wanted, {**engine, "containers": {"c": {**live, "networks": {"bridge": ""}}}}, "c")


def test_status_covers_bots_that_did_not_answer():
    known = {"bot": "bot1", "state": "healthy"}
    facts = deploy.status_facts(["bot1", "bot2"], {"bot1": {"bot_status": known}, "bot2": {}})
    assert [(item["bot"], item["state"]) for item in facts] == [("bot1", "healthy"), ("bot2", "unknown")]
    lines = deploy.status_table(["bot1", "bot2"], {"bot1": {"bot_status": known}, "bot2": {}})
    assert len(lines) == 3 and lines[2].split() == ["bot2", "unknown", "unknown"]


def test_filters_are_prefixed_and_callable():
    filters = deploy.FilterModule().filters()
    assert all(name.startswith("clawfactory_") and callable(call) for name, call in filters.items())


def test_services_of_ordinary_urls_are_hosts_and_the_rest_are_told_one_by_one():
    urls = [
        "https://github.com/a/b.git",
        "http://192.168.7.2:8002/bot.git",
        "https://git.example.com:8443/x",
        "http://git.example.com/y",
    ]
    assert deploy.services_of(urls) == {
        "hosts": ["github.com"],
        "endpoints": [
            {"host": "192.168.7.2", "port": 8002, "private": True},
            {"host": "git.example.com", "port": 8443, "private": False},
            {"host": "git.example.com", "port": 80, "private": False},
        ],
    }


def test_service_that_no_egress_may_reach_is_refused():
    with pytest.raises(AnsibleFilterError, match="metadata"):
        deploy.services_of(["http://169.254.169.254/latest"])
