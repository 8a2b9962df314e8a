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

from .conftest import INVENTORY

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
    """The same bot with its egress open; as it was afterwards."""
    variables = json.dumps({"egress_mode": "open", "egress_dns_servers": [LAN_IPV4]})
    ansible_playbook("site.yml", INVENTORY, "--limit", "e2e", "--extra-vars", variables).succeeded()
    yield bot
    ansible_playbook("site.yml", INVENTORY, "--limit", "e2e").succeeded()


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


@pytest.mark.parametrize(("name", "reachable"), [("rebinding.test", True), ("reviving.test", False)])
def test_name_that_changes_its_address_never_leads_to_the_private_one(
    open_bot: Bot, name: str, reachable: bool
) -> None:
    """Longer than Squid keeps an answer, so that look-ups fall between check and use."""
    seen: list[RawAnswer] = []
    end = time.monotonic() + 25
    while time.monotonic() < end:
        burst = {f"plain {number}": request(f"http://{name}/health") for number in range(20)}
        burst |= {f"tunnel {number}": tunnel(f"{name}:443") for number in range(20)}
        seen += send_from(open_bot, "egress", PORT, burst).values()
    assert not [answer for answer in seen if IS_PRIVATE in answer.text]
    assert {answer.status for answer in seen} <= {200, 403, 503}
    # Both answers have come up, or this would have shown nothing.
    assert any(answer.status == 403 for answer in seen)
    assert any(IS_PUBLIC in answer.text for answer in seen) == reachable
