"""From inside bot1's gateway container, nothing of bot2 and nothing of the machine answers.

Every refusal stands beside a proof that the thing is there and answers somebody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.support.polling import wait_for

from .conftest import BOTS, PARTS, Inspect

PORT, CLOSED = 9977, 9
# A listener on all addresses of the machine, IPv4 and IPv6 in one socket.
LISTENER = (
    "import socket\n"
    "s = socket.create_server(('::', 9977), family=socket.AF_INET6, dualstack_ipv6=True)\n"
    "while True:\n"
    "    c, _ = s.accept(); c.sendall(b'machine'); c.close()\n"
)
# With bash alone, as an attacker has it: connect and read what the other side says first.
PROBE = "exec 3<>/dev/tcp/{address}/{port} && head -c 7 <&3"


def from_gateway(machine: Host, script: str, bot: str = "bot1") -> str:
    """What a shell script in a bot's gateway container prints within three seconds."""
    text: str = machine.run("docker exec clawfactory-%s-gateway timeout 3 bash -c %s", bot, script).stdout
    return text


def connect(machine: Host, bot: str, targets: list[tuple[str, int]]) -> list[str]:
    """What comes back to a bot's gateway within three seconds, all tried at once: lines with the address in front."""
    tries = [
        f"(timeout 3 bash -c '{PROBE.format(address=address, port=port)}' 2>&1 | sed 's|^|{address} {port}: |') &"
        for address, port in targets
    ]
    script = "\n".join([*tries, "wait"])
    text: str = machine.run("docker exec clawfactory-%s-gateway timeout 30 bash -c %s", bot, script).stdout
    return text.splitlines()


@pytest.fixture(scope="module")
def listener(machine: Host) -> Iterator[None]:
    """A service of the machine that is open to the world, as somebody's database might be."""
    machine.check_output("systemd-run --unit cf-listener --collect python3 -c %s", LISTENER)
    probe = PROBE.format(address="127.0.0.1", port=PORT)
    wait_for("the listener", lambda: machine.run("timeout 3 bash -c %s", probe).stdout == "machine", 20)
    yield
    machine.check_output("systemctl stop cf-listener")


@pytest.fixture(scope="module")
def machine_addresses(machine: Host) -> list[str]:
    """Every address of every interface of the machine; link-local ones with the zone the gateway would use."""
    found = []
    for link in json.loads(machine.check_output("ip -json address")):
        for entry in link["addr_info"]:
            zone = "%eth0" if entry["scope"] == "link" else ""
            if not entry["local"].startswith("127.") and entry["local"] != "::1":
                found.append(entry["local"] + zone)
    assert any(":" in address for address in found)
    assert any(address.startswith("10.213.") for address in found)
    return found


def test_listener_answers_the_machine_itself_on_every_address(
    machine: Host, listener: None, machine_addresses: list[str]
) -> None:
    for address in machine_addresses:
        if "%" not in address:
            probe = PROBE.format(address=address, port=PORT)
            assert machine.run("timeout 3 bash -c %s", probe).stdout == "machine", address


def test_listener_answers_a_container_that_is_not_ours(machine: Host, listener: None) -> None:
    """Docker alone does not close the machine: the default bridge reaches it."""
    image = machine.check_output("docker inspect --format '{{.Image}}' clawfactory-bot1-gateway")
    gateway = machine.check_output("docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' bridge")
    probe = PROBE.format(address=gateway, port=PORT)
    done = machine.run("docker run --rm --entrypoint timeout %s 3 bash -c %s", image, probe)
    assert done.stdout == "machine", done.stderr


@pytest.mark.parametrize("bot", BOTS)
def test_machine_answers_on_none_of_its_addresses(
    machine: Host, listener: None, machine_addresses: list[str], bot: str
) -> None:
    """Neither where something listens, nor by refusing where nothing does."""
    targets = [(address, port) for address in machine_addresses for port in (PORT, CLOSED)]
    lines = connect(machine, bot, [*targets, ("127.0.0.1", CLOSED)])
    answered = [line for line in lines if "machine" in line or "refused" in line]
    # Its own loopback shows that an answer would be seen.
    assert {line.split(": ")[0] for line in answered} == {f"127.0.0.1 {CLOSED}"}, lines


def test_gateway_has_no_ipv6_address_to_start_from(machine: Host, inspect: Inspect) -> None:
    pid = inspect("bot1", "gateway")["State"]["Pid"]
    listed = json.loads(machine.check_output("nsenter --target %s --net ip -json -6 address", str(pid)))
    addresses = [entry["local"] for link in listed for entry in link["addr_info"]]
    assert [address for address in addresses if address != "::1" and not address.startswith("fe80:")] == []


