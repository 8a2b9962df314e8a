from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from clawfactory_core.adapters.gateway_container import GatewayContainer
from clawfactory_core.container import spec_digest
from clawfactory_core.errors import Conflict, CoreError
from clawfactory_core.promotion.gateway import GatewayControl
from tests.support.engine import engine_server

NAME = "clawfactory-bot1-gateway"
LIVE, NEXT = f"/containers/{NAME}", f"/containers/{NAME}-next"
HOME = "/home/node/.openclaw"


class Scene:
    """An engine with a running gateway, and the files it is made of."""

    def __init__(self, server: Any, top: Any, port: int) -> None:
        self.server, self.top = server, top
        self.approved = top / "bot_repos" / "bot1" / "approved"
        self.state = f"{self.approved.parent}/state"
        self.definition = {
            "name": NAME, "image": "i:1", "memory_mb": 2048,
            "mounts": [self.mount("/workspace"), self.entry("SOUL.md"), self.entry("skills")],
        }  # fmt: skip
        self.file = top / "gateway.json"
        self.file.write_text(json.dumps(self.definition))
        self.control = GatewayContainer(
            "bot1", definition=self.file, approved=self.approved, lockfile=top / "lock", port=port, stop_seconds=7,
            path="engine.sock",
        )  # fmt: skip
        self.inspection = self.inspect()
        server.answers.update(
            {
                f"{LIVE}/json": (200, self.inspection),
                f"POST {LIVE}/stop": (204, b""),
                f"POST {LIVE}/start": (204, b""),
                f"POST {NEXT}/rename": (204, b""),
                "POST /containers/create": (201, {"Id": "new"}),
                f"DELETE {LIVE}": (204, b""),
                f"DELETE {NEXT}": (204, b""),
                "/containers/json": (200, [{"Id": "sandbox"}]),
                "DELETE /containers/sandbox": (204, b""),
            }
        )

    def mount(self, path: str) -> dict[str, Any]:
        return {"source": f"{self.state}{path}", "target": f"{HOME}{path}", "type": "bind", "read_only": False}

    def entry(self, name: str) -> dict[str, Any]:
        return {
            "source": f"{self.approved}/workspace/{name}",
            "target": f"{HOME}/workspace/{name}",
            "type": "bind",
            "read_only": True,
        }

    def inspect(self) -> dict[str, Any]:
        mounts = [
            {"Type": "bind", "Source": m["source"], "Target": m["target"], "ReadOnly": m["read_only"]}
            for m in self.definition["mounts"]  # type: ignore[attr-defined]
        ]
        return {
            "Id": "0123456789abcdef",
            "Name": f"/{NAME}",
            "RestartCount": 0,
            "State": {"Status": "running", "Running": True},
            "Config": {
                "Image": "i:1", "User": "20001:20001", "Env": ["A=b"], "Hostname": "bot1-gateway",
                "Labels": {"clawfactory.bot": "bot1", "clawfactory.spec": spec_digest(self.definition)},
            },
            "HostConfig": {
                "Mounts": mounts, "ReadonlyRootfs": True, "CapDrop": ["ALL"], "NetworkMode": "n",
                "RestartPolicy": {"Name": "unless-stopped"},
            },
            "NetworkSettings": {
                "Networks": {
                    "n": {
                        "IPAMConfig": {"IPv4Address": "10.213.0.3"}, "Aliases": ["gateway", "0123456789ab"],
                        "MacAddress": "02:42:0a:d5:00:03", "IPAddress": "10.213.0.3",
                    }
                }
            },
        }  # fmt: skip

    def changes(self) -> list[str]:
        """What was changed on the engine, in the order of the answers that were needed."""
        return self.server.order


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" and self.server.ready else 503)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        server.ready = True  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def scene(tmp_path, monkeypatch, port):
    monkeypatch.chdir(tmp_path)
    with engine_server("engine.sock") as server:
        order: list[str] = []
        send = GatewayContainer._send

        def sending(self, method, path, body, expected):
            order.append(f"{method} {path}")
            return send(self, method, path, body, expected)

        monkeypatch.setattr(GatewayContainer, "_send", sending)
        server.order = order
        yield Scene(server, tmp_path, port.server_address[1])


ENTRIES = [{"name": "SOUL.md", "kind": "file"}, {"name": "tools", "kind": "directory"}]


def test_it_is_what_a_promotion_asks_of_a_gateway(scene):
    control: GatewayControl = scene.control
    assert control.running()


@pytest.mark.parametrize(("status", "running"), [("restarting", True), ("paused", True), ("exited", False)])
def test_what_is_about_to_run_runs(scene, status, running):
    scene.inspection["State"]["Status"] = status
    assert scene.control.running() is running


def test_restart_ends_the_sandboxes_between_stop_and_start(scene):
    scene.control.restart()
    assert scene.changes() == [
        f"POST {LIVE}/stop?t=7", "DELETE /containers/sandbox?force=true&v=true", f"POST {LIVE}/start",
    ]  # fmt: skip


def test_locked_bot_is_not_started(scene):
    (scene.top / "lock").touch()
    with pytest.raises(Conflict, match="locked"):
        scene.control.restart()
    assert f"POST {LIVE}/start" not in scene.changes()


