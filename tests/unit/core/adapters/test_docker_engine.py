from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path

import pytest

from clawfactory_core.adapters.docker_engine import run_once
from clawfactory_core.errors import CoreError, MissingDependency
from tests.support.engine import EngineServer, engine_server


def frame(stream: int, text: str) -> bytes:
    """One chunk of output as the engine multiplexes it: 1 is stdout, 2 is stderr."""
    return struct.pack(">BxxxL", stream, len(text.encode())) + text.encode()


@pytest.fixture
def server(monkeypatch):
    # tmp_path is too long: a Unix socket's path is limited to 107 characters, and the SDK takes no relative one.
    with tempfile.TemporaryDirectory() as directory, engine_server(Path(directory) / "engine.sock") as server:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{directory}/engine.sock")
        prefix = "/containers/c1"
        server.answers = {
            "/images/gateway:1/json": (200, {"Id": "sha256:1"}),
            "/version": (200, {"ApiVersion": "1.41", "Version": "20.10.24"}),
            "POST /containers/create": (201, {"Id": "c1"}),
            f"{prefix}/json": (
                200,
                {"Id": "c1", "Config": {"Tty": False}, "HostConfig": {"LogConfig": {"Type": "json-file"}}},
            ),
            f"POST {prefix}/start": (204, b""),
            f"POST {prefix}/wait": (200, {"StatusCode": 0}),
            f"{prefix}/logs": (200, frame(1, "Config valid\n") + frame(2, "é\n")),
            f"DELETE {prefix}": (204, b""),
        }
        yield server


def validate() -> str:
    mount = (Path("/srv/candidate"), "/etc/openclaw")
    return run_once("gateway:1", ["openclaw", "config", "validate"], user="20001:20001", mount=mount, env={"A": "1"})


def test_output_comes_back_and_the_container_goes(server: EngineServer):
    assert validate() == "Config valid\né\n"
    assert "DELETE /containers/c1" in server.requests


def test_container_has_no_rights(server: EngineServer):
    validate()
    asked = server.posted["/containers/create"]
    host = asked["HostConfig"]
    assert (asked["Image"], asked["User"], asked["Env"]) == ("gateway:1", "20001:20001", ["A=1"])
    assert asked["Cmd"] == ["openclaw", "config", "validate"]
    assert host["Binds"] == ["/srv/candidate:/etc/openclaw:ro"]
    assert host["NetworkMode"] == "none" and host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert (host["Memory"], host["PidsLimit"]) == (2 * 2**30, 256)
    assert not host.get("Privileged")
    # The SDK can read back no other log driver than this, whatever the engine's default is.
    assert host["LogConfig"]["Type"] == "json-file"


def test_failure_says_what_the_command_said(server: EngineServer):
    server.answers["POST /containers/c1/wait"] = (200, {"StatusCode": 1})
    server.answers["/containers/c1/logs"] = (200, frame(2, "gateway: Unrecognized key: bogus\n"))
    with pytest.raises(CoreError, match=r"^gateway: Unrecognized key: bogus$"):
        validate()
    assert "DELETE /containers/c1" in server.requests


@pytest.mark.parametrize("status", [400, 409, 500])
def test_refusal_of_the_engine_is_named(server: EngineServer, status):
    server.answers["POST /containers/create"] = (status, {"message": "no such user"})
    with pytest.raises(CoreError, match=r"engine refused to run openclaw in gateway:1: .*no such user"):
        validate()


def test_absent_engine_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    with pytest.raises(CoreError, match="engine refused to run openclaw"):
        validate()


def test_engine_that_talks_nonsense_is_named(server: EngineServer):
    server.answers["POST /containers/create"] = (201, b"{")
    with pytest.raises(CoreError, match="engine refused to run openclaw"):
        validate()


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(MissingDependency, match="docker"):
        validate()
