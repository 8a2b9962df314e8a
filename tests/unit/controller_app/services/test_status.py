from __future__ import annotations

import time

import pytest

from controller_app.services.gateway import GatewayProbe, make_gateway_client
from controller_app.services.jobs import JobsClient
from controller_app.services.machine import MachineService
from controller_app.services.proposals import ProposalService
from controller_app.services.status import StatusService

pytestmark = pytest.mark.anyio


@pytest.fixture
def places(settings):
    promotion = settings.promotion_dir
    return {
        "approved_dir": settings.approved_dir,
        "promotion_dir": promotion,
        "machine": MachineService(JobsClient(settings.jobs_socket)),
        "proposals": ProposalService(origin=settings.origin, proposals=settings.proposals, promotion=promotion),
    }


async def test_missing_build_label_is_left_out(gateway, places, clock):
    async with make_gateway_client(gateway) as client:
        probe = GatewayProbe(client, "http://gateway.test:18789")
        service = StatusService(bot="bot1", build="", gateway=probe, clock=clock, **places)
        status = await service.read_status()
    assert status.build is None
    assert status.time.timestamp() == clock.now


async def test_time_is_that_of_the_look(gateway, places):
    async with make_gateway_client(gateway) as client:
        probe = GatewayProbe(client, "http://gateway.test:18789")
        service = StatusService(bot="bot1", build="", gateway=probe, clock=time.time, **places)
        status = await service.read_status()
    assert abs(status.time.timestamp() - time.time()) < 5
