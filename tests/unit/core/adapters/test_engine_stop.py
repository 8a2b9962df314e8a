from __future__ import annotations

import pytest

from clawfactory_core.adapters.engine_stop import EngineStopper
from clawfactory_core.errors import CoreError
from tests.support.engine import engine_server

GATEWAY, LISTING = "/containers/clawfactory-bot1-gateway", "/containers/json"


@pytest.fixture
def server(tmp_path, monkeypatch):
    # Relative: a Unix socket's path is limited to 107 characters.
    monkeypatch.chdir(tmp_path)
    with engine_server("engine.sock") as server:
        yield server


def stop() -> bool:
    return EngineStopper("engine.sock").stop_bot("clawfactory-bot1-gateway", "bot1")


def let_run(server) -> None:
    server.answers[f"{GATEWAY}/json"] = (
        200,
        {"State": {"Running": True}, "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}},
    )
    server.answers[f"POST {GATEWAY}/update"] = (200, {})
    server.answers[f"POST {GATEWAY}/kill"] = (204, b"")


def test_gateway_goes_before_its_sandboxes(server):
    let_run(server)
    server.answers[LISTING] = (200, [{"Id": "a"}, {"Id": "b"}])
    server.answers["DELETE /containers/a"] = (204, b"")
    server.answers["DELETE /containers/b"] = (409, {"message": "removal is already in progress"})
    assert stop()
    assert server.posted == {f"{GATEWAY}/update": {"RestartPolicy": {"Name": "no"}}, f"{GATEWAY}/kill": {}}
    listing = next(path for path in server.requests if path.startswith(LISTING))
    for label in ("clawfactory.bot%3Dbot1", "clawfactory.service%3Dsandbox", "all=true"):
        assert label in listing
    assert server.requests[-2:] == ["DELETE /containers/a", "DELETE /containers/b"]
    assert server.requests.index(f"{GATEWAY}/json") < server.requests.index(listing)


def test_nothing_there_is_nothing_done(server):
    server.answers[LISTING] = (200, [])
    assert not stop()
    assert server.posted == {}


def test_sandboxes_end_even_if_the_gateway_cannot_be_stopped(server):
    let_run(server)
    server.answers[f"POST {GATEWAY}/kill"] = (500, {"message": "stuck"})
    server.answers[LISTING] = (200, [{"Id": "a"}])
    server.answers["DELETE /containers/a"] = (204, b"")
    with pytest.raises(CoreError, match="500 to POST"):
        stop()
    assert server.requests[-1] == "DELETE /containers/a"


def test_sandbox_that_does_not_end_is_an_error(server):
    server.answers[LISTING] = (200, [{"Id": "a"}])
    server.answers["DELETE /containers/a"] = (500, {"message": "driver failed"})
    with pytest.raises(CoreError, match="500 to DELETE"):
        stop()
