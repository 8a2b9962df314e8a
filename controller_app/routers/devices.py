"""Who may talk to the bot, for the operator."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from ..dependencies import DeviceServiceDep, require_operator
from ..schemas.devices import Decided, DeviceDecision, Devices, PairingApproval, PairingRequests

ChannelName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,31}$", examples=["telegram"])]

router = APIRouter(prefix="/gateway", tags=["devices"], dependencies=[Depends(require_operator)])


@router.get("/devices")
async def read_devices(devices: DeviceServiceDep) -> Devices:
    """Return the devices that were let in, and those that ask to be."""
    return await devices.read_all()


@router.post("/devices/approve")
async def approve_device(body: DeviceDecision, devices: DeviceServiceDep) -> Decided:
    """Let a device in, with all that it asks for."""
    return await devices.decide(body.request, approve=True)


@router.post("/devices/reject")
async def reject_device(body: DeviceDecision, devices: DeviceServiceDep) -> Decided:
    """Turn a device away; it may ask again."""
    return await devices.decide(body.request, approve=False)


@router.get("/pairing/{channel}")
async def read_pairing(channel: ChannelName, devices: DeviceServiceDep) -> PairingRequests:
    """Return who asks in a chat to talk to the bot."""
    return await devices.read_pairing(channel)


@router.post("/pairing/approve")
async def approve_pairing(body: PairingApproval, devices: DeviceServiceDep) -> Decided:
    """Let somebody in a chat talk to the bot."""
    return await devices.approve_pairing(body)