def test_lock_between_look_and_start_stops_it_again(scene, monkeypatch):
    scene.server.answers[f"POST {LIVE}/update"] = (200, {})
    scene.server.answers[f"POST {LIVE}/kill"] = (204, b"")
    send = scene.control._send

    def locking(method, path, body, expected):
        if path.endswith("/start"):
            (scene.top / "lock").touch()
        return send(method, path, body, expected)

    monkeypatch.setattr(scene.control, "_send", locking)
    with pytest.raises(Conflict, match="was just started, and has been stopped"):
        scene.control.restart()
    assert scene.server.posted[f"{LIVE}/update"] == {"RestartPolicy": {"Name": "no"}}
    assert f"POST {LIVE}/kill" in scene.changes()


def test_recreation_changes_mounts_and_label_only(scene):
    scene.control.recreate(ENTRIES, start=True)
    body = scene.server.posted["/containers/create"]
    wanted = {**scene.definition, "mounts": [scene.mount("/workspace"), scene.entry("SOUL.md"), scene.entry("tools")]}
    assert [mount["Target"] for mount in body["HostConfig"]["Mounts"]] == [
        f"{HOME}/workspace", f"{HOME}/workspace/SOUL.md", f"{HOME}/workspace/tools",
    ]  # fmt: skip
    assert all(mount["ReadOnly"] for mount in body["HostConfig"]["Mounts"][1:])
    assert body["Labels"] == {"clawfactory.bot": "bot1", "clawfactory.spec": spec_digest(wanted)}
    assert json.loads(scene.file.read_text()) == wanted
    before = scene.inspection
    assert {**body["HostConfig"], "Mounts": 0} == {**before["HostConfig"], "Mounts": 0}
    assert {key: body[key] for key in ("Image", "User", "Env", "Hostname")} == {
        key: before["Config"][key] for key in ("Image", "User", "Env", "Hostname")
    }
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "n": {"IPAMConfig": {"IPv4Address": "10.213.0.3"}, "Aliases": ["gateway"]}
    }


def test_old_one_goes_after_the_new_one_is_made(scene):
    scene.control.recreate(ENTRIES, start=True)
    assert scene.changes()[:4] == [
        f"POST /containers/create?name={NAME}-next",
        f"POST {LIVE}/stop?t=7",
        "DELETE /containers/sandbox?force=true&v=true",
        f"DELETE {LIVE}?force=true",
    ]
    assert scene.changes()[-1] == f"POST {LIVE}/start"


def test_old_one_stays_if_the_engine_refuses_the_new(scene):
    scene.server.answers["POST /containers/create"] = (400, {"message": "no"})
    with pytest.raises(CoreError, match="400 to POST /containers/create"):
        scene.control.recreate(ENTRIES, start=True)
    assert scene.changes() == [f"POST /containers/create?name={NAME}-next"]
    assert json.loads(scene.file.read_text()) == scene.definition


def test_container_of_another_definition_is_left_to_its_role(scene):
    scene.inspection["Config"]["Labels"]["clawfactory.spec"] = "0" * 16
    scene.control.recreate(ENTRIES, start=False)
    assert scene.server.posted["/containers/create"]["Labels"]["clawfactory.spec"] == "unknown"
    assert json.loads(scene.file.read_text()) == scene.definition
    assert f"POST {LIVE}/start" not in scene.changes()


def test_crash_before_the_old_one_went_starts_anew(scene):
    scene.server.answers[f"{NEXT}/json"] = (200, scene.inspect())
    scene.control.recreate(ENTRIES, start=True)
    assert scene.changes()[0] == f"DELETE {NEXT}?force=true"


def test_crash_after_the_old_one_went_completes_it(scene):
    del scene.server.answers[f"{LIVE}/json"]
    scene.server.answers[f"{NEXT}/json"] = (200, scene.inspect())
    assert scene.control.running()
    scene.control.restart()
    assert scene.changes()[0] == f"POST {NEXT}/rename?name={NAME}"
    assert scene.changes()[-1] == f"POST {LIVE}/start"


def test_no_container_is_told(scene):
    del scene.server.answers[f"{LIVE}/json"]
    for ask in (scene.control.running, lambda: scene.control.recreate(ENTRIES, start=True)):
        with pytest.raises(Conflict, match=r"site.yml -l bot1"):
            ask()


def test_ready_by_the_proxy(scene, port):
    assert scene.control.ready(5)
    port.ready = False
    assert not scene.control.ready(0.3)
    threading.Timer(0.4, lambda: setattr(port, "ready", True)).start()
    assert scene.control.ready(10)


def test_gateway_that_keeps_ending_is_not_waited_for(scene, port):
    port.ready = False
    scene.inspection["RestartCount"] = 3
    assert not scene.control.ready(600)


def test_locked_bot_is_not_waited_for(scene, port):
    port.ready = False
    (scene.top / "lock").touch()
    assert not scene.control.ready(600)


def test_last_words_without_the_engines_framing(scene):
    frames = b"".join(
        bytes([kind, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for kind, text in ((1, b"a\n"), (2, b"b\n"))
    )
    scene.server.answers[f"{LIVE}/logs"] = (200, frames)
    assert scene.control.last_words() == "a\nb"
    scene.server.answers[f"{LIVE}/logs"] = (500, {})
    assert scene.control.last_words() == ""


def test_a_restore_stops_it_with_its_sandboxes_and_starts_it(scene):
    scene.control.stop()
    assert scene.changes() == [f"POST {LIVE}/stop?t=7", "DELETE /containers/sandbox?force=true&v=true"]
    scene.control.start()
    assert scene.changes()[-1] == f"POST {LIVE}/start"


def test_a_locked_one_is_not_started_after_a_restore(scene):
    (scene.top / "lock").touch()
    with pytest.raises(Conflict, match="locked"):
        scene.control.start()
    assert scene.changes() == []
