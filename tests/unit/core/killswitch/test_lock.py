from __future__ import annotations

import argparse
import json
import os
import stat
from dataclasses import replace

import pytest

from clawfactory_core import audit, locks
from clawfactory_core.errors import InvalidInput
from clawfactory_core.killswitch import command, evidence, lock, record
from clawfactory_core.killswitch.lock import LockRequest, apply_lock, plan_lock
from clawfactory_core.killswitch.machine_lock import exceptions, read_machine
from tests.support.killswitch_stage import Death


@pytest.fixture
def request_(stage):
    return LockRequest(stage.root, ("bot1",), actor="alice", reason="talks to strangers")


def lock_of(stage, bot="bot1"):
    return json.loads(stage.lock_file(bot).read_text())


def test_everything_of_the_bot_and_nothing_else_is_dead(stage, request_):
    stage.start_engine()
    gateway = stage.container("bot1", "gateway", processes=3)
    sandbox = stage.container("bot1", "sandbox", policy="no")
    other = stage.container("bot2", "gateway")
    foreign = stage.container("", "redis", uid=20001)
    before = stage.alive()
    done = apply_lock(request_, stage.world)
    assert done.changed and done.problems == []
    assert (done.killed, done.left, done.engine, done.network) == (4, [], "answers", "nft")
    assert len(stage.alive()) == len(before) - 4
    assert stage.filter.cut_off == {"bot1"}
    assert [stage.policy(each) for each in (gateway, sandbox, other, foreign)] == ["no", "no", *["unless-stopped"] * 2]
    assert done.others == {"bots": ["bot2"], "containers": ["clawfactory--redis"]}


def test_order(stage, request_):
    stage.start_engine()
    stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    assert stage.events == ["cut", "kill", "policy"]
    assert list(apply_lock(request_, stage.world).milliseconds) == ["network", "processes", "policies", "recorded"]


def test_lock_says_who_when_why_and_what_happened(stage, request_):
    stage.start_engine()
    stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    found = lock_of(stage)
    assert (found["actor"], found["reason"], found["state"], found["scope"]) == (
        "alice",
        "talks to strangers",
        "locked",
        "bot",
    )
    assert found["policies"] == {"clawfactory-bot1-gateway": "unless-stopped"}
    assert (found["happened"]["killed"], found["happened"]["network"], found["pending"]) == (1, "nft", [])
    assert stat.S_IMODE(stage.lock_file("bot1").stat().st_mode) == 0o600
    (line,) = stage.audit("bot1")
    assert (line["event"], line["actor"], line["killed"]) == ("lock", "alice", 1)
    assert audit.verify(stage.root / "audit" / "bot1.jsonl").problems == ()


def test_second_lock_is_a_no_op_and_keeps_who_and_why(stage, request_):
    stage.start_engine()
    stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    before = stage.lock_file("bot1").read_bytes()
    again = apply_lock(replace(request_, actor="bob", reason="me too"), stage.world)
    assert not again.changed
    assert stage.lock_file("bot1").read_bytes() == before
    assert len(stage.audit("bot1")) == 1


def test_second_lock_undoes_what_came_to_life_and_says_so(stage, request_):
    stage.start_engine()
    number = stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    stage.spawn(number)
    stage.write_policy(number, "always")
    stage.filter.cut_off.clear()
    again = apply_lock(request_, stage.world)
    assert again.changed and again.killed == 1
    assert stage.alive() == set() and stage.policy(number) == "no" and stage.filter.cut_off == {"bot1"}
    assert [line["event"] for line in stage.audit("bot1")] == ["lock", "lock.enforced"]
    assert lock_of(stage)["policies"] == {"clawfactory-bot1-gateway": "unless-stopped"}


def test_many_bots_in_one_go(stage):
    stage.start_engine()
    bots = tuple(f"bot{number}" for number in range(20))
    for bot in bots:
        stage.container(bot, "gateway")
    done = apply_lock(LockRequest(stage.root, bots, actor="alice"), stage.world)
    assert sorted(done.bots) == sorted(bots) and stage.events.count("cut") == 1
    assert stage.alive() == set() and locks.locked_bots(stage.root) == sorted(bots)


def test_bot_that_is_not_there_is_locked_all_the_same(stage, request_):
    done = apply_lock(request_, stage.world)
    assert done.changed and locks.is_locked(stage.root, "bot1")