def test_gateway_has_no_default_route(machine: Host, inspect: Inspect) -> None:
    pid = inspect("bot1", "gateway")["State"]["Pid"]
    assert machine.check_output("nsenter --target %s --net ip route show default", str(pid)) == ""


def other_bots_addresses(inspect: Inspect) -> list[str]:
    networks = [inspect("bot2", part)["NetworkSettings"]["Networks"] for part in PARTS]
    return [entry["IPAddress"] for attached in networks for entry in attached.values() if entry["IPAddress"]]


def test_other_bot_answers_its_own_machine(machine: Host, inspect: Inspect) -> None:
    address = inspect("bot2", "gateway")["NetworkSettings"]["Networks"]["clawfactory-bot2-inside"]["IPAddress"]
    assert machine.run("curl -s -m 5 http://%s:18789/healthz", address).rc == 0


def test_other_bot_answers_on_none_of_its_addresses(machine: Host, inspect: Inspect) -> None:
    for address in other_bots_addresses(inspect):
        for port in (18789, 3128, 8080):
            script = f"curl -s -m 2 --noproxy '*' -o /dev/null -w '%{{http_code}}' http://{address}:{port}/"
            assert from_gateway(machine, script) == "000", f"{address}:{port}"


def test_other_bot_does_not_answer_through_the_egress(machine: Host, inspect: Inspect) -> None:
    for address in [*other_bots_addresses(inspect), "127.0.0.1", "10.213.0.1", "10.213.0.17"]:
        script = f"curl -s -m 3 -x http://egress:3128 -o /dev/null -w '%{{http_code}}' http://{address}:18789/"
        assert from_gateway(machine, script) == "403", address


def test_other_bots_names_do_not_resolve(machine: Host) -> None:
    assert from_gateway(machine, "getent hosts proxy") != ""
    for name in [f"clawfactory-bot2-{part}" for part in PARTS] + ["bot2-gateway"]:
        assert from_gateway(machine, f"getent hosts {name}") == ""


def test_other_bots_files_are_not_there(machine: Host) -> None:
    """By name, and by what a search for bot2's token would find."""
    token = machine.check_output("sed -n s/OPENCLAW_GATEWAY_TOKEN=//p /srv/clawfactory/secrets/bot2/gateway.env")
    assert from_gateway(machine, "ls -d /srv/* 2>/dev/null") == ""
    found = machine.run(
        "docker exec clawfactory-bot1-gateway grep -rsl -e %s /home /etc /run /srv /tmp /var", token
    ).stdout
    assert found == ""
    mine = machine.check_output("sed -n s/OPENCLAW_GATEWAY_TOKEN=//p /srv/clawfactory/secrets/bot1/gateway.env")
    assert (
        "/run/secrets/gateway.env"
        in machine.run("docker exec clawfactory-bot1-gateway grep -rsl -e %s /run", mine).stdout
    )


def test_other_containers_processes_are_not_seen(machine: Host) -> None:
    seen = from_gateway(machine, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "openclaw" in seen
    for foreign in ("squid", "nginx", "uvicorn", "dockerd", "systemd"):
        assert foreign not in seen


def test_only_the_broker_holds_the_engines_socket(machine: Host, inspect: Inspect) -> None:
    """By inode, so that no other name of the socket is missed."""
    inode = machine.check_output("stat --dereference --format %i /var/run/docker.sock")
    for part in PARTS:
        pid = inspect("bot1", part)["State"]["Pid"]
        found = machine.run("nsenter --target %s --mount find / -xdev -inum %s -type s", str(pid), inode).stdout
        mounted = [
            line for line in machine.file(f"/proc/{pid}/mountinfo").content_string.splitlines() if "docker.sock" in line
        ]
        assert bool(mounted) is (part == "broker"), (part, mounted, found)


def test_socket_in_the_gateway_is_the_brokers(machine: Host, inspect: Inspect) -> None:
    assert from_gateway(machine, "readlink -f /var/run/docker.sock").strip() == "/run/broker/docker.sock"
    listed = from_gateway(machine, "docker ps --all --format '{{.Names}}'").split()
    assert all(name.startswith("clawfactory-bot1-sbx-") for name in listed), listed
    attempt = "docker create --privileged --volume /:/host clawfactory-base sh 2>&1 || true"
    assert "refused by the broker" in from_gateway(machine, attempt)
