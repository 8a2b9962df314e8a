from __future__ import annotations

import time

import pytest

from controller_app.services.gateway import GatewayProbe, make_gateway_client
from controller_app.services.status import StatusService

pytestmark = pytest.mark.anyio


async def test_missing_build_label_is_left_out(gateway, approved_dir, clock):
    async with make_gateway_client(gateway) as client:
        probe = GatewayProbe(client, "http://gateway.test:18789")
        service = StatusService(bot="bot1", build="", approved_dir=approved_dir, gateway=probe, clock=clock)
        status = await service.read_status()
    assert status.build is None
    assert status.time.timestamp() == clock.now


async def test_time_is_that_of_the_look(gateway, approved_dir):
    async with make_gateway_client(gateway) as client:
        probe = GatewayProbe(client, "http://gateway.test:18789")
        service = StatusService(bot="bot1", build="", approved_dir=approved_dir, gateway=probe, clock=time.time)
        status = await service.read_status()
    assert abs(status.time.timestamp() - time.time()) < 5
