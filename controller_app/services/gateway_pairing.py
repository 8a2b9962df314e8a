"""Has the gateway know this controller: once, and again after its state was replaced.

The gateway takes nobody's word over the network for that; on its own command line it does. The broker runs that one
command for the controller anyway, so nothing is gained by it that could not be had before. Whose request is approved
is said by the gateway, in answer to our own connection: one that names another request could as well approve it itself.
"""

from __future__ import annotations

from clawfactory_core.jobs.protocol import Refusal

from .broker import Broker
from .gateway_frames import printable
from .gateway_link import PAIR_SECONDS, Approve


def own_approval(broker: Broker) -> Approve:
    """What :class:`.gateway_link.GatewayLink` calls with the request's id."""

    async def approve(request: str) -> None:
        done = await broker.run(("openclaw", "devices", "approve", request), seconds=PAIR_SECONDS)
        if done.code != 0:
            text = f"its command line does not approve this controller: {printable(done.text, 200)} ({done.code})"
            raise Refusal(503, "The gateway does not know the controller", text)

    return approve
