"""Who may call what: the table of each client, foreign ids, execs of the other client."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from broker_app import clients
from tests.unit.broker_app.fake_engine import reply
from tests.unit.broker_app.running import BOT, EXEC, IMAGE, IMAGE_ID, PROBE, exec_start

V = "/v1.41"
SANDBOX = f"{V}/containers/clawfactory-bot1-sbx-a"
GATEWAY = f"{V}/containers/clawfactory-bot1-gateway"
CREATE = {
    "Image": IMAGE,
    "Cmd": ["sleep", "infinity"],
    "WorkingDir": "/workspace",
    "Labels": {"openclaw.sandbox": "1"},
    "HostConfig": {"Binds": None, "NetworkMode": "none"},
}
NAMED = f"{V}/containers/create?name=clawfactory-bot1-sbx-new"

#: Whatever the engine can do beyond the table, one of each family, for both clients.
NOBODY = [
    ("POST", f"{V}/images/create?fromImage=x"),
    ("GET", f"{V}/images/json"),
    ("DELETE", f"{V}/images/x"),
    ("POST", f"{V}/build"),
    ("POST", f"{V}/commit"),
    ("POST", f"{V}/containers/prune"),
    ("POST", f"{SANDBOX}/kill"),
    ("POST", f"{SANDBOX}/update"),
    ("POST", f"{SANDBOX}/rename?name=x"),
    ("POST", f"{SANDBOX}/attach?stream=1"),
    ("GET", f"{SANDBOX}/attach/ws"),
    ("GET", f"{SANDBOX}/archive?path=/"),
    ("PUT", f"{SANDBOX}/archive?path=/"),
    ("HEAD", f"{SANDBOX}/archive?path=/"),
    ("GET", f"{SANDBOX}/export"),
    ("GET", f"{SANDBOX}/changes"),
    ("GET", f"{SANDBOX}/top"),
    ("GET", f"{SANDBOX}/stats"),
    ("POST", f"{SANDBOX}/wait"),
    ("POST", f"{SANDBOX}/resize?h=1&w=1"),
    ("GET", f"{V}/networks"),
    ("POST", f"{V}/networks/create"),
    ("POST", f"{V}/networks/x/connect"),
    ("DELETE", f"{V}/networks/x"),
    ("GET", f"{V}/volumes"),
    ("POST", f"{V}/volumes/create"),
    ("POST", f"{V}/plugins/pull"),
    ("GET", f"{V}/plugins"),
    ("POST", f"{V}/swarm/init"),
    ("GET", f"{V}/swarm"),
    ("POST", f"{V}/services/create"),
    ("GET", f"{V}/events"),
    ("GET", f"{V}/system/df"),
    ("POST", f"{V}/auth"),
    ("GET", f"{V}/distribution/x/json"),
    ("POST", f"{V}/session"),
    ("POST", f"{V}/grpc"),
    ("POST", "/_ping"),
    ("GET", "/info"),
    ("GET", "/v1.40/info"),
    ("GET", "/v1.42/info"),
    ("GET", "/v1.041/info"),
    ("GET", "/v1.41/v1.41/info"),
    ("GET", "/V1.41/info"),
    ("GET", f"{V}/Info"),
    ("GET", f"{V}/containers/JSON"),
    ("GET", "/debug/vars"),
    ("GET", "/metrics"),
    ("OPTIONS", f"{V}/info"),
    ("TRACE", f"{V}/info"),
    ("PATCH", f"{SANDBOX}/json"),
]
GATEWAY_ONLY = [
    ("GET", f"{V}/info"),
    ("GET", f"{V}/images/{IMAGE}/json"),
    ("POST", NAMED),
    ("POST", f"{SANDBOX}/pause"),
    ("POST", f"{SANDBOX}/unpause"),
    ("DELETE", f"{SANDBOX}?force=1"),
    ("GET", f"{V}/networks/x"),
]
CONTROLLER_ONLY = [("POST", f"{GATEWAY}/restart"), ("GET", f"{GATEWAY}/logs?stdout=1")]


@pytest.mark.parametrize(("method", "target"), NOBODY)
@pytest.mark.parametrize("client", ["gateway", "controller"])
def test_nobody_may(broker, engine, client, method, target):
    heard = len(engine.heard)
    answer = broker.raw(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), client)
    assert answer.startswith(b"HTTP/1.1 403")
    assert len(engine.heard) == heard
    (line,) = broker.audit()
    assert (line["client"], line["method"], line["path"]) == (client, method, target.partition("?")[0])


@pytest.mark.parametrize(
    ("client", "method", "target"),
    [("controller", *call) for call in GATEWAY_ONLY] + [("gateway", *call) for call in CONTROLLER_ONLY],
)
def test_what_only_the_other_may(broker, engine, client, method, target):
    heard = len(engine.heard)
    assert broker.call(method, target, client=client).status == 403
    assert len(engine.heard) == heard


FOREIGN = {
    "another bot's sandbox": {"name": "clawfactory-bot2-sbx-a", "bot": "bot2", "service": "sandbox"},
    "another bot's gateway": {"name": "clawfactory-bot2-gateway", "bot": "bot2", "service": "gateway"},
    "a stranger": {"name": "postgres"},
    "our name, no labels": {"name": "clawfactory-bot1-sbx-x"},
    "our name, another's labels": {"name": "clawfactory-bot1-sbx-x", "bot": "bot2", "service": "sandbox"},
    "our labels, another name": {"name": "clawfactory-bot2-sbx-x", "bot": "bot1", "service": "sandbox"},
    "our labels, a part's name": {"name": "clawfactory-bot1-broker", "bot": "bot1", "service": "sandbox"},
    "our broker": {"name": "clawfactory-bot1-broker", "bot": "bot1", "service": "broker"},
    "our proxy": {"name": "clawfactory-bot1-proxy", "bot": "bot1", "service": "proxy"},
    "a gateway by its label only": {"name": "clawfactory-bot1-gateway2", "bot": "bot1", "service": "gateway"},
    "a check": {"name": "clawfactory-bot1-sbx-check-1", "bot": "bot1", "service": "sandbox", "check": "1"},
    "a check with a sandbox's name": {
        "name": "clawfactory-bot1-sbx-y",
        "bot": "bot1",
        "service": "sandbox",
        "check": "1",
    },
}
ON_A_CONTAINER = [
    ("GET", "/json", None),
    ("POST", "/start", None),
    ("POST", "/stop?t=1", None),
    ("POST", "/pause", None),
    ("POST", "/unpause", None),
    ("POST", "/exec", EXEC),
    ("DELETE", "?force=1", None),
]


@pytest.mark.parametrize("by", ["name", "id", "short id"])
@pytest.mark.parametrize("options", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_container_looks_like_none(broker, engine, options, by):
    box = engine.add(**options)
    reference = {"name": box.name, "id": box.id, "short id": box.id[:12]}[by]
    for method, action, body in ON_A_CONTAINER:
        engine.heard.clear()
        there = broker.call(method, f"{V}/containers/{reference}{action}", body)
        missing = broker.call(method, f"{V}/containers/nothing{action}", body)
        assert there.status == missing.status == 404
        assert there.message == f"No such container: {reference}"
        assert missing.message == "No such container: nothing"
        assert there.headers.keys() == missing.headers.keys()
        assert [one.method for one in engine.heard] == ["GET", "GET"], "more than inspect was asked"
    asked = Counter(line["path"].split("/")[3].partition("?")[0] for line in broker.audit())
    assert asked == {reference: len(ON_A_CONTAINER), "nothing": len(ON_A_CONTAINER)}
    assert box.state == "running"


@pytest.mark.parametrize("reference", ["clawfactory-bot1-sbx-gone", "clawfactory-bot1-gateway2", "ab" * 32, "ab" * 6])
def test_who_looks_for_what_may_be_his_is_not_refused(broker, reference):
    assert broker.call("GET", f"{V}/containers/{reference}/json").status == 404
    assert len(broker.audit()) == (reference == "clawfactory-bot1-gateway2")


@pytest.mark.parametrize(
    ("method", "action", "body"), [row for row in ON_A_CONTAINER if row[1] not in ("/json", "/exec")]
)
def test_the_gateway_cannot_touch_itself(broker, engine, method, action, body):
    assert broker.call(method, f"{GATEWAY}{action}", body).status == 404
    assert engine.named("clawfactory-bot1-gateway").state == "running"
    assert len(broker.audit()) == 1


def test_the_id_is_used_and_not_the_name(broker, engine):
    box = engine.named("clawfactory-bot1-sbx-a")
    for method, action, body in ON_A_CONTAINER:
        broker.call(method, f"{SANDBOX}{action}", body)
    changing = [one for one in engine.heard if one.method != "GET" and one.path.startswith("/containers/")]
    assert changing
    assert all(one.path.startswith(f"/containers/{box.id}") for one in changing)


def test_the_gateway_sees_its_own_and_no_more(broker, engine):
    for options in FOREIGN.values():
        engine.add(**options)
    names = [item["Names"] for item in broker.call("GET", f"{V}/containers/json?all=1").json]
    assert names == [["/clawfactory-bot1-sbx-a"]]
    answer = broker.call(
        "GET", f"{V}/containers/json?all=1&filters=%7B%22label%22%3A%7B%22clawfactory.bot%3Dbot2%22%3Atrue%7D%7D"
    )
    assert answer.json == []
    assert broker.call("GET", f"{V}/info").json["Containers"] == 1


def test_the_controller_sees_the_bot(broker, engine):
    engine.add("clawfactory-bot1-proxy", bot=BOT, service="proxy")
    engine.add("clawfactory-bot2-proxy", bot="bot2", service="proxy")
    answer = broker.call("GET", f"{V}/containers/json?all=1", client="controller")
    names = {item["Names"][0] for item in answer.json}
    assert names == {f"/clawfactory-bot1-{part}" for part in ("gateway", "sbx-a", "proxy")}


def test_the_controller_works_parts_and_nothing_else(broker, engine):
    engine.add("clawfactory-bot1-broker", bot=BOT, service="broker")
    assert broker.call("POST", f"{GATEWAY}/restart?t=5", client="controller").status == 204
    assert engine.heard[-1].query == {"t": "5"}
    assert broker.call("POST", f"{GATEWAY}/stop", client="controller").status == 204
    assert engine.heard[-1].query == {"t": "10"}
    assert broker.call("POST", f"{GATEWAY}/start", client="controller").status == 204
    for reference in ("clawfactory-bot1-broker", "clawfactory-bot1-sbx-a"):
        for action in ("restart", "stop", "start"):
            assert broker.call("POST", f"{V}/containers/{reference}/{action}", client="controller").status == 404
    assert broker.call("GET", f"{V}/containers/clawfactory-bot1-broker/json", client="controller").status == 200


def test_the_controller_runs_listed_commands_in_the_gateway_alone(broker, engine):
    bare = EXEC | {"AttachStdin": False}
    allowed = bare | {"Cmd": ["openclaw", "devices", "list", "--json"]}
    assert broker.call("POST", f"{GATEWAY}/exec", allowed, client="controller").status == 201
    assert broker.call("POST", f"{GATEWAY}/exec", bare | {"Cmd": ["sh"]}, client="controller").status == 403
    assert broker.call("POST", f"{GATEWAY}/exec", bare | {"Cmd": PROBE}, client="controller").status == 403
    assert broker.call("POST", f"{SANDBOX}/exec", allowed, client="controller").status == 404
    assert len(engine.calls("POST", "/exec")) == 1


def test_the_gateway_runs_its_probe_in_itself_and_nothing_else(broker, engine):
    bare = EXEC | {"AttachStdin": False}
    assert broker.call("POST", f"{GATEWAY}/exec", bare | {"Cmd": PROBE}).status == 201
    assert engine.heard[-1].body["Cmd"] == PROBE
    assert broker.call("POST", f"{GATEWAY}/exec", bare | {"Cmd": [*PROBE, "x"]}).status == 403
    assert broker.call("POST", f"{GATEWAY}/exec", bare | {"Cmd": ["sh"]}).status == 403
    assert broker.call("POST", f"{GATEWAY}/exec", EXEC | {"Cmd": PROBE}).status == 403
    assert len(engine.calls("POST", "/exec")) == 1


def test_an_exec_belongs_to_the_client_that_made_it(broker, engine):
    box = engine.named("clawfactory-bot1-sbx-a")
    exec_id = broker.open_exec(box)
    unknown = "0" * 64
    assert broker.call("GET", f"{V}/exec/{exec_id}/json").status == 200
    assert broker.call("POST", f"{V}/exec/{exec_id}/resize?h=24&w=80").status == 200
    engine.heard.clear()
    for client, other in (("controller", exec_id), ("gateway", unknown), ("controller", unknown)):
        assert broker.call("GET", f"{V}/exec/{other}/json", client=client).status == 404
        assert broker.call("POST", f"{V}/exec/{other}/resize?h=24&w=80", client=client).status == 404
        assert broker.raw(exec_start(other), client).startswith(b"HTTP/1.1 404")
    assert engine.heard == []
    assert len(broker.audit()) == 9


def test_execs_the_engine_has_but_nobody_was_handed(broker, engine):
    engine.execs["ab" * 32] = {"Running": True}
    assert broker.call("GET", f"{V}/exec/{'ab' * 32}/json").status == 404


@pytest.mark.parametrize(
    "body", [{"Detach": True, "Tty": False}, {"Detach": False, "Tty": True}, {"detach": False}, {"X": 1}]
)
def test_an_exec_is_started_only_as_it_was_made(broker, engine, body):
    from tests.unit.broker_app.running import request

    exec_id = broker.open_exec(engine.named("clawfactory-bot1-sbx-a"))
    start = request("POST", f"{V}/exec/{exec_id}/start", body, "Connection: Upgrade", "Upgrade: tcp")
    assert re.match(rb"HTTP/1\.1 40[03]", broker.raw(start))
    assert not engine.calls("POST", "/start")


def test_an_exec_is_not_started_without_the_upgrade(broker, engine):
    exec_id = broker.open_exec(engine.named("clawfactory-bot1-sbx-a"))
    assert broker.call("POST", f"{V}/exec/{exec_id}/start", {"Detach": False, "Tty": False}).status == 400
    assert not engine.calls("POST", "/start")


def test_execs_that_nobody_starts_come_to_an_end(broker, engine, monkeypatch):
    monkeypatch.setattr(clients, "MAX_PENDING_EXECS", 5)
    box = engine.named("clawfactory-bot1-sbx-a")
    first = [broker.open_exec(box) for _ in range(5)]
    assert broker.call("POST", f"{SANDBOX}/exec", EXEC).status == 429
    monkeypatch.setattr(clients, "PENDING_SECONDS", 0.0)
    broker.open_exec(box)
    assert broker.raw(exec_start(first[0])).startswith(b"HTTP/1.1 404")


def test_execs_whose_start_the_engine_refuses_are_counted_as_not_started(broker, engine, monkeypatch):
    """In a paused sandbox, say: the engine keeps them for as long as their container."""
    monkeypatch.setattr(clients, "MAX_PENDING_EXECS", 5)

    async def refuse(heard, reader, writer):
        await reply(writer, 409, {"message": "container is paused"})

    engine.behaviours["POST /exec/.*/start"] = refuse
    box = engine.named("clawfactory-bot1-sbx-a")
    for _ in range(5):
        with broker.connect() as wire:
            wire.send(exec_start(broker.open_exec(box)))
            assert wire.answer().status == 409
    assert broker.call("POST", f"{SANDBOX}/exec", EXEC).status == 429


def test_a_container_takes_only_so_many_execs_that_nobody_starts(broker, engine, monkeypatch):
    monkeypatch.setattr(clients, "PENDING_SECONDS", 0.0)
    monkeypatch.setattr(clients, "MAX_ABANDONED_EXECS", 5)
    box = engine.named("clawfactory-bot1-sbx-a")
    for _ in range(5):
        broker.open_exec(box)
    answer = broker.call("POST", f"{SANDBOX}/exec", EXEC)
    assert (answer.status, "never started" in answer.message) == (429, True)
    engine.add("clawfactory-bot1-sbx-b", bot=BOT, service="sandbox")
    assert broker.call("POST", f"{V}/containers/clawfactory-bot1-sbx-b/exec", EXEC).status == 201


@pytest.mark.parametrize(("client", "name", "seconds"), [("gateway", "sbx-a", "10"), ("controller", "gateway", "60")])
def test_a_bot_cannot_have_its_sandbox_waited_for(broker, engine, client, name, seconds):
    """While one is being stopped none starts, and what the operator asks for may have to wait as well."""
    broker.call("POST", f"{V}/containers/clawfactory-bot1-{name}/stop?t=60", client=client)
    (call,) = engine.calls("POST", "/stop")
    assert call.query == {"t": seconds}


def test_create_is_built_anew(broker, engine):
    answer = broker.call("POST", NAMED, CREATE)
    assert answer.status == 201
    assert answer.json["Warnings"] == []
    (made,) = engine.calls("POST", "/containers/create")
    assert made.query == {"name": "clawfactory-bot1-sbx-new"}
    assert made.body["Image"] == IMAGE_ID
    assert made.body["HostConfig"]["CapDrop"] == ["ALL"]
    again = broker.call("POST", NAMED, CREATE)
    assert again.status == 409
    assert "00aa" not in again.message


def test_create_is_refused_without_a_word_to_the_engine_that_changes_it(broker, engine):
    for body in (
        CREATE | {"Image": "debian"},
        CREATE | {"HostConfig": {"Privileged": True}},
        CREATE | {"hostconfig": {}},
        {},
        b"[]",
        b'{"Image":"a","Image":"b"}',
        b"\xff",
        b"{",
    ):
        assert broker.call("POST", NAMED, body).status in (400, 403)
    assert broker.call("POST", f"{V}/containers/create?name=clawfactory-bot2-sbx-a", CREATE).status == 403
    assert broker.call("POST", f"{V}/containers/create", CREATE).status == 400
    assert not engine.calls("POST")


def test_images_are_those_of_the_list(broker, engine):
    assert broker.call("GET", f"{V}/images/{IMAGE}/json").json["Id"] == IMAGE_ID
    assert broker.call("GET", f"{V}/images/{IMAGE_ID}/json").json["Id"] == IMAGE_ID
    assert {one.path for one in engine.calls("GET", "/images")} == {f"/images/{IMAGE_ID}/json"}
    for other in ("debian", "library/debian:trixie", "sha256:" + "0" * 64, IMAGE_ID[:20], "clawfactory-sandbox"):
        answer = broker.call("GET", f"{V}/images/{other}/json")
        assert (answer.status, answer.message) == (404, f"No such image: {other}")
    assert len(engine.calls("GET", "/images")) == 2


#: What `docker inspect` asks for when a name is not a container's.
INSPECTED = [
    *(f"{V}/{kind}/{{}}" for kind in ("networks", "volumes", "services", "tasks", "secrets", "configs", "nodes")),
    f"{V}/plugins/{{}}/json",
    f"{V}/images/{{}}/json",
]


@pytest.mark.parametrize("target", INSPECTED)
def test_what_docker_inspect_asks_for_is_never_there(broker, engine, target):
    """It asks in vain before each new sandbox, which is no refusal; who asks for anything else is written down."""
    heard = len(engine.heard)
    assert broker.call("GET", target.format("clawfactory-bot1-sbx-new")).status == 404
    assert broker.audit() == []
    for other in ("clawfactory-bot1-inside", "bridge", "clawfactory-bot2-sbx-a"):
        answer = broker.call("GET", target.format(other))
        assert (answer.status, other in answer.message) == (404, True)
    assert [(line["status"], line["path"]) for line in broker.audit()] == [
        (404, target.format(other)) for other in ("clawfactory-bot1-inside", "bridge", "clawfactory-bot2-sbx-a")
    ]
    assert len(engine.heard) == heard


def test_start_of_an_id_is_refused_and_written_down(broker, engine):
    """Letter by letter it would tell others' ids."""
    heard = len(engine.heard)
    assert broker.call("GET", f"{V}/containers/abc/json").status == 404
    assert [line["status"] for line in broker.audit()] == [404]
    assert len(engine.heard) == heard