def test_bot_that_forks_while_it_is_killed(stage, request_):
    number = stage.container("bot1", "gateway")
    left = [1] * 50

    def fork(_: int) -> None:
        if left:
            left.pop()
            stage.spawn(number)

    stage.on_kill = fork
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set() and done.killed == 51


def test_process_of_an_unknown_container_is_told_by_the_bots_users(stage, request_):
    """Its directory cannot be read; the slot says who it is."""
    slots = {"schema": 1, "bots": {"bot1": {"slot": 3, "gateway_port": 1, "controller_port": 2}}}
    (stage.root / "allocations.json").write_text(json.dumps(slots))
    own = stage.spawn("a" * 64, uid=20004)
    other = stage.spawn("b" * 64, uid=20005)
    apply_lock(request_, stage.world)
    assert own not in stage.alive() and other in stage.alive()


def test_damaged_slots_stop_nothing(stage, request_):
    (stage.root / "allocations.json").write_text("{")
    stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set() and "slots" in done.problems[0]


@pytest.mark.parametrize("what", ["nothing", "a file", "a directory", "a link"])
def test_lock_that_somebody_made_by_hand(stage, request_, what):
    path = stage.lock_file("bot1")
    {
        "nothing": lambda: None,
        "a file": path.touch,
        "a directory": path.mkdir,
        "a link": lambda: path.symlink_to("/nowhere"),
    }[what]()
    stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    assert stage.alive() == set() and path.is_file() and not path.is_symlink()
    assert lock_of(stage)["state"] == "locked"


def test_stopped_engine_is_not_asked_and_its_files_are_changed(stage, request_):
    number = stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert done.engine == "stopped" and stage.policy(number) == "no"
    kept = json.loads((stage.data / "containers" / number / "hostconfig.json").read_text())
    assert kept["Memory"] == 7
    assert lock_of(stage)["pending"] == []


def test_hung_engine_delays_nothing_and_stays_pending(stage, request_):
    stage.hang_engine()
    number = stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert done.engine == "hangs" and stage.alive() == set() and stage.policy(number) == "no"
    assert lock_of(stage)["pending"] == ["policies"]
    stage.silent.close()
    (stage.top / "engine.sock").unlink()
    server = stage.start_engine()
    apply_lock(request_, stage.world)
    assert server.updates == [(number, "no")] and lock_of(stage)["pending"] == []


def test_engine_that_refuses_stays_pending(stage, request_):
    stage.start_engine().status = 500
    stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert "restart policy of clawfactory-bot1-gateway" in done.problems[0]
    assert lock_of(stage)["pending"] == ["policies"]


def test_broken_packet_filter_stops_nothing_else(stage, request_):
    stage.filter.broken = "nft cannot be run"
    stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set() and locks.is_locked(stage.root, "bot1")
    assert done.network == "" and "the network is NOT cut" in done.problems


def test_process_that_cannot_die_is_reported_and_bounded(stage, request_, monkeypatch):
    monkeypatch.setattr(lock, "KILL_SECONDS", 0.05)
    number = stage.container("bot1", "gateway", processes=0)
    pid = stage.spawn(number)
    stage.immortal.add(pid)
    done = apply_lock(request_, stage.world)
    assert done.left == [pid] and locks.is_locked(stage.root, "bot1")


