from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from clawfactory_core import verification
from clawfactory_core.allocation import describe
from clawfactory_core.refusal import Answer
from clawfactory_core.verification import Process
from clawfactory_core.way_out import WayOut
from tests.support.polling import wait_for

BOT = describe(
    Path("/srv/clawfactory"), "bot1", "10.213.0.0/16", {"slot": 0, "gateway_port": 18789, "controller_port": 8080}
)
BOX, NONE = "a" * 64, "0" * 16
PROCESS = Process(7, BOX, frozenset({20001}), frozenset({NONE}), True, frozenset({"lo"}), {"/": True})
CONTAINER = {
    "Name": "/clawfactory-bot1-sbx-main",
    "Config": {"Labels": {"clawfactory.bot": "bot1", "clawfactory.service": "sandbox"}},
    "Mounts": [
        {"Type": "bind", "Source": f"{BOT['paths']['state']}/workspace", "RW": True},
        {"Type": "bind", "Source": f"{BOT['paths']['approved']}/workspace/SOUL.md", "RW": False},
    ],
    "NetworkSettings": {"Networks": {"none": {}}},
}


def failed(checks):
    return [check.name for check in checks if not check.ok]


def judge(process=PROCESS, container=CONTAINER, network=None):
    return verification.judge_sandbox(BOT, [process], {BOX: container}, network)


def test_a_tool_in_its_sandbox_passes():
    assert failed(judge()) == []
    assert len(judge()) == 4


def test_no_process_seen_is_a_failure():
    assert failed(verification.judge_sandbox(BOT, [], {}, None)) == ["a tool of the bot runs in a sandbox"]


@pytest.mark.parametrize(
    "container",
    [
        {**CONTAINER, "Name": "/clawfactory-bot1-gateway"},
        {**CONTAINER, "Config": {"Labels": {"clawfactory.bot": "bot1", "clawfactory.service": "gateway"}}},
        {**CONTAINER, "Config": {"Labels": {"clawfactory.bot": "bot2", "clawfactory.service": "sandbox"}}},
        {**CONTAINER, "Name": "/clawfactory-bot10-sbx-main"},
        {**CONTAINER, "Config": {"Labels": None}},
        {},
    ],
)  # fmt: skip
def test_a_tool_elsewhere_fails(container):
    assert failed(judge(container=container)) == ["a tool of the bot runs in a sandbox"]


def test_one_process_outside_is_enough():
    processes = [PROCESS, replace(PROCESS, container="")]
    assert failed(verification.judge_sandbox(BOT, processes, {BOX: CONTAINER}, None)) == [
        "a tool of the bot runs in a sandbox"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"uids": frozenset({0})},
        {"uids": frozenset({20001, 0})},
        {"capabilities": frozenset({NONE, "00000000a80425fb"})},
        {"no_new_privileges": False},
        {"read_only": {"/": False}},
    ],
)
def test_powers_fail(change):
    assert failed(judge(replace(PROCESS, **change))) == ["the sandbox has no powers"]


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/etc", "RW": False},
        {"Type": "bind", "Source": f"{BOT['paths']['approved']}/workspace/SOUL.md", "RW": True},
        {"Type": "bind", "Source": f"{BOT['paths']['bot']}/state2/x", "RW": False},
        {"Type": "volume", "Source": f"{BOT['paths']['state']}/x", "RW": False},
    ],
)
def test_other_mounts_fail(mount):
    container = {**CONTAINER, "Mounts": [*CONTAINER["Mounts"], mount]}
    assert failed(judge(container=container)) == ["the sandbox sees nothing else of the machine"]


def test_another_network_fails():
    name = ["the sandbox has no other network"]
    assert failed(judge(replace(PROCESS, interfaces=frozenset({"lo", "eth0"})))) == name
    on = {**CONTAINER, "NetworkSettings": {"Networks": {"clawfactory-bot1-sandbox": {}}}}
    assert failed(judge(container=on)) == name
    assert failed(judge(container=on, network="clawfactory-bot1-sandbox")) == []
    assert failed(judge(network="clawfactory-bot1-sandbox")) == name


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("approved=/workspace\ntried=network", []),
        ("approved=/workspace\nbroken=rename\ntried=network", ["a sandbox cannot change approved files"]),
        ("approved=/workspace\nreached=1.1.1.1:443\ntried=network", ["a sandbox reaches nobody"]),
        ("", ["a sandbox cannot change approved files", "a sandbox reaches nobody"]),
    ],
)
def test_what_the_probe_says(said, names):
    assert failed(verification.judge_answer(said, "SOUL.md")) == names