def test_logs_are_passed_on_and_bounded(broker, engine, monkeypatch):
    from broker_app import server

    answer = broker.raw(
        b"GET " + GATEWAY.encode() + b"/logs?stdout=1&tail=7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "controller",
    )
    assert engine.mountinfo.encode() in answer
    assert engine.heard[-1].query == {"stdout": "1", "tail": "7"}
    assert broker.call("GET", f"{GATEWAY}/logs?tail=5001", client="controller").status == 400

    async def endless(heard, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    engine.behaviours["GET /containers/.*/logs"] = endless
    monkeypatch.setattr(server, "LOG_BYTES", 100_000)
    answer = broker.raw(
        b"GET " + GATEWAY.encode() + b"/logs?stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "controller"
    )
    assert 100_000 <= len(answer) < 400_000


def test_a_log_that_is_followed_ends_with_its_client(broker, engine, monkeypatch):
    import asyncio

    from broker_app import streams
    from tests.unit.broker_app.running import descriptors, eventually

    async def quiet(heard, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nline\r\n")
        await writer.drain()
        await reader.read()
        await asyncio.sleep(0)

    engine.behaviours["GET /containers/.*/logs"] = quiet
    monkeypatch.setattr(streams, "_TICK_SECONDS", 0.05)
    before = descriptors()
    for _ in range(70):  # more than there are places
        with broker.connect("controller") as wire:
            wire.send(f"GET {GATEWAY}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert wire.answer().status == 200
            assert b"line" in wire.read(9)
    eventually(lambda: descriptors() <= before and not engine.open)
