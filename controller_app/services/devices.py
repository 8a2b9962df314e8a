"""Who may talk to the bot: devices of operators, and people in chats. The gateway keeps both; it is asked and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clawfactory_core.jobs.protocol import Refusal

from ..schemas.devices import Decided, Devices, PairingApproval, PairingRequests
from .decisions import Decisions
from .device import read_device
from .gateway_link import GatewayLink, GatewayMisbehaves, GatewayRefused

#: OpenClaw's code for a request that cannot be met: an id that is gone, a channel that is not there.
_INVALID = "INVALID_REQUEST"
_Model = TypeVar("_Model", bound=BaseModel)


class DeviceService:
    """Reads and decides.

    :param link: to the gateway.
    :param device_dir: the controller's own identity, to know it in the list.
    :param decisions: writes down what is decided.
    """

    def __init__(self, link: GatewayLink, device_dir: Path, decisions: Decisions) -> None:
        self._link = link
        self._decisions = decisions
        self._device_dir = device_dir

    async def read_all(self) -> Devices:
        """Every device that was let in, or asks to be.

        :raises Refusal: the gateway does not answer, or no such thing.
        """
        devices = parse_answer(Devices, await self._link.call("device.pair.list"))
        own = read_device(self._device_dir).id
        for device in devices.paired:
            device.own = device.device == own
        return devices

    async def decide(self, request: str, *, approve: bool) -> Decided:
        """Let a device in, or not.

        :raises Refusal: 404, there is no such request; or it cannot be written down.
        """
        missing = f"no device asks with the request {request}"
        asking = next((device for device in (await self.read_all()).pending if device.request == request), None)
        if asking is None:
            raise Refusal(404, "Not found", missing)
        verb = "approve" if approve else "reject"
        subject = " ".join((asking.device, asking.role, *asking.scopes))
        async with self._decisions.written(f"device.{verb}", request=request, subject=subject):
            await self._tell(f"device.pair.{verb}", {"requestId": request}, missing)
        return Decided(request=request, decision="approved" if approve else "rejected")

    async def read_pairing(self, channel: str | None = None) -> PairingRequests:
        """Who asks to talk to the bot in a channel, or in any.

        :raises Refusal: 404, the bot has no such channel.
        """
        if channel is None:
            return parse_answer(PairingRequests, await self._link.call("channels.pairing.list"))
        missing = f"the bot has no channel {channel} in which people ask to be let in"
        return parse_answer(PairingRequests, await self._tell("channels.pairing.list", {"channel": channel}, missing))

    async def approve_pairing(self, wanted: PairingApproval) -> Decided:
        """Let somebody talk to the bot. They become no owner of it: what they may is up to the configuration.

        :raises Refusal: 404, nobody asks with that request there; or it cannot be written down.
        """
        missing = f"nobody asks with the request {wanted.request} in {wanted.channel}"
        asking = next(
            (
                one
                for one in (await self.read_pairing(wanted.channel)).requests
                if (one.request, one.account) == (wanted.request, wanted.account)
            ),
            None,
        )
        if asking is None:
            raise Refusal(404, "Not found", missing)
        params = {
            "channel": wanted.channel,
            "accountId": wanted.account,
            "requestId": wanted.request,
            "notify": wanted.notify,
        }
        what = {"request": wanted.request, "channel": wanted.channel, "account": wanted.account}
        async with self._decisions.written("pairing.approve", **what, subject=asking.sender):
            await self._tell("channels.pairing.approve", params, missing)
        return Decided(request=wanted.request, decision="approved")

    async def _tell(self, method: str, params: dict[str, Any], missing: str) -> Any:
        try:
            return await self._link.call(method, params)
        except GatewayRefused as refusal:
            if refusal.code == _INVALID:
                raise Refusal(404, "Not found", f"{missing} ({refusal.message})") from None
            raise


def parse_answer(model: type[_Model], payload: Any) -> _Model:
    """What the gateway answered, if it has the form that it must have.

    :raises GatewayMisbehaves: it has not.
    """
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        # Not with the value: it is the gateway's.
        problem = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])[:100]
        raise GatewayMisbehaves(f"its answer has another form than known: {where}: {problem['msg'][:100]}") from None
