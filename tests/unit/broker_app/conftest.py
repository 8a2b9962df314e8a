from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from broker_app import clients, settings
from tests.unit.broker_app.fake_engine import FakeEngine
from tests.unit.broker_app.running import BOT_DIRECTORY, Running, settings_document, with_own_uid


@pytest.fixture
def broker_settings(tmp_path) -> settings.Settings:
    file = tmp_path / "broker.json"
    file.write_text(json.dumps(settings_document(tmp_path)))
    return with_own_uid(settings.load_settings(file))


@pytest.fixture
def idle(broker_settings, monkeypatch) -> Iterator[Running]:
    """A fake engine, and a broker that has not started yet."""
    monkeypatch.setattr(clients, "REFUSAL_STEP_SECONDS", 0.0001)
    running = Running(broker_settings)
    yield running
    running.close()


@pytest.fixture
def broker(idle) -> Running:
    """A broker that serves, a gateway and a running sandbox."""
    state = {"Type": "bind", "Source": f"{BOT_DIRECTORY}/state", "Destination": "/home/node/.openclaw", "RW": True}
    idle.gateway(mounts=[state])
    idle.sandbox()
    idle.start()
    return idle


@pytest.fixture
def engine(idle) -> FakeEngine:
    return idle.engine
