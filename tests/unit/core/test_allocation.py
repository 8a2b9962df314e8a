from __future__ import annotations

import ipaddress
import json
import multiprocessing
import os
from itertools import pairwise
from pathlib import Path

import pytest

from clawfactory_core import allocation
from clawfactory_core.allocation import (
    AllocationRequest,
    allocation_lock,
    describe,
    plan_allocation,
    read_allocations,
    record_allocation,
    release_allocation,
)
from clawfactory_core.errors import Conflict, CoreError, InvalidInput

POOL = "10.213.0.0/16"


def ask(root: Path, bot: str, **more) -> AllocationRequest:
    return AllocationRequest(root=root, bot=bot, pool=more.pop("pool", POOL), **more)


def slots(root: Path) -> dict[str, int]:
    return {bot: entry["slot"] for bot, entry in read_allocations(root).items()}


def test_slots_are_given_in_order_and_kept(tmp_path):
    plans = [record_allocation(ask(tmp_path, bot)) for bot in ("bot1", "bot2", "bot3")]
    assert [plan.entry["slot"] for plan in plans] == [0, 1, 2]
    assert [plan.entry["gateway_port"] for plan in plans] == [18789, 18909, 19029]
    assert [plan.entry["controller_port"] for plan in plans] == [8080, 8081, 8082]
    again = record_allocation(ask(tmp_path, "bot2"))
    assert not again.changed and again.entry == plans[1].entry


def test_slot_stays_when_another_bot_leaves_and_the_free_one_is_given_again(tmp_path):
    for bot in ("bot1", "bot2", "bot3"):
        record_allocation(ask(tmp_path, bot))
    before = read_allocations(tmp_path)
    assert release_allocation(tmp_path, "bot1")
    assert read_allocations(tmp_path) == {bot: before[bot] for bot in ("bot2", "bot3")}
    record_allocation(ask(tmp_path, "bot4"))
    assert slots(tmp_path) == {"bot2": 1, "bot3": 2, "bot4": 0}


def test_release_of_an_unknown_bot_writes_nothing(tmp_path):
    assert not release_allocation(tmp_path, "bot1")
    assert list(tmp_path.iterdir()) == []


def test_plan_writes_nothing(tmp_path):
    assert plan_allocation(ask(tmp_path, "bot1")).changed
    assert list(tmp_path.iterdir()) == []


def test_unchanged_allocation_is_not_written_again(tmp_path):
    record_allocation(ask(tmp_path, "bot1"))
    before = (tmp_path / "allocations.json").stat()
    record_allocation(ask(tmp_path, "bot1"))
    assert (tmp_path / "allocations.json").stat().st_ino == before.st_ino


def test_ports_of_the_inventory_win_and_fall_back(tmp_path):
    fixed = record_allocation(ask(tmp_path, "bot1", gateway_port=2000, controller_port=2001))
    assert (fixed.entry["gateway_port"], fixed.entry["controller_port"]) == (2000, 2001)
    back = record_allocation(ask(tmp_path, "bot1"))
    assert back.changed and back.before == fixed.entry
    assert back.entry == {"slot": 0, "gateway_port": 18789, "controller_port": 8080, "host_ports": []}


@pytest.mark.parametrize("variable", ["gateway_port", "controller_port"])
@pytest.mark.parametrize("taken", [18789, 8080])
def test_port_of_another_bot_is_refused_with_the_way_out(tmp_path, variable, taken):
    record_allocation(ask(tmp_path, "bot1"))
    with pytest.raises(Conflict) as caught:
        record_allocation(ask(tmp_path, "bot2", **{variable: taken}))
    for word in ("bot2", variable, str(taken), "'bot1'", "inventory"):
        assert word in str(caught.value)
    assert slots(tmp_path) == {"bot1": 0}


def test_own_default_port_taken_by_a_fixed_port_is_refused(tmp_path):
    record_allocation(ask(tmp_path, "bot1", gateway_port=18909))
    with pytest.raises(Conflict, match=r"bot2: gateway_port 18909 belongs to bot 'bot1'"):
        plan_allocation(ask(tmp_path, "bot2"))


def test_same_port_twice_in_one_bot_is_refused(tmp_path):
    with pytest.raises(Conflict, match="both 2000"):
        plan_allocation(ask(tmp_path, "bot1", gateway_port=2000, controller_port=2000))


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_port_out_of_range_is_refused(tmp_path, port):
    with pytest.raises(InvalidInput, match=f"controller_port is {port}"):
        plan_allocation(ask(tmp_path, "bot1", controller_port=port))
    with pytest.raises(InvalidInput, match=f"port {port} "):
        plan_allocation(ask(tmp_path, "bot1", host_ports=(11434, port)))


def test_host_ports_are_sorted_and_single(tmp_path):
    plan = record_allocation(ask(tmp_path, "bot1", host_ports=(11434, 80, 11434)))
    assert plan.entry["host_ports"] == [80, 11434]
    assert record_allocation(ask(tmp_path, "bot1", host_ports=(11434,))).changed


