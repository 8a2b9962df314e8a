"""One controller per test: real application, made-up secrets, a gateway that says what the test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from controller_app.config import Secrets, Settings
from controller_app.dependencies import get_app_services
from controller_app.main import create_app
from controller_app.services.device import read_device
from tests.support.controller import COMMIT, SECRETS, Clock, FakeGateway
from tests.support.gateway_server import GatewayServer, device_directory
from tests.support.jobs_server import JobsServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def secret_values() -> dict[str, str]:
    return dict(SECRETS)


@pytest.fixture
def token() -> str:
    return SECRETS["CONTROLLER_TOKEN"]


@pytest.fixture
def commit() -> str:
    return COMMIT


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def approved_dir(tmp_path: Path) -> Path:
    git_dir = tmp_path / "approved" / ".git"
    (git_dir / "refs" / "heads").mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    (git_dir / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    return git_dir.parent


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobsServer]:
    """The machine, which does what it is asked for in no time."""
    with JobsServer(tmp_path / "jobs.sock") as server:
        yield server


@pytest.fixture
def settings(approved_dir: Path, tmp_path: Path, jobs: JobsServer) -> Settings:
    return Settings(
        secrets=Secrets.model_validate(SECRETS),
        bot="bot1",
        gateway_url="http://gateway.test:18789",
        approved_dir=approved_dir,
        socket=tmp_path / "controller.sock",
        agent_address="127.0.0.1:8090",
        repositories_dir=tmp_path / "repositories",
        promotion_dir=tmp_path / "promotion",
        snapshots_dir=tmp_path / "snapshots",
        jobs_socket=jobs.path,
        fingerprints_file=tmp_path / "fingerprints.json",
        device_dir=device_directory(tmp_path),
        broker_socket=tmp_path / "broker.sock",
        version="sha256-4d1f0a9c",
    )


@pytest.fixture
async def rpc(settings: Settings) -> AsyncIterator[GatewayServer]:
    """OpenClaw's WebSocket, which knows the controller; for the tests that give its address to the controller."""
    server = GatewayServer()
    server.paired.add(read_device(settings.device_dir).id)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def talking(
    settings: Settings, rpc: GatewayServer, gateway: FakeGateway, clock: Clock
) -> AsyncIterator[httpx.AsyncClient]:
    """A program with the token, at a controller that reaches a gateway."""
    app = create_app(settings.model_copy(update={"gateway_url": rpc.url}), gateway_transport=gateway, clock=clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {SECRETS['CONTROLLER_TOKEN']}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers) as client:
        yield client
    await get_app_services(app).link.close()


@pytest.fixture
def app(settings: Settings, gateway: FakeGateway, clock: Clock) -> FastAPI:
    return create_app(settings, gateway_transport=gateway, clock=clock)


@pytest.fixture
def make_client(app: FastAPI) -> Callable[..., httpx.AsyncClient]:
    """Make a browser without cookies. ``peer=None`` is a unix socket, as in production."""

    def make(peer: tuple[str, int] | None = None, **options: Any) -> httpx.AsyncClient:
        # raise_app_exceptions=False: a crash is the 500 that a browser would see.
        transport = httpx.ASGITransport(app, client=cast(Any, peer), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", **options)

    return make


@pytest.fixture
async def client(make_client: Callable[..., httpx.AsyncClient]) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client() as browser:
        yield browser


@pytest.fixture
def same_origin() -> dict[str, str]:
    return {"Origin": "http://127.0.0.1:8080"}


@pytest.fixture
def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def operator(client: httpx.AsyncClient, token: str, same_origin: dict[str, str]) -> httpx.AsyncClient:
    """A browser that is logged in."""
    response = await client.post("/login", data={"token": token}, headers=same_origin)
    assert response.status_code == 303, response.text
    return client