def test_full_disk_locks_all_the_same(stage, request_, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_atomic", full)
    monkeypatch.setattr(record.audit_log, "append", full)
    stage.container("bot1", "gateway")
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set() and locks.is_locked(stage.root, "bot1")
    assert any("No space left" in problem for problem in done.problems)
    monkeypatch.undo()
    assert apply_lock(request_, stage.world).changed
    assert lock_of(stage)["state"] == "locked" and len(stage.audit("bot1")) == 1


@pytest.mark.parametrize(
    "dies_in",
    [
        "record.mark",
        "evidence.take",
        "Switch.kill",
        "Switch.turn_policies_off",
        "record.write",
        "record.finish",
        "record.audit",
    ],
)
def test_second_lock_finishes_what_a_killed_one_left(stage, request_, monkeypatch, dies_in):
    stage.start_engine()
    number = stage.container("bot1", "gateway")
    modules = {"record": record, "evidence": evidence, "Switch": lock.Switch}
    where, what = dies_in.split(".")

    def die(*_: object, **__: object) -> None:
        raise Death

    with monkeypatch.context() as patched:
        # In the same thread, so that a death ends it all.
        patched.setattr(lock, "bounded", lambda work, seconds: work() and "")
        patched.setattr(modules[where], what, die)
        with pytest.raises(Death):
            apply_lock(request_, stage.world)
    assert stage.filter.cut_off == {"bot1"}
    done = apply_lock(request_, stage.world)
    assert done.changed and stage.alive() == set() and stage.policy(number) == "no"
    found = lock_of(stage)
    assert (found["state"], found["pending"], found["actor"]) == ("locked", [], "alice")
    assert found["policies"] == {"clawfactory-bot1-gateway": "unless-stopped"}
    assert {line["event"] for line in stage.audit("bot1")} <= {"lock", "lock.enforced"} and stage.audit("bot1")


def test_evidence_is_of_before_and_for_root_alone(stage, request_):
    stage.container("bot1", "gateway", processes=2)
    apply_lock(request_, stage.world)
    path = lock_of(stage)["happened"]["evidence"]
    (found,) = (stage.root / "audit" / "incidents.d" / "bot1").iterdir()
    assert str(found) == path and stat.S_IMODE(found.stat().st_mode) == 0o600
    taken = json.loads(found.read_text())
    (container,) = taken["containers"]
    assert container["processes_in_all"] == 2 and container["processes"][0]["command"] == "node --flag"
    assert container["log"] == ["2027-01-15T08:00:00Z clawfactory-bot1-gateway speaks"] and taken["complete"]


def test_evidence_that_takes_too_long_is_left_out(stage, request_, monkeypatch):
    monkeypatch.setattr(evidence, "SECONDS", -1.0)
    stage.container("bot1", "gateway")
    apply_lock(request_, stage.world)
    taken = json.loads(next((stage.root / "audit" / "incidents.d" / "bot1").iterdir()).read_text())
    assert not taken["complete"] and "processes" not in taken["containers"][0]


def test_machine_is_cut_and_remembered(stage, request_):
    allowed = exceptions(["192.0.2.7"], None)
    apply_lock(replace(request_, machine=allowed), stage.world)
    assert stage.filter.machine == allowed
    assert read_machine(stage.root).allowed == allowed
    assert lock_of(stage)["scope"] == "machine"


def test_plan_reads_only(stage, request_):
    stage.container("bot1", "gateway", processes=2)
    assert plan_lock(request_, stage.world) == {"bot1": ["cut off its network", "kill 2 processes", "lock"]}
    assert stage.events == [] and not locks.is_locked(stage.root, "bot1")
    apply_lock(request_, stage.world)
    assert plan_lock(request_, stage.world) == {"bot1": []}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bots": ()}, "no bot is named"),
        ({"bots": ("../x",)}, "bot name"),
        ({"actor": ""}, "actor"),
        ({"reason": "a\nb"}, "printable"),
        ({"reason": "x" * 501}, "501 characters"),
    ],
)
def test_bad_input_is_refused_before_anything(stage, request_, changes, expected):
    with pytest.raises(InvalidInput, match=expected):
        apply_lock(replace(request_, **changes), stage.world)
    assert stage.events == [] and list((stage.root / "locks").iterdir()) == []


def test_nothing_around_a_container_is_frozen_or_killed(stage, request_):
    """A machine may be a container itself; what makes a container shares the cgroups of whoever started it."""
    machine, number = "f" * 64, stage.container("bot1", "gateway", processes=0)
    around = stage.cgroup / "docker" / machine
    within = around / "docker" / number
    within.mkdir(parents=True)
    for group in (around, within):
        for name in ("cgroup.freeze", "cgroup.kill"):
            (group / name).touch()
        (group / "cgroup.procs").write_text("")
    (around / "cgroup.procs").write_text("7\n8\n9\n")
    # Of its cgroups one is its own already, and the one of version 2 still that of the machine.
    stage.have_process(7, "runc", f"3:pids:/docker/{machine}/docker/{number}\n0::/docker/{machine}\n")
    stage.have_process(8, "dockerd", f"3:pids:/docker/{machine}\n0::/docker/{machine}\n")
    stage.have_process(9, "node", f"3:pids:/docker/{machine}/docker/{number}\n0::/docker/{machine}/docker/{number}\n")
    apply_lock(request_, stage.world)
    assert stage.alive() == {8}
    written = [(around / name).read_text() for name in ("cgroup.freeze", "cgroup.kill")]
    assert written == ["", ""]
    assert ((within / "cgroup.kill").read_text(), (within / "cgroup.freeze").read_text()) == ("1", "0")