def test_bad_bot_name_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="Bot_1"):
        record_allocation(ask(tmp_path, "Bot_1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pool", ["10.0.0.1/16", "10.0.0.0/25", "fd00::/64", "everything", "10.0.0.0"])
def test_unusable_pool_is_refused_with_its_value(tmp_path, pool):
    with pytest.raises(InvalidInput, match=pool):
        plan_allocation(ask(tmp_path, "bot1", pool=pool))


def test_pool_without_room_is_refused(tmp_path):
    small = "10.213.0.0/23"
    for bot in ("bot1", "bot2"):
        record_allocation(ask(tmp_path, bot, pool=small))
    with pytest.raises(InvalidInput, match="bot number 3"):
        record_allocation(ask(tmp_path, "bot3", pool=small))
    assert slots(tmp_path) == {"bot1": 0, "bot2": 1}


def test_full_machine_is_refused(tmp_path):
    taken = {f"b{slot}": {"slot": slot, "gateway_port": 1, "controller_port": 2} for slot in range(256)}
    with pytest.raises(Conflict, match="256 bots"):
        plan_allocation(ask(tmp_path, "bot1"), taken)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 1, "bo', "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "does not hold"),
        ("{}", "does not hold"),
        ('{"schema": 1}', "does not hold"),
        ('{"schema": 1, "bots": {"bot1": {}}}', "does not hold"),
        ('{"schema": 1, "bots": [1]}', "does not hold"),
        ('{"schema": 2, "bots": {}}', "update ClawFactory"),
    ],
)
def test_file_that_cannot_be_read_stops_and_stays(tmp_path, text, said):
    path = tmp_path / "allocations.json"
    path.write_text(text)
    for act in (lambda: record_allocation(ask(tmp_path, "bot1")), lambda: release_allocation(tmp_path, "bot1")):
        with pytest.raises(CoreError, match=said) as caught:
            act()
        assert str(path) in str(caught.value)
    assert path.read_text() == text


def test_file_holds_schema_and_sorted_bots(tmp_path):
    for bot in ("bot2", "bot1"):
        record_allocation(ask(tmp_path, bot))
    path = tmp_path / "allocations.json"
    data = json.loads(path.read_text())
    assert (data["schema"], list(data["bots"])) == (1, ["bot1", "bot2"])
    assert path.stat().st_mode & 0o777 == 0o644


def _claim(root: str, start, bots: list[str]) -> None:
    start.wait()
    for bot in bots:
        with allocation_lock(Path(root)):
            record_allocation(ask(Path(root), bot))


def test_processes_at_the_same_time_never_share_a_slot(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    names = [[f"p{process}-{number}" for number in range(8)] for process in range(4)]
    processes = [context.Process(target=_claim, args=(str(tmp_path), start, bots)) for bots in names]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert sorted(slots(tmp_path).values()) == list(range(32))


def test_lock_waits_for_its_holder_and_ends_with_it(tmp_path):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with allocation_lock(tmp_path):
            os.write(writer, b"held")
            os.read(os.open(tmp_path / "go", os.O_RDONLY | os.O_CREAT), 1)
            os.kill(os.getpid(), 9)
    assert os.read(reader, 4) == b"held"
    os.waitpid(child, 0)
    with allocation_lock(tmp_path):
        record_allocation(ask(tmp_path, "bot1"))
    os.close(reader)
    os.close(writer)


def test_description_is_frozen(tmp_path):
    entry = {"slot": 2, "gateway_port": 1, "controller_port": 2, "host_ports": []}
    bot = describe(Path("/srv/clawfactory"), "bot1", POOL, entry)
    uids = {key: bot[key] for key in ("gateway_uid", "controller_uid", "proxy_uid", "egress_uid", "broker_uid")}
    expected = {"gateway_uid": 20003, "controller_uid": 30003, "proxy_uid": 40003, "egress_uid": 50003}
    assert uids == {**expected, "broker_uid": 55003}
    assert {kind: network["subnet"] for kind, network in bot["networks"].items()} == {
        "inside": "10.213.2.0/28", "edge": "10.213.2.16/28", "control": "10.213.2.32/28",
    }  # fmt: skip
    assert {kind: network["internal"] for kind, network in bot["networks"].items()} == {
        "inside": True, "edge": False, "control": True,
    }  # fmt: skip
    assert bot["sandbox_network"] == {
        "name": "clawfactory-bot1-sandbox", "subnet": "10.213.2.64/26", "gateway": "10.213.2.65",
        "bridge": "cfs-835e7134", "internal": True,
    }  # fmt: skip
    assert bot["addresses"]["egress_sandbox"] == "10.213.2.66"
    assert bot["addresses"]["proxy_edge"] == "10.213.2.20"
    paths = {key: bot["paths"][key] for key in ("runtime_secrets", "proposals", "promotion", "jobs", "jobs_socket")}
    assert paths == {
        "runtime_secrets": "/srv/clawfactory/secrets/bot1/run",
        "proposals": "/srv/clawfactory/bot_repos/bot1/proposals.git",
        "promotion": "/srv/clawfactory/promotion/bot1",
        "jobs": "/srv/clawfactory/jobs/bot1",
        "jobs_socket": "/srv/clawfactory/run/bot1/jobs",
    }
    assert json.loads(json.dumps(bot)) == bot


def test_addresses_lie_in_their_networks_and_are_single(tmp_path):
    bots = [
        describe(tmp_path, f"bot{slot}", POOL, {"slot": slot, "gateway_port": 1, "controller_port": 2})
        for slot in (0, 1, 255)
    ]
    addresses = [address for bot in bots for address in bot["addresses"].values()]
    assert len(set(addresses)) == len(addresses)
    networks = [ipaddress.ip_network(item["subnet"]) for bot in bots for item in bot["networks"].values()]
    assert not any(one.overlaps(other) for one in networks for other in networks if one is not other)
    for bot in bots:
        for kind in ("inside", "edge", "control"):
            network = ipaddress.ip_network(bot["networks"][kind]["subnet"])
            own = {key: value for key, value in bot["addresses"].items() if key.endswith(f"_{kind}")}
            assert own and all(ipaddress.ip_address(value) in network for value in own.values())
            assert bot["networks"][kind]["gateway"] not in own.values()


def test_user_ids_of_full_machines_do_not_meet():
    firsts = sorted(allocation._UIDS.values())
    assert all(later - earlier >= 256 for earlier, later in pairwise(firsts))
