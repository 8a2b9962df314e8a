"""Names that lead where nobody wants: the egress in mode ``open``, with a name server of the attacker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.bots import Bot
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.playbooks import REPOSITORY, ansible_playbook
from tests.support.polling import wait_for
from tests.support.raw_http import RawAnswer, request, send_from, tunnel

from .conftest import INVENTORY, MODEL_PORT

PORT = 3128
# A public address that is nobody's computer (RFC 7535, AS112): here it is the neighbour's.
PUBLIC = "192.31.196.1"
ANY = "0.0.0.0"  # noqa: S104 - a destination, not something to listen on
IS_PUBLIC, IS_PRIVATE = "this is public", "this is private"
NAMES = {
    "public.test": [[PUBLIC]],
    "private.test": [[LAN_IPV4]],
    "mixed.test": [[PUBLIC, LAN_IPV4]],
    "loopback.test": [["127.0.0.1"]],
    "any.test": [[ANY]],
    "metadata.test": [["169.254.169.254"]],
    "machine.test": [["10.213.0.1"]],
    "rebinding.test": [[PUBLIC], [LAN_IPV4]],
    "reviving.test": [[], [LAN_IPV4]],
}
REFUSED = (
    "private.test",
    "mixed.test",
    "loopback.test",
    "any.test",
    "metadata.test",
    "machine.test",
    "host.docker.internal",
)
OPEN = json.dumps(
    {
        "egress_mode": "open",
        "egress_dns_servers": [LAN_IPV4],
        "broker_sandbox_network": "egress",
        "egress_sandbox_allow": ["public.test"],
    }
)
SANDBOX_NETWORK = "clawfactory-e2e-sandbox"
LITERALS = (LAN_IPV4, "3325256706", f"[::ffff:{LAN_IPV4}]", "127.0.0.1", ANY, "10.213.0.17", "169.254.169.254")


@pytest.fixture(scope="module")
def queries(lan: LanHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The attacker's name server, which lists what it is asked, and web servers on both addresses."""
    folder = tmp_path_factory.mktemp("resolution")
    log = folder / "queries"
    log.touch()
    subprocess.run(["ip", "-n", lan.name, "address", "add", f"{PUBLIC}/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "route", "replace", f"{PUBLIC}/32", "via", LAN_IPV4], check=True)
    lan.start([sys.executable, str(REPOSITORY / "tests/support/dns_server.py"), LAN_IPV4, json.dumps(NAMES), str(log)])
    for address, text in ((PUBLIC, IS_PUBLIC), (LAN_IPV4, IS_PRIVATE)):
        (folder / address).mkdir()
        (folder / address / "health").write_text(text)
        for port in ("80", "443"):
            server = ["-m", "http.server", "--bind", address, "--directory", str(folder / address), port]
            lan.start([sys.executable, *server])
            wait_for(f"{address}:{port}", partial(_answers, lan, f"http://{address}:{port}/health"), 20)
    yield log
    subprocess.run(["ip", "route", "delete", f"{PUBLIC}/32"], check=True)
    subprocess.run(["ip", "-n", lan.name, "address", "delete", f"{PUBLIC}/32", "dev", "lo"], check=True)


def _answers(lan: LanHost, url: str) -> bool:
    return lan.run(["curl", "-sf", url]).returncode == 0


@pytest.fixture(scope="module")
def open_bot(bot: Bot, queries: Path) -> Iterator[Bot]:
    """The same bot with its egress open, and sandboxes that may reach one address; as it was afterwards."""
    ansible_playbook("site.yml", INVENTORY, "--limit", "e2e", "--extra-vars", OPEN).succeeded()
    yield bot
    ansible_playbook("site.yml", INVENTORY, "--limit", "e2e").succeeded()
    assert not _engine("network", "ls", "--quiet", "--filter", f"name=^{SANDBOX_NETWORK}$")


def _engine(*arguments: str) -> str:
    """What the engine answers."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_name_that_nobody_allowed_is_not_even_looked_up(bot: Bot, queries: Path) -> None:
    """Before the egress is opened. A query would carry out what the attacker writes into the name."""
    name = "stolen-data.private.test"
    assert send_from(bot, "egress", PORT, {"": request(f"http://{name}/")})[""].status == 403
    assert name not in queries.read_text()


@pytest.mark.parametrize("place", ["public.test", PUBLIC])
def test_public_address_answers(open_bot: Bot, place: str) -> None:
    ways = {"plain": request(f"http://{place}/health"), "tunnel": tunnel(f"{place}:443")}
    for answer in send_from(open_bot, "egress", PORT, ways).values():
        assert answer.status == 200
        assert IS_PUBLIC in answer.text


@pytest.mark.parametrize("place", [*REFUSED, *LITERALS])
def test_private_address_does_not(open_bot: Bot, place: str) -> None:
    attacks = {"plain": request(f"http://{place}/health"), "tunnel": tunnel(f"{place}:443")}
    answers = send_from(open_bot, "egress", PORT, attacks)
    assert {name: answer.status for name, answer in answers.items()} == {"plain": 403, "tunnel": 403}


@pytest.mark.parametrize("port", [22, 25, 8000, 8080])
def test_public_address_answers_on_web_ports_alone(open_bot: Bot, port: int) -> None:
    attacks = {"plain": request(f"http://{PUBLIC}:{port}/health"), "tunnel": tunnel(f"{PUBLIC}:{port}")}
    answers = send_from(open_bot, "egress", PORT, attacks)
    assert {answer.status for answer in answers.values()} == {403}


CHANGING = {"rebinding.test": True, "reviving.test": False}


@pytest.fixture(scope="module")
def changing(open_bot: Bot) -> dict[str, list[RawAnswer]]:
    """Answers for the names that change their address, for longer than Squid keeps an answer."""
    seen: dict[str, list[RawAnswer]] = {name: [] for name in CHANGING}
    end = time.monotonic() + 25
    while time.monotonic() < end:
        for name, answers in seen.items():
            burst = {f"plain {number}": request(f"http://{name}/health") for number in range(20)}
            burst |= {f"tunnel {number}": tunnel(f"{name}:443") for number in range(20)}
            answers += send_from(open_bot, "egress", PORT, burst).values()
    return seen


@pytest.mark.parametrize(("name", "reachable"), CHANGING.items())
def test_name_that_changes_its_address_never_leads_to_the_private_one(
    changing: dict[str, list[RawAnswer]], name: str, reachable: bool
) -> None:
    """Look-ups fall between check and use, too."""
    seen = changing[name]
    assert not [answer for answer in seen if IS_PRIVATE in answer.text]
    assert {answer.status for answer in seen} <= {200, 403, 503}
    # Both answers have come up, or this would have shown nothing.
    assert any(answer.status == 403 for answer in seen)
    assert any(IS_PUBLIC in answer.text for answer in seen) == reachable


class TestSandboxes:
    """What a tool of the bot reaches from its sandbox: the one name of its own list, by egress, and nothing else."""

    def test_name_on_its_list_answers(self, open_bot: Bot) -> None:
        assert IS_PUBLIC in open_bot.chat("RUN: curl -s http://public.test/health")

    def test_open_egress_of_the_gateway_is_not_its_own(self, open_bot: Bot) -> None:
        names = f"http://{PUBLIC}/health http://rebinding.test/health http://{LAN_IPV4}:8000/health http://host.docker.internal/"
        said = open_bot.chat(f"RUN: for url in {names}; do curl -so /dev/null -w '%{{http_code}} ' $url; done")
        assert said.split() == ["403"] * 4

    def test_nothing_answers_without_egress(self, open_bot: Bot) -> None:
        """Every address of the bot's parts and of the machine, with the ports that something listens on."""
        addresses = {
            address
            for part in ("gateway", "controller", "proxy", "egress")
            for network in open_bot.inspect(part)["NetworkSettings"]["Networks"].values()
            for address in (network["IPAddress"], network["Gateway"])
            if address
        }
        sandbox = json.loads(_engine("network", "inspect", SANDBOX_NETWORK))[0]
        (egress,) = [
            item["IPv4Address"].split("/")[0] for item in sandbox["Containers"].values() if "egress" in item["Name"]
        ]
        addresses |= {sandbox["IPAM"]["Config"][0]["Gateway"], LAN_IPV4, PUBLIC, "169.254.169.254"}
        ports = (22, 53, 80, 443, 2375, 8000, 8080, 18789, PORT)
        tried = "\\n".join(f"{address}/{port}" for address in sorted(addresses) for port in ports)
        attempt = "timeout 1 bash -c ': < /dev/tcp/{}' 2> /dev/null && echo open {} || :"
        said = open_bot.chat(f'RUN: printf "{tried}" | xargs -P 40 -I "{{}}" sh -c "{attempt}"')
        assert said.split() == ["open", f"{egress}/{PORT}"]

    def test_network_holds_sandboxes_and_egress_alone(self, open_bot: Bot) -> None:
        open_bot.chat("RUN: true")
        (network,) = json.loads(_engine("network", "inspect", SANDBOX_NETWORK))
        services = [
            _engine("inspect", "--format", '{{index .Config.Labels "clawfactory.service"}}', container)
            for container in network["Containers"]
        ]
        assert network["Internal"]
        assert set(services) == {"egress", "sandbox"}

    def test_verification_knows_that_network(self, open_bot: Bot) -> None:
        ansible_playbook("playbooks/verify.yml", INVENTORY, "--limit", "e2e", "--extra-vars", OPEN).succeeded()


@pytest.fixture(scope="class")
def closed_bot(open_bot: Bot) -> Bot:
    """The same bot with its egress in mode ``none``."""
    mode = json.dumps({"egress_mode": "none", "egress_allow_extra": ["public.test"]})
    ansible_playbook("site.yml", INVENTORY, "--limit", "e2e", "--extra-vars", mode).succeeded()
    return open_bot


class TestNone:
    """At the end: the same bot with its egress in mode ``none``."""

    @pytest.mark.parametrize(
        "place", [f"{LAN_IPV4}:{MODEL_PORT}", "public.test:443", f"{PUBLIC}:80", "host.docker.internal:80"]
    )
    def test_nothing_answers_not_even_the_model(self, closed_bot: Bot, place: str) -> None:
        ways = {"plain": request(f"http://{place}/health"), "tunnel": tunnel(place)}
        answers = send_from(closed_bot, "egress", PORT, ways)
        assert {name: answer.status for name, answer in answers.items()} == {"plain": 403, "tunnel": 403}
