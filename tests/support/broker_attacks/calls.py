"""Calls that reach for what belongs to others, for execs, and for other parts of the engine's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..broker_client import API, Wire, http
from .attack import MALFORMED, MISSING, REFUSED, Attack, call, create, variants
from .scene import NODE, PROBE, Scene

_IDS, _EXEC, _OTHERS = "foreign ids", "exec tricks", "other API families"
_NOT_MINE = frozenset({403, 404})
_SHELL = ["sh", "-c", "id"]
_EXEC_BODY = {"AttachStdout": True, "AttachStderr": True, "Cmd": _SHELL}

_REFERENCES = {
    "gateway of another bot, by name": "$other", "gateway of another bot, by id": "$other_id",
    "gateway of another bot, by short id": "$other_short", "sandbox of another bot": "$other_sandbox",
    "sandbox of another bot, by id": "$other_sandbox_id", "part of a bot with a similar name": "$lookalike",
    "container with our labels and another name": "$forged", "container with our prefix and no labels": "$unlabelled",
    "own egress": "$egress", "own proxy": "$proxy", "own controller, by id": "$controller_id", "own broker": "$broker",
    "own broker, by short id": "$broker_short",
}  # fmt: skip

FOREIGN = [
    *(
        call(_IDS, f"{verb.rpartition('/')[2]} of the {name}", verb.replace("REF", reference), body, expected=MISSING)
        for name, reference in _REFERENCES.items()
        for verb, body in (("GET /containers/REF/json", None), ("POST /containers/REF/exec", _EXEC_BODY))
    ),
    *(
        call(_IDS, f"{verb} of the {name}", f"POST /containers/{reference}/{verb}", expected=MISSING)
        for name, reference in {
            "other bot's gateway": "$other_id",
            "own broker": "$broker",
            "container with our prefix and no labels": "$unlabelled",
        }.items()
        for verb in ("stop?t=0", "pause", "start")
    ),
    call(_IDS, "removal of the other bot's gateway", "DELETE /containers/$other?force=1", expected=MISSING),
    call(
        _IDS, "removal of the other bot's sandbox", "DELETE /containers/$other_sandbox_id?force=1&v=1", expected=MISSING
    ),
    call(
        _IDS,
        "removal of the part of a bot with a similar name",
        "DELETE /containers/$lookalike?force=1",
        expected=MISSING,
    ),
    call(_IDS, "removal of the own egress", "DELETE /containers/$egress?force=1", expected=MISSING),
    call(_IDS, "unpause of the own proxy", "POST /containers/$proxy/unpause", expected=MISSING, real=False),
    *(
        call(_IDS, f"{verb} of the own gateway", f"{method} /containers/$gateway{tail}", expected=_NOT_MINE)
        for verb, method, tail in (
            ("stop", "POST", "/stop?t=0"),
            ("pause", "POST", "/pause"),
            ("removal", "DELETE", "?force=1"),
            ("start", "POST", "/start"),
        )
    ),
    call(_IDS, "own name with a slash in front", "GET /containers//$sandbox/json", expected=MALFORMED, real=False),
    call(_IDS, "own name with a slash behind", "GET /containers/$sandbox//json", expected=MALFORMED, real=False),
    call(_IDS, "own name with dots", "GET /containers/$sandbox/../$other/json", expected=MALFORMED, real=False),
    call(_IDS, "own name and another", "GET /containers/$sandbox,$other/json", expected=MALFORMED, real=False),
    call(_IDS, "no name", "GET /containers//json", expected=MALFORMED, real=False),
    call(
        _IDS,
        "start of several ids",
        "DELETE /containers/$ambiguous?force=1",
        expected=frozenset({400, 403, 404}),
        real=False,
        audited=False,
    ),
    *variants(
        (
            create(_IDS, f"name of a new one: {name}", {}, new=new, real=real)
            for name, new, real in (
                ("the own gateway's", "$gateway", False),
                ("another bot's", "clawfactory-victim-sbx-new", True),
                ("the own broker's successor", "clawfactory-$bot-broker2", True),
                ("without prefix", "openclaw-sbx-x", True),
                ("prefix only", "clawfactory-$bot-sbx-", True),
                ("none", "", True),
                ("blank in it", "$new%20x", False),
                ("encoded letters", "%63lawfactory-$bot-sbx-new", True),
                ("dots", "$new..%2Fx", False),
                ("slash in front", "/$new", True),
                ("long", "${new}" + "x" * 100, True),
                ("that of a checker", "$checker", True),
                ("uppercase", "CLAWFACTORY-$bot-sbx-new", True),
                ("line break", "$new%0A", False),
                ("twice", "$new&name=evil", True),
                ("with a platform", "$new&platform=linux%2Famd64", True),
            )
        ),
        5,
    ),
    call(_IDS, "name left out", "POST /containers/create", {"Image": "$image"}),
    call(_IDS, "name left out with a query", "POST /containers/create?names=$new", {"Image": "$image"}),
]


def _exec(
    name: str, body: Callable[[Scene], Any], container: str = "$gateway", *, real: bool = True,
    expected: frozenset[int] = REFUSED,
) -> Attack:  # fmt: skip
    def wire(scene: Scene) -> bytes:
        return http("POST", f"{API}/containers/{scene.fill(container)}/exec", json.dumps(body(scene)))

    return Attack(_EXEC, name, wire, (expected,), real=real)


def _in_gateway(name: str, command: list[str]) -> Attack:
    return _exec(name, lambda scene: scene.probe_body(Cmd=command))


def _probe(name: str, real: bool = True, **changes: Any) -> Attack:
    return _exec(f"probe of the gateway {name}", lambda scene: scene.probe_body(**changes), real=real)


def _own(name: str, real: bool = True, **changes: Any) -> Attack:
    return _exec(f"in the own sandbox {name}", lambda scene: scene.exec_body("id", **scene.fill(changes)), "$sandbox",
                 real=real)  # fmt: skip


def upgraded(
    identity: str, body: Any = None, headers: tuple[str, ...] = ("Connection: Upgrade", "Upgrade: tcp")
) -> bytes:
    """Start of an exec as the docker CLI sends it; with other headers if wanted."""
    text = json.dumps({"Detach": False, "Tty": False} if body is None else body)
    return http("POST", f"{API}/exec/{identity}/start", text, *headers, close=False)


def _start_of(name: str, word: str) -> Attack:
    """Start of an exec that the client was not handed."""
    return Attack(_EXEC, name, lambda scene: upgraded(scene.words[word]), (_NOT_MINE,))


def _start(
    name: str,
    body: Any = None,
    headers: tuple[str, ...] = ("Connection: Upgrade", "Upgrade: tcp"),
    *,
    real: bool = True,
) -> Attack:
    def wire(scene: Scene) -> Wire:
        return Wire(((upgraded(scene.fresh_exec("id"), body, headers), 0),))

    return Attack(_EXEC, f"start {name}", wire, (MALFORMED,), real=real)


EXECS = [
    *variants((_in_gateway(f"in the gateway: {name}", command)
      for name, command in {
          "shell": _SHELL, "keys": ["cat", "/run/secrets/gateway.env"], "openclaw": ["openclaw", "devices", "list"],
          "another text": [NODE, "-e", PROBE + "process.exit(0)"], "text with a blank": [NODE, "-e", PROBE + " "],
          "text without its end": [NODE, "-e", PROBE[:-1]], "another node": ["node", "-e", PROBE],
          "node by another path": ["/usr/local/bin/node", "-e", PROBE], "path with dots":
          ["/opt/node/bin/../bin/node", "-e", PROBE], "one more argument": [NODE, "-e", PROBE, "x"],
          "one more option": [NODE, "-r", "/tmp/x", "-e", PROBE], "another option": [NODE, "--eval", PROBE],
          "text printed": [NODE, "-p", PROBE], "less": [NODE, "-e"], "node alone": [NODE]}.items()), 5),
    _exec("in the gateway: nothing", lambda scene: scene.probe_body(Cmd=[]), real=False),
    _exec("in the gateway: command as text", lambda scene: scene.probe_body(Cmd="id"), real=False),
    _exec("in the gateway by id: shell", lambda scene: scene.exec_body(*_SHELL), "$gateway_id"),
    _exec("in the gateway by host name: shell", lambda scene: scene.exec_body(*_SHELL), "$bot-gateway", real=False,
          expected=frozenset({404})),
    _probe("as root", User="0"),
    _probe("as its own user", User="$uid:$uid"),
    _probe("privileged", Privileged=True),
    _probe("with Env", Env=["NODE_OPTIONS=--require=/tmp/x"]),
    _probe("with an empty Env entry", Env=[""], real=False),
    _probe("in another directory", WorkingDir="/tmp"),
    _probe("with a terminal", Tty=True),
    _probe("with keys to detach", DetachKeys="ctrl-a"),
    _probe("detached", Detach=True),
    _probe("with an unknown key", Evil=1),
    _probe("with its key in another case", cmd=_SHELL),
    _own("as root", User="0"),
    _own("as root by name", User="root"),
    _own("in the group root", User="$uid:0"),
    _own("with another user", User="1000:1000"),
    _own("privileged", Privileged=True),
    _own("with keys to detach", DetachKeys="ctrl-p,ctrl-q"),
    _own("in a relative directory", WorkingDir="etc"),
    _own("with a broken Env", Env=["A=x\0B=y"]),
    _own("with Env as an object", Env={"A": "x"}, real=False),
    _own("without a command", Cmd=[], real=False),
    _own("with an empty command", Cmd=None, real=False),
    _own("with 257 arguments", Cmd=["echo"] * 257),
    _own("with 130 KiB of arguments", Cmd=["echo", "x" * 133120]),
    _own("with a number as argument", Cmd=["echo", 1], real=False),
    _own("with NUL in an argument", Cmd=["echo", "x\0y"]),
    _own("with an unknown key", ConsoleSize=[1, 1]),
    _exec("in the own stopped sandbox, as root", lambda scene: scene.exec_body("id", User="0"), "$stopped", real=False),
    *(call(_EXEC, f"{name} of an unknown id", line.replace("ID", "0" * 64), body, expected=_NOT_MINE, real=False,
           audited=False)
      for name, line, body in (
          ("inspect", "GET /exec/ID/json", None), ("resize", "POST /exec/ID/resize?h=1&w=1", None))),
    Attack(_EXEC, "start of an unknown id", lambda scene: upgraded("0" * 64), (_NOT_MINE,), real=False),
    *(
        _start_of(f"start of an exec of {whose}", f"exec_{whose.split()[0]}")
        for whose in ("other bot", "gateway made by another", "sandbox made by another")
    ),
    *(call(_EXEC, f"{name} of an exec of {whose}", line.replace("ID", f"$exec_{whose.split()[0]}"), body,
           expected=_NOT_MINE, real=real)
      for whose in ("other bot", "gateway made by another", "sandbox made by another")
      for name, line, body, real in (
          ("inspect", "GET /exec/ID/json", None, True), ("resize", "POST /exec/ID/resize?h=1&w=1", None, False))),
    call(_EXEC, "short id", "GET /exec/$exec_other_short/json", expected=_NOT_MINE | MALFORMED, real=False),
    call(_EXEC, "name as an id", "GET /exec/$sandbox/json", expected=_NOT_MINE | MALFORMED, real=False),
    _start("detached", {"Detach": True, "Tty": False}),
    _start("with another terminal", {"Detach": False, "Tty": True}),
    _start("with an unknown key", {"Detach": False, "Tty": False, "Evil": 1}),
    _start("with a size of the console", {"Detach": False, "Tty": False, "ConsoleSize": [1, 1]}),
    _start("with keys in another case", {"detach": False, "TTY": False}),
    _start("without an upgrade", headers=("Connection: close",)),
    _start("with the upgrade named, not asked for", headers=("Upgrade: tcp",)),
    _start("with an upgrade of no protocol", headers=("Connection: Upgrade",)),
    _start("as WebSocket", headers=("Connection: Upgrade", "Upgrade: websocket")),
    _start("as h2c", headers=("Connection: Upgrade", "Upgrade: h2c")),
    _start("with two protocols", headers=("Connection: Upgrade", "Upgrade: tcp, websocket")),
    _start("with two upgrades", headers=("Connection: Upgrade", "Upgrade: tcp", "Upgrade: h2c")),
    _start("with more connection options", headers=("Connection: Upgrade, X-Evil", "Upgrade: tcp")),
    Attack(_EXEC, "start of an exec that has been started", lambda scene: Wire((
        (upgraded(started := scene.fresh_exec("sleep", "3")), 0), (upgraded(started), 1500)), answers=2, seconds=8),
        (frozenset({101}),), real=False, audited=False),
    call(_EXEC, "resize beyond all bounds", "POST /exec/$exec_other/resize?h=-1&w=99999999999999999999",
         expected=_NOT_MINE | MALFORMED, real=False),
]  # fmt: skip

_CALLS = {
    "swarm": ["GET /swarm", "GET /swarm/unlockkey", "POST /swarm/unlock", "POST /swarm/update?version=1"],
    "services": ["GET /services", "GET /services/x/logs"],
    "tasks": ["GET /tasks"],
    "nodes": ["GET /nodes", "DELETE /nodes/x"],
    "secrets": ["GET /secrets", "DELETE /secrets/x"],
    "configs": ["GET /configs", "DELETE /configs/x"],
    "plugins": [
        "GET /plugins",
        "POST /plugins/x/enable?timeout=1",
        "DELETE /plugins/x",
        "GET /plugins/privileges?remote=x",
    ],
    "volumes": ["GET /volumes", "POST /volumes/prune?filters=$nothing", "DELETE /volumes/$victim_volume"],
    "networks": ["GET /networks", "DELETE /networks/$victim_network", "POST /networks/prune?filters=$nothing"],
    "engine": [
        "GET /system/df",
        "GET /events?since=1&until=2",
        "POST /auth",
        "GET /distribution/$image/json",
        "POST /session",
        "GET /grpc",
        "GET /_ping/x",
        "POST /_ping",
        "GET /info/x",
        "GET /metrics",
        "GET /debug/pprof/",
        "GET /debug/vars",
        "POST /prune",
        "GET /version/x",
    ],
    "containers": [
        *(
            f"POST /containers/$sandbox/{verb}"
            for verb in (
                "attach?stream=1&stdout=1",
                "kill?signal=KILL",
                "kill?signal=CONT",
                "rename?name=clawfactory-$bot-sbx-y",
                "rename?name=$broker",
                "resize?h=1&w=1",
                "wait",
                "restart?t=0",
                "checkpoints",
                "copy",
            )
        ),
        *(
            f"GET /containers/$sandbox/{verb}"
            for verb in (
                "export",
                "top",
                "stats?stream=0",
                "changes",
                "archive?path=%2Fetc",
                "archive?path=/etc",
                "attach/ws",
                "logs?stdout=1",
                "checkpoints",
            )
        ),
        "HEAD /containers/$sandbox/archive?path=/etc",
        "PUT /containers/$sandbox/archive?path=/workspace",
        "GET /containers/$gateway/export",
        "GET /containers/$gateway/logs?stdout=1",
        "GET /containers/$gateway/top",
        "GET /containers/$gateway/archive?path=/run/secrets/gateway.env",
        "GET /containers/$gateway/stats?stream=0",
        "GET /containers/$broker/archive?path=/run/engine",
        "POST /containers/$broker/update",
        "POST /containers/prune?filters=$nothing",
    ],
}
# They need a swarm, a plugin, a registry, a body or a debugging engine, or are no calls of this engine either.
_NOT_THERE = (
    "/swarm",
    "/services",
    "/tasks",
    "/nodes",
    "/secrets",
    "/configs",
    "plugins/x",
    "/plugins/privileges",
    "/auth",
    "/distribution",
    "/session",
    "/grpc",
    "/x",
    "POST /_ping",
    "/metrics",
    "/debug",
    "POST /prune",
    "checkpoints",
    "/copy",
    "resize",
    "/wait",
    "attach/ws",
    "PUT ",
    "archive?path=/run/engine",
    "/update",
)

# One of each family is tried in every run.
FAMILIES = [
    *(
        replace(
            call(
                _OTHERS, f"{family}: {line}", line, expected=REFUSED, real=not any(each in line for each in _NOT_THERE)
            ),
            variant=number % 3 != 0,
        )
        for family, lines in _CALLS.items()
        for number, line in enumerate(lines)
    ),
    call(_OTHERS, "network made", "POST /networks/create", {"Name": "evil", "CheckDuplicate": True, "Internal": False}),
    call(
        _OTHERS,
        "sandbox put on a network",
        "POST /networks/$victim_network/connect",
        {"Container": "$sandbox"},
        real=False,
    ),
    call(_OTHERS, "gateway put on a network", "POST /networks/$victim_network/connect", {"Container": "$gateway"}),
    call(
        _OTHERS,
        "egress taken off its network",
        "POST /networks/$victim_network/disconnect",
        {"Container": "$other", "Force": True},
    ),
    call(
        _OTHERS,
        "volume made of a directory",
        "POST /volumes/create",
        {"Name": "evil", "Driver": "local", "DriverOpts": {"type": "none", "o": "bind", "device": "/etc"}},
    ),
    call(_OTHERS, "swarm begun", "POST /swarm/init", {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}),
    call(_OTHERS, "swarm joined", "POST /swarm/join", {"RemoteAddrs": ["127.0.0.1:1"], "JoinToken": "x"}, real=False),
    call(
        _OTHERS,
        "service made",
        "POST /services/create",
        {"Name": "evil", "TaskTemplate": {"ContainerSpec": {"Image": "$image"}}},
        real=False,
    ),
    call(_OTHERS, "secret made", "POST /secrets/create", {"Name": "evil", "Data": "eA=="}, real=False),
    call(_OTHERS, "config made", "POST /configs/create", {"Name": "evil", "Data": "eA=="}, real=False),
    call(_OTHERS, "plugin pulled", "POST /plugins/pull?remote=evil/x", [], real=False),
    call(_OTHERS, "plugin made", "POST /plugins/create?name=evil", real=False),
    call(_OTHERS, "login", "POST /auth", {"username": "x", "password": "y"}, real=False),
]
