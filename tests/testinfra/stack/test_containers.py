"""Every container is confined exactly as designed: capabilities, mounts, networks, limits, labels."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from .conftest import BOTS, PARTS, Inspect, of_processes

STATE, WORKSPACE = "/home/node/.openclaw", "/home/node/.openclaw/workspace"
UIDS = {
    ("bot1", "gateway"): 20001, ("bot1", "controller"): 30001, ("bot1", "proxy"): 40001, ("bot1", "egress"): 50001,
    ("bot2", "gateway"): 20002, ("bot2", "controller"): 30002, ("bot2", "proxy"): 40002, ("bot2", "egress"): 50002,
    ("bot1", "broker"): 55001, ("bot2", "broker"): 55002,
}  # fmt: skip
# Network and address of every container; bot1 has the first /24 of the pool, bot2 the second.
ADDRESSES = {
    "gateway": {"inside": 3},
    "proxy": {"inside": 4, "edge": 20},
    "controller": {"inside": 5, "control": 37},
    "egress": {"inside": 2, "control": 34, "edge": 18},
}
each_container = pytest.mark.parametrize(("bot", "part"), UIDS)


def mounts(bot: str, part: str, entries: list[str]) -> set[tuple[str, str, bool]]:
    """Exactly what is mounted from the machine: source, place in the container, writable."""
    root, repos = "/srv/clawfactory", f"/srv/clawfactory/bot_repos/{bot}"
    if part == "gateway":
        approved = {(f"{repos}/approved/workspace/{name}", f"{WORKSPACE}/{name}", False) for name in entries}
        return approved | {
            (f"{repos}/state", STATE, True),
            (f"{repos}/state/workspace", WORKSPACE, True),
            (f"{repos}/config", "/etc/openclaw", False),
            (f"{root}/secrets/{bot}/run/gateway.env", "/run/secrets/gateway.env", False),
            (f"{root}/run/{bot}/broker-gateway", "/run/broker", False),
        }
    if part == "broker":
        return {
            ("/var/run/docker.sock", "/run/engine/docker.sock", False),
            (f"{root}/locks", "/run/locks", False),
            (f"{root}/broker/{bot}", "/etc/clawfactory", False),
            (f"{root}/run/{bot}/broker-gateway", "/run/broker/gateway", True),
            (f"{root}/run/{bot}/broker-controller", "/run/broker/controller", True),
            (f"{root}/audit/{bot}", "/audit", True),
        }
    if part == "controller":
        return {
            (f"{root}/run/{bot}/operator", "/run/operator", True),
            (f"{repos}/approved", "/srv/approved", False),
            (f"{repos}/origin.git", "/srv/repositories/origin.git", False),
            (f"{repos}/proposals.git", "/srv/repositories/proposals.git", True),
            (f"{root}/promotion/{bot}", "/srv/promotion", False),
            (f"{root}/snapshots/{bot}", "/srv/snapshots", False),
            (f"{root}/run/{bot}/jobs", "/run/jobs", False),
            (f"{root}/run/{bot}/broker-controller", "/run/broker", False),
            (f"{root}/secrets/{bot}/run/controller.env", "/run/secrets/controller.env", False),
            (f"{root}/secrets/{bot}/run/fingerprints.json", "/run/secrets/fingerprints.json", False),
            (f"{root}/secrets/{bot}/run/device", "/run/device", False),
        }
    if part == "proxy":
        return {
            (f"{root}/proxy/{bot}", "/etc/clawfactory", False),
            (f"{root}/run/{bot}/operator", "/run/operator", False),
        }
    return {(f"{root}/egress/{bot}", "/etc/clawfactory", False)}


def test_no_other_container_runs(machine: Host) -> None:
    names = set(machine.check_output("docker ps --all --format '{{.Names}}'").split())
    assert names == {f"clawfactory-{bot}-{part}" for bot in BOTS for part in PARTS}


@each_container
def test_container_has_no_powers(inspect: Inspect, bot: str, part: str) -> None:
    host = inspect(bot, part)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert not host["Devices"]
    assert [host[f"{kind}Mode"] for kind in ("Pid", "UTS", "Userns")] == ["", "", ""]
    assert host["IpcMode"] == "private"


@each_container
def test_process_holds_no_capability(machine: Host, inspect: Inspect, bot: str, part: str) -> None:
    """As the kernel sees it, for every process of the container and not only for what was asked of Docker."""
    statuses = of_processes(machine, bot, part, "cat /proc/$pid/status; echo").split("\n\n")
    assert inspect(bot, part)["State"]["Pid"] in [int(status.split("\nPid:\t")[1].split()[0]) for status in statuses]
    for status in statuses:
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        pid = fields["Pid"]
        sets = {name: fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert set(sets.values()) == {"0" * 16}, (pid, sets)
        assert fields["NoNewPrivs"] == "1"
        assert set(fields["Uid"].split()) == {str(UIDS[bot, part])}
        assert set(fields["Gid"].split()) == {str(UIDS[bot, part])}
        socket = machine.check_output("stat --format %g /var/run/docker.sock") if part == "broker" else ""
        assert set(fields["Groups"].split()) - {str(UIDS[bot, part])} == set(socket.split())


@each_container
def test_limits_and_logs_are_bounded(inspect: Inspect, bot: str, part: str) -> None:
    host = inspect(bot, part)["HostConfig"]
    assert 0 < host["PidsLimit"] <= 4096
    assert 0 < host["Memory"] <= 4 * 2**30
    assert host["MemorySwap"] == host["Memory"]
    assert host["NanoCpus"] > 0
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["Init"] is True


@each_container
def test_mounts_are_exactly_these(machine: Host, inspect: Inspect, bot: str, part: str) -> None:
    entries = machine.check_output("ls -A /srv/clawfactory/bot_repos/%s/approved/workspace", bot).split()
    assert {"SOUL.md", "TOOLS.md", "skills"} <= set(entries)
    found = {(mount["Source"], mount["Destination"], mount["RW"]) for mount in inspect(bot, part)["Mounts"]}
    assert found == mounts(bot, part, entries)


@each_container
def test_networks_and_addresses_are_exactly_these(inspect: Inspect, bot: str, part: str) -> None:
    block = BOTS.index(bot)
    networks = inspect(bot, part)["NetworkSettings"]["Networks"]
    if part == "broker":
        assert set(networks) == {"none"}
        return
    assert {name: (entry["IPAddress"], entry["GlobalIPv6Address"]) for name, entry in networks.items()} == {
        f"clawfactory-{bot}-{kind}": (f"10.213.{block}.{last}", "") for kind, last in ADDRESSES[part].items()
    }


@each_container
def test_labels_user_and_name_tell_whose_it_is(inspect: Inspect, bot: str, part: str) -> None:
    config = inspect(bot, part)["Config"]
    ours = {key: value for key, value in config["Labels"].items() if key in ("clawfactory.bot", "clawfactory.service")}
    assert ours == {"clawfactory.bot": bot, "clawfactory.service": part}
    assert config["User"] == f"{UIDS[bot, part]}:{UIDS[bot, part]}"
    # A random host name would make a restarted gateway wait five minutes for its own lease.
    assert config["Hostname"] == f"{bot}-{part}"


@each_container
def test_published_ports_are_exactly_the_proxys(inspect: Inspect, bot: str, part: str) -> None:
    published = inspect(bot, part)["HostConfig"]["PortBindings"] or {}
    found = {(port, to["HostIp"], to["HostPort"]) for port, bindings in published.items() for to in bindings}
    gateway, controller = {"bot1": ("18789", "8080"), "bot2": ("18909", "8081")}[bot]
    expected = {("18789/tcp", "127.0.0.1", gateway), ("8080/tcp", "127.0.0.1", controller)}
    assert found == (expected if part == "proxy" else set())