def test_command_says_what_it_can_do(tmp_path):
    """Run where nothing is forbidden: every attempt succeeds, is told, and leaves the file as it was."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "a b.md").write_text("approved")
    command = verification.probe_command("0.01", "a b.md", [("127.0.0.1", 1)]).replace("/workspace", str(workspace))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    assert f"approved={workspace}" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("broken=")] == [
        "broken=write",
        "broken=chmod",
        "broken=rename",
    ]
    assert "reached" not in done.stdout and "tried=network" in done.stdout
    assert (workspace / "a b.md").read_text() == "approved"
    assert [path.name for path in workspace.iterdir()] == ["a b.md"]


def test_processes_are_found_by_their_exact_command():
    mark = f"5.{os.getpid():012d}"
    with subprocess.Popen(["sleep", mark]) as sleeper:
        try:
            # The kernel lets go of who started it a moment before the new command can be read.
            (found,) = wait_for("sleep", lambda: verification.find_processes(Path("/proc"), ["sleep", mark]), 10)
            assert (found.pid, found.uids) == (sleeper.pid, {os.getuid()})
            assert "lo" in found.interfaces and "/" in found.read_only
        finally:
            sleeper.kill()
    assert verification.find_processes(Path("/proc"), ["sleep", mark]) == []


def gateway(**host):
    powers = {"ReadonlyRootfs": True, "Privileged": False, "CapDrop": ["ALL"], "CapAdd": None, **host}
    return {"HostConfig": powers, "NetworkSettings": {"Networks": {"clawfactory-bot1-inside": {}}}}


def test_the_gateway_is_judged_by_the_kernel():
    mounted = replace(PROCESS, read_only={"/": True, "/home/node/.openclaw/workspace/SOUL.md": True})
    assert failed(verification.judge_gateway(BOT, mounted, gateway(), ["SOUL.md"])) == []
    assert failed(verification.judge_gateway(BOT, mounted, gateway(Privileged=True), ["SOUL.md"])) == [
        "the gateway has no powers"
    ]
    assert failed(verification.judge_gateway(BOT, mounted, gateway(), ["SOUL.md", "new"])) == [
        "approved files are read-only in the gateway"
    ]
    two = gateway()
    two["NetworkSettings"]["Networks"]["bridge"] = {}
    assert failed(verification.judge_gateway(BOT, mounted, two, [])) == [
        "the gateway has one network, without a way out"
    ]


def part(service, source="", **host):
    closed = {"NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"], "Privileged": False, **host}
    return {
        "Name": f"/clawfactory-bot1-{service}", "HostConfig": closed, "State": {"Running": True},
        "Config": {"Labels": {"clawfactory.bot": "bot1", "clawfactory.service": service}},
        "Mounts": [{"Type": "bind", "Source": source}] if source else [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("containers", "names"),
    [
        ([part("broker", "/var/run/docker.sock"), part("gateway", "/srv/clawfactory/run/bot1/broker-gateway")], []),
        (
            [part("broker", "/var/run/docker.sock"), part("gateway", "/run")],
            ["the engine's socket is in the broker alone"],
        ),
        (
            [part("broker", "/var/run/docker.sock"), part("proxy", "/run/docker.sock")],
            ["the engine's socket is in the broker alone"],
        ),
        ([part("gateway")], ["the engine's socket is in the broker alone"]),
        ([part("broker", "/var/run/docker.sock", NetworkMode="bridge")], ["the broker has no network and no powers"]),
    ],
)
def test_who_holds_the_engines_socket(containers, names):
    assert failed(verification.judge_engine("bot1", containers)) == names


def test_egress_mode_and_refusal():
    denied, allowed = (
        {"kind": "denied", "ok": True, "url": "http://d"},
        {"kind": "allowed", "ok": False, "url": "http://a"},
    )
    closed = WayOut((), {"192.0.2.1:443": 403})
    past, way_out = "the gateway reaches nobody past its proxy", "the gateway's way out is closed"
    assert failed(verification.judge_egress(closed, [denied, allowed])) == []
    assert failed(verification.judge_egress(closed, [{**denied, "ok": False}])) == [way_out]
    assert failed(verification.judge_egress(closed, [allowed])) == [way_out]
    assert failed(verification.judge_egress(WayOut(("1.1.1.1:443",), closed.answers), [denied])) == [past]
    for answers in ({}, {"192.0.2.1:443": 200}, {"192.0.2.1:443": 0}, {"192.0.2.1:443": 503}):
        assert failed(verification.judge_egress(WayOut((), answers), [denied])) == [way_out]
    assert [verification.judge_mode(mode).ok for mode in ("all", "non-main", "off")] == [True, False, False]


def test_only_the_broker_s_word_on_privileges_counts_as_a_refusal_of_them():
    refusal = '{"message": "refused by the broker: HostConfig.Privileged has a value that is not allowed"}'
    assert verification.judge_refusal(Answer(403, refusal)).ok
    assert not verification.judge_refusal(Answer(201, refusal)).ok
    other = '{"message": "refused by the broker: the socket is not for this user"}'
    found = verification.judge_refusal(Answer(403, other))
    assert not found.ok and "not for this user" in found.detail
    assert verification.judge_refusal(Answer(0, "")).detail == "no answer"


def test_table_is_aligned_and_says_what_failed():
    lines = verification.table([verification.Check("a", True, "x"), verification.Check("longer", False, "y")])
    assert lines == ["check   result  detail", "a       ok      x", "longer  FAILED  y"]
