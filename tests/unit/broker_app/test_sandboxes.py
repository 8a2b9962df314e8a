"""Nothing of the bot runs between the look at a sandbox's sources and its start, and all of it runs afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from broker_app import engine as engine_module
from broker_app import sandboxes
from tests.unit.broker_app.fake_engine import FakeEngine, reply
from tests.unit.broker_app.running import BOT_DIRECTORY, EXEC, IMAGE, Running, eventually

V = "/v1.41"
NAME = "clawfactory-bot1-sbx-new"
START = f"{V}/containers/{NAME}/start"
LOOKED = (
    "1 0 8:1 / / rw - overlay overlay rw\n"
    "2 1 8:2 /srv/bots/bot1 /m/base ro - ext4 /dev/a rw\n"
    "3 1 8:2 /srv/bots/bot1/state/workspace /m/0 ro - ext4 /dev/a rw\n"
)
SWAPPED = LOOKED.replace("/srv/bots/bot1/state/workspace", "/etc")


@pytest.fixture
def made(broker, engine) -> FakeEngine:
    """A sandbox that was created through the broker."""
    engine.mountinfo = LOOKED
    binds = [f"{BOT_DIRECTORY}/state/workspace:/workspace:rw,z"]
    body = {
        "Image": IMAGE,
        "Cmd": ["sleep", "infinity"],
        "WorkingDir": "/workspace",
        "HostConfig": {"Binds": binds, "NetworkMode": "none"},
    }
    assert broker.call("POST", f"{V}/containers/create?name={NAME}", body).status == 201
    engine.heard.clear()
    return engine


def states(engine: FakeEngine) -> dict[str, str]:
    return {box.name.removeprefix("clawfactory-bot1-"): box.state for box in engine.boxes.values()}


def steps(engine: FakeEngine) -> list[str]:
    """What changed something, in order, by the last word of path and whose."""
    names = {box.id: box.name.removeprefix("clawfactory-bot1-") for box in engine.boxes.values()}
    found = []
    for one in engine.heard:
        parts = one.path.split("/")
        if one.method == "GET" or len(parts) < 3:
            continue
        who = names.get(parts[2], "check")
        found.append(f"{parts[3] if len(parts) > 3 else one.method.lower()} {who}")
    return found


def test_a_start_looks_while_everything_is_frozen(broker, made):
    assert broker.call("POST", START).status == 204
    order = steps(made)
    assert order[0] == "post check"
    assert set(order[1:3]) == {"pause gateway", "pause sbx-a"}
    assert order[3:6] == ["start check", "wait check", "start sbx-new"]
    assert set(order[6:8]) == {"unpause gateway", "unpause sbx-a"}
    assert order[8:] == ["delete check"]
    assert states(made) == {"gateway": "running", "sbx-a": "running", "sbx-new": "running"}
    assert broker.audit() == []


def test_the_check_gets_the_sources_and_no_more(broker, made):
    broker.call("POST", START)
    (create,) = made.calls("POST", "/containers/create")
    assert create.query["name"].startswith("clawfactory-bot1-sbx-check-")
    assert create.body["Labels"]["clawfactory.check"] == "1"
    assert [mount["Target"] for mount in create.body["HostConfig"]["Mounts"]] == ["/m/0", "/m/base"]
    assert all(mount["ReadOnly"] for mount in create.body["HostConfig"]["Mounts"])


def test_one_that_runs_is_left_alone(broker, engine):
    assert broker.call("POST", f"{V}/containers/clawfactory-bot1-sbx-a/start").status == 304
    assert not engine.calls("POST", "pause")


def test_a_swapped_source_costs_the_sandbox(broker, made):
    made.mountinfo = SWAPPED
    answer = broker.call("POST", START)
    assert answer.status == 403
    assert "start sbx-new" not in steps(made)
    assert states(made) == {"gateway": "running", "sbx-a": "running"}
    (line,) = broker.audit()
    assert (line["status"], line["path"]) == (403, START)
    assert broker.call("POST", START).status == 404


async def fails(heard, reader, writer):
    await reply(writer, 500, {"message": "secret of the host"})


async def never(heard, reader, writer):
    await reader.read()


async def garbage(heard, reader, writer):
    writer.write(b"garbage\r\n\r\n")
    await writer.drain()


async def not_well(heard, reader, writer):
    await reply(writer, 200, {"StatusCode": 1})


async def torn(heard, reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x01\0\0\0\0\0\0\x05a")
    await writer.drain()


@pytest.mark.parametrize(
    ("call", "behaviour"),
    [
        ("POST /containers/create", fails),
        ("POST /containers/create", garbage),
        ("POST /containers/.*/pause", fails),
        ("POST /containers/.*/pause", never),
        ("POST /containers/.*/start", fails),
        ("POST /containers/.*/start", never),
        ("POST /containers/.*/wait", fails),
        ("POST /containers/.*/wait", not_well),
        ("GET /containers/.*/logs", fails),
        ("GET /containers/.*/logs", torn),
        ("GET /containers/.*/logs", garbage),
        ("GET /containers/json", garbage),
    ],
)
def test_whatever_fails_the_sandbox_is_gone_and_the_rest_runs(broker, made, monkeypatch, call, behaviour):
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.5)
    made.behaviours[call] = behaviour
    answer = broker.call("POST", START)
    assert answer.status == 403
    assert "secret" not in answer.message
    assert states(made) == {"gateway": "running", "sbx-a": "running"}
    assert len(broker.audit()) == 1


def test_a_gateway_that_does_not_run_starts_nothing(broker, made):
    made.named("clawfactory-bot1-gateway").state = "exited"
    assert broker.call("POST", START).status == 409
    assert states(made) == {"gateway": "exited", "sbx-a": "running"}


def test_a_gateway_that_comes_back_meanwhile_costs_the_sandbox(broker, made):
    gateway = made.named("clawfactory-bot1-gateway")

    async def restarted(heard, reader, writer):
        gateway.state = "running"
        await made.usual(heard, reader, writer)

    made.behaviours["POST /containers/.*/wait"] = restarted
    assert broker.call("POST", START).status == 403
    assert states(made) == {"gateway": "running", "sbx-a": "running"}


def test_what_the_client_paused_stays_paused(broker, made):
    assert broker.call("POST", f"{V}/containers/clawfactory-bot1-sbx-a/pause").status == 204
    assert broker.call("POST", START).status == 204
    assert states(made)["sbx-a"] == "paused"
    assert states(made)["gateway"] == "running"


def test_other_bots_are_not_frozen(broker, made):
    made.add("clawfactory-bot2-gateway", bot="bot2", service="gateway")
    made.add("clawfactory-bot1-proxy", bot="bot1", service="proxy")
    broker.call("POST", START)
    assert [step for step in steps(made) if "bot2" in step or "proxy" in step] == []


def test_a_client_that_goes_does_not_leave_anything_frozen(broker, made):
    frozen = threading.Event()

    async def slow(heard, reader, writer):
        frozen.set()
        await asyncio.sleep(0.5)
        await made.usual(heard, reader, writer)

    made.behaviours["POST /containers/.*/wait"] = slow
    with broker.connect() as wire:
        wire.send(f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert frozen.wait(10)
        assert states(made)["gateway"] == "paused"
    eventually(lambda: states(made) == {"gateway": "running", "sbx-a": "running", "sbx-new": "running"})


def test_a_broker_that_is_told_to_end_finishes_the_start(broker, made):
    frozen = threading.Event()

    async def slow(heard, reader, writer):
        frozen.set()
        await asyncio.sleep(0.5)
        await made.usual(heard, reader, writer)

    made.behaviours["POST /containers/.*/wait"] = slow
    with broker.connect() as wire:
        wire.send(f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert frozen.wait(10)
        broker.stop()
        assert states(made) == {"gateway": "running", "sbx-a": "running", "sbx-new": "running"}


def test_thawing_is_tried_until_it_works(broker, made):
    failures = iter([fails, garbage, fails])

    async def stubborn(heard, reader, writer):
        await next(failures, made.usual)(heard, reader, writer)

    made.behaviours["POST /containers/.*/unpause"] = stubborn
    assert broker.call("POST", START).status == 204
    assert states(made) == {"gateway": "running", "sbx-a": "running", "sbx-new": "running"}


def test_nothing_thaws_before_a_bad_sandbox_is_gone(broker, made):
    made.mountinfo = SWAPPED
    tries = iter([fails, garbage])

    async def stubborn(heard, reader, writer):
        await next(tries, made.usual)(heard, reader, writer)

    made.behaviours["DELETE /containers/.*"] = stubborn
    assert broker.call("POST", START).status == 403
    order = [one for one in made.heard if one.method == "DELETE" or one.path.endswith("unpause")]
    assert [one.method for one in order] == ["DELETE"] * 3 + ["POST"] * 2 + ["DELETE"]


def test_no_call_that_could_thaw_passes_during_a_start(broker, made):
    during = []

    async def slow(heard, reader, writer):
        made.heard.clear()
        await asyncio.sleep(0.7)
        during.extend(one.path for one in made.heard if one.method in ("POST", "DELETE"))
        await made.usual(heard, reader, writer)

    made.behaviours["POST /containers/.*/wait"] = slow
    answers = {}

    def call(name, method, target, body=None, client="gateway"):
        answers[name] = broker.call(method, target, body, client=client).status

    a = f"{V}/containers/clawfactory-bot1-sbx-a"
    gateway = f"{V}/containers/clawfactory-bot1-gateway"
    starter = threading.Thread(target=call, args=("start", "POST", START))
    starter.start()
    eventually(lambda: states(made)["gateway"] == "paused")
    others = [
        ("stop", "POST", f"{a}/stop?t=1"),
        ("unpause", "POST", f"{a}/unpause"),
        ("exec", "POST", f"{a}/exec", EXEC),
        ("restart", "POST", f"{gateway}/restart", None, "controller"),
    ]
    threads = [threading.Thread(target=call, args=other) for other in others]
    for thread in threads:
        thread.start()
    for thread in [starter, *threads]:
        thread.join(20)
    assert during == []
    assert answers["start"] == 204
    assert answers["restart"] == 204


def test_a_start_waits_for_a_stop_that_is_on_its_way(broker, made):
    async def slow(heard, reader, writer):
        await asyncio.sleep(0.5)
        await made.usual(heard, reader, writer)

    made.behaviours["POST /containers/.*/stop"] = slow
    stopper = threading.Thread(target=broker.call, args=("POST", f"{V}/containers/clawfactory-bot1-sbx-a/stop?t=1"))
    stopper.start()
    eventually(lambda: made.calls("POST", "/stop"))
    assert broker.call("POST", START).status == 204
    stopper.join(10)
    assert states(made) == {"gateway": "running", "sbx-a": "exited", "sbx-new": "running"}
    assert "pause sbx-a" not in steps(made)


def test_starts_wait_for_one_another(broker, made):
    body = made.named(NAME).body
    for number in range(3):
        made.add(f"clawfactory-bot1-sbx-{number}", state="created", bot="bot1", service="sandbox").body = body
    statuses = []
    threads = [
        threading.Thread(
            target=lambda n=number: statuses.append(
                broker.call("POST", f"{V}/containers/clawfactory-bot1-sbx-{n}/start").status
            )
        )
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [204] * 3
    waits = [one.path.rsplit("/", 1)[1] for one in made.heard if one.path.endswith(("/pause", "/unpause"))]
    # Never a pause between the unpauses of the start before: 2 + 2, 3 + 3, 4 + 4.
    assert waits == ["pause"] * 2 + ["unpause"] * 2 + ["pause"] * 3 + ["unpause"] * 3 + ["pause"] * 4 + ["unpause"] * 4


def test_the_count_is_capped_also_for_many_at_once(broker, made):
    made.add("clawfactory-bot2-sbx-a", bot="bot2", service="sandbox")
    made.add("clawfactory-bot1-sbx-check-0", bot="bot1", service="sandbox", check="1")
    body = {"Image": IMAGE, "Cmd": ["sleep", "infinity"], "WorkingDir": "/workspace", "HostConfig": {}}
    statuses = []
    threads = [
        threading.Thread(
            target=lambda n=number: statuses.append(
                broker.call("POST", f"{V}/containers/create?name=clawfactory-bot1-sbx-{n}", body).status
            )
        )
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [201] + [429] * 5  # two are there already


def test_a_start_recovers_what_a_dead_broker_left(idle, engine):
    gateway = idle.gateway(state="paused")
    sandbox = idle.sandbox(state="paused")
    running = idle.sandbox("b")
    other = engine.add("clawfactory-bot2-gateway", state="paused", bot="bot2", service="gateway")
    engine.add("clawfactory-bot1-sbx-check-1", state="exited", bot="bot1", service="sandbox", check="1")
    idle.start()
    assert (gateway.state, sandbox.state, running.state, other.state) == ("running", "running", "running", "paused")
    assert engine.named("clawfactory-bot1-sbx-check-1") is None
    assert [one.path for one in engine.calls("POST", f"/{running.id}/")] == []


def test_a_broker_waits_for_its_engine(idle, engine, monkeypatch):
    from broker_app import server

    monkeypatch.setattr(server, "_RECOVER_PAUSE_SECONDS", 0.05)
    gateway = idle.gateway(state="paused")
    idle.do(engine.stop())

    async def later():
        await asyncio.sleep(0.4)
        await engine.start()

    asyncio.run_coroutine_threadsafe(later(), idle.loop)
    idle.start()
    assert gateway.state == "running"


def test_a_pause_that_was_given_up_and_came_late_is_undone(broker, made, monkeypatch):
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(sandboxes, "_GIVEN_UP_SECONDS", 1.0)
    gateway = made.named("clawfactory-bot1-gateway")

    async def late(heard, reader, writer):
        await asyncio.sleep(0.6)
        gateway.state = "paused"

    made.behaviours["POST /containers/.*/pause"] = late
    assert broker.call("POST", START).status == 403
    eventually(lambda: gateway.state == "paused")
    eventually(lambda: gateway.state == "running")


PROCESS = """
import asyncio, json, os, pathlib, sys
from broker_app.server import Broker
from broker_app.settings import load_settings
from tests.unit.broker_app.running import with_own_uid
asyncio.run(Broker(with_own_uid(load_settings(pathlib.Path(sys.argv[1])))).run())
"""


def test_killed_while_frozen_the_next_one_thaws(idle, engine, tmp_path):
    """The real process, killed as `kill -9` does."""
    state = {"Type": "bind", "Source": f"{BOT_DIRECTORY}/state", "Destination": "/home/node/.openclaw", "RW": True}
    idle.gateway(mounts=[state])
    idle.sandbox()
    idle.sandbox("new", state="created")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def launch() -> subprocess.Popen:
        before = len(engine.calls("GET", "/containers/json"))
        process = subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path / "broker.json")], env=environment)
        eventually(lambda: process.poll() is not None or len(engine.calls("GET", "/containers/json")) > before)
        return process

    async def hangs(heard, reader, writer):
        await reader.read()

    engine.behaviours["POST /containers/.*/wait"] = hangs
    process = launch()
    try:
        wire = eventually(lambda: connected(idle))
        wire.send(f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        eventually(lambda: engine.calls("POST", "/wait"))
        assert states(engine)["gateway"] == states(engine)["sbx-a"] == "paused"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        wire.sock.close()
        assert states(engine)["gateway"] == "paused"
        process = launch()
        eventually(lambda: states(engine) == {"gateway": "running", "sbx-a": "running", "sbx-new": "created"})
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()


def connected(idle: Running):
    try:
        return idle.connect()
    except OSError:
        return None


def test_the_log_is_the_engines_frames():
    frames = b"\x01\0\0\0\0\0\0\x03abc" + b"\x02\0\0\0\0\0\0\x03err" + b"\x01\0\0\0\0\0\0\x02de"
    assert sandboxes._stdout(frames) == b"abcde"
    for cut in range(1, len(frames)):
        if cut not in (11, 22):
            with pytest.raises(engine_module.EngineError):
                sandboxes._stdout(frames[:cut])


def test_who_is_first_passes_before_all_who_wait():
    """A bot cannot keep its operator waiting with a crowd of calls."""
    passed: list[str] = []

    async def scene() -> None:
        gate, leave = sandboxes.Gate(), asyncio.Event()

        async def start() -> None:
            async with gate.alone():
                passed.append("start")
                await leave.wait()

        async def call(name: str, *, first: bool = False) -> None:
            async with gate.shared(first=first):
                passed.append(name)

        tasks = [asyncio.create_task(start())]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(call(f"bot {number}")) for number in range(3)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(start()))
        await asyncio.sleep(0)
        gone = asyncio.create_task(call("gone", first=True))
        tasks.append(asyncio.create_task(call("operator", first=True)))
        await asyncio.sleep(0)
        gone.cancel()
        leave.set()
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(scene(), 10))
    assert passed[:2] == ["start", "operator"]
    assert sorted(passed[2:]) == ["bot 0", "bot 1", "bot 2", "start"]