def test_bots_user_outside_of_a_container_is_let_be(stage, request_):
    """Of the machine's own services some become a bot's user."""
    slots = {"schema": 1, "bots": {"bot1": {"slot": 0, "gateway_port": 1, "controller_port": 2}}}
    (stage.root / "allocations.json").write_text(json.dumps(slots))
    stage.have_process(7, "snapshot", f"0::/docker/{'f' * 64}/system.slice/clawfactory-jobs.service\n", uid=20001)
    apply_lock(request_, stage.world)
    assert stage.alive() == {7}


@pytest.mark.parametrize("name", ["\udcff\udcfe", "\x1cUid:\t20002", "a) R 1 (b", "\x85\u2028"])
def test_name_of_a_process_saves_nobody_and_accuses_nobody(stage, request_, name):
    """A process may call itself by any bytes."""
    slots = {
        "bot1": {"slot": 0, "gateway_port": 1, "controller_port": 2},
        "bot2": {"slot": 1, "gateway_port": 3, "controller_port": 4},
    }
    (stage.root / "allocations.json").write_text(json.dumps({"schema": 1, "bots": slots}))
    number = stage.container("bot1", "gateway", processes=0)
    stage.spawn(number)
    stage.have_process(7, name, f"0::/docker/{number}\n", uid=20001)
    # Of a container that the engine's files do not tell, by its user alone.
    stage.have_process(8, name, f"0::/docker/{'a' * 64}\n", uid=20001)
    apply_lock(request_, stage.world)
    assert stage.alive() == set()


def test_evidence_that_cannot_be_taken_keeps_nothing_alive(stage, request_, monkeypatch):
    stage.container("bot1", "gateway")

    def take(*_arguments):
        raise ValueError("nobody has thought of this")

    monkeypatch.setattr(evidence, "take", take)
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set()
    assert any("nobody has thought of this" in problem for problem in done.problems)


def test_process_whose_first_thread_has_ended_is_no_dead_one(stage, request_):
    number = stage.container("bot1", "gateway", processes=0)
    stage.spawn(number)
    for pid, threads in ((7, 2), (8, 1)):
        stage.have_process(pid, "node", f"0::/docker/{number}\n")
        fields = " ".join(["0"] * 16)
        (stage.proc / str(pid) / "stat").write_text(f"{pid} (node) Z {fields} {threads} 0 0")
    apply_lock(request_, stage.world)
    assert {path.name for path in stage.proc.iterdir()} & {"7", "8"} == {"8"}, "8 is dead, and waits for its parent"


def test_command_line_without_an_end_is_not_read(stage, request_):
    """A process may call any of its memory its command line, such as 64 GB that it never touched."""
    number = stage.container("bot1", "gateway")
    pid = next(iter(stage.alive()))
    os.truncate(stage.proc / str(pid) / "cmdline", 64 << 30)
    done = apply_lock(request_, stage.world)
    assert stage.alive() == set() and done.problems == []
    (entry,) = json.loads(next((stage.root / "audit" / "incidents.d" / "bot1").iterdir()).read_text())["containers"]
    assert entry["id"] == number and entry["processes"][0]["command"].startswith("node")


def test_lock_that_could_not_be_written_is_not_called_one(stage, monkeypatch, capsys):
    stage.container("bot1", "gateway")

    def mark(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "mark", mark)
    monkeypatch.setattr(record, "write", mark)
    monkeypatch.setattr(command, "apply_lock", lambda request: apply_lock(request, stage.world))
    options = argparse.Namespace(
        root=stage.root, bots=["bot1"], actor="alice", reason="", machine=False, allow=[], json=False, command="lock"
    )
    assert command.run(options) == 1
    said = capsys.readouterr()
    assert "bot1  NOT LOCKED" in said.out and "NOT LOCKED: bot1" in said.err
    assert stage.alive() == set()
