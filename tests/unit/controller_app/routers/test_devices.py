"""Devices and pairing, against a gateway that speaks recorded frames."""

from __future__ import annotations

import copy

import pytest

from clawfactory_core.jobs.protocol import Refusal
from tests.support.gateway_server import FRAMES, compact

pytestmark = pytest.mark.anyio

REQUEST = "2ebdaba1-35ef-497e-8711-b4cf9f30c4dc"
PAIRING = {
    "requestId": "b3b4ab1b1f0d4c7f", "channel": "telegram", "channelLabel": "Telegram", "accountId": "default",
    "senderId": "123456789", "senderLabel": "telegramUserId", "createdAt": "2027-01-15T08:00:00.000Z",
    "lastSeenAt": "2027-01-15T08:00:00.000Z", "expiresAt": "2027-01-15T09:00:00.000Z", "notifySupported": True,
}  # fmt: skip


def listing(**changes) -> dict:
    """The recorded list, with other values in the device that asks."""
    answer = copy.deepcopy(FRAMES["device.pair.list"])
    answer["payload"]["pending"][0].update(changes)
    return answer


async def test_devices(talking, rpc):
    response = await talking.get("/gateway/devices")
    assert response.status_code == 200, response.text
    pending, paired = (response.json()[name] for name in ("pending", "paired"))
    assert [device["request"] for device in pending] == [REQUEST]
    assert pending[0]["scopes"] == ["operator.read", "operator.write"] and not pending[0]["repair"]
    assert pending[0]["time"].startswith("2026-11-28T19:15:46")
    assert len(paired) == 2 and paired[0]["connected"]
    assert "publicKey" not in response.text and "tokens" not in response.text
    assert len(rpc.requests) == 1


async def test_its_own_device_is_marked(talking, rpc):
    own = next(iter(rpc.paired))
    answer = copy.deepcopy(FRAMES["device.pair.list"])
    answer["payload"]["paired"][1]["deviceId"] = own
    rpc.answers["device.pair.list"] = answer
    assert [device["own"] for device in (await talking.get("/gateway/devices")).json()["paired"]] == [False, True]


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_decision_reaches_the_gateway_and_the_log(talking, rpc, jobs, decision):
    seen = []
    rpc.answers[f"device.pair.{decision}"] = lambda params: (
        seen.extend(jobs.asked("decided")),
        {"type": "res", "ok": True, "payload": {"requestId": REQUEST}},
    )[1]
    response = await talking.post(f"/gateway/devices/{decision}", json={"request": REQUEST})
    assert response.status_code == 200, response.text
    assert rpc.requests[-1]["method"] == f"device.pair.{decision}"
    assert rpc.requests[-1]["params"] == {"requestId": REQUEST}
    device = FRAMES["device.pair.list"]["payload"]["pending"][0]["deviceId"]
    asked = {"actor": "operator", "decision": f"device.{decision}", "outcome": "asked", "request": REQUEST,
             "subject": f"{device} operator operator.read operator.write"}  # fmt: skip
    assert seen == [asked], "it is written down before the gateway is asked"
    assert jobs.asked("decided") == [asked, {**asked, "outcome": "done"}]


async def test_request_that_is_gone(talking, rpc, jobs):
    rpc.answers["device.pair.approve"] = FRAMES["unknown_request"]
    response = await talking.post("/gateway/devices/approve", json={"request": REQUEST})
    assert response.status_code == 404 and REQUEST in response.json()["detail"]
    assert [line["outcome"] for line in jobs.asked("decided")] == ["asked", "failed"]


async def test_request_that_nobody_made_reaches_neither_gateway_nor_log(talking, rpc, jobs):
    response = await talking.post("/gateway/devices/approve", json={"request": "another"})
    assert response.status_code == 404
    assert [request["method"] for request in rpc.requests] == ["device.pair.list"]
    assert jobs.asked("decided") == []


@pytest.mark.parametrize("path", ["/gateway/devices/approve", "/gateway/devices/reject"])
async def test_what_cannot_be_written_down_is_not_done(talking, rpc, jobs, path):
    jobs.answers["decided"] = Refusal(500, "Failed", "No space left on device")
    response = await talking.post(path, json={"request": REQUEST})
    assert response.status_code == 502 and "nothing was done" in response.json()["detail"]
    assert [request["method"] for request in rpc.requests] == ["device.pair.list"]


async def test_an_outcome_that_cannot_be_written_down_is_told_all_the_same(talking, rpc, jobs, caplog):
    rpc.answers["device.pair.reject"] = {"type": "res", "ok": True, "payload": {}}
    jobs.answers["decided"] = lambda fields: (
        {"written": True} if fields["outcome"] == "asked" else Refusal(500, "Failed", "No space left on device")
    )
    assert (await talking.post("/gateway/devices/reject", json={"request": REQUEST})).status_code == 200
    assert "was not told that device.reject is done" in caplog.text


@pytest.mark.parametrize("body", [{}, {"request": "--all"}, {"request": "a b"}, {"request": "x" * 200}, {"request": 5},
                                  {"request": REQUEST, "scopes": ["operator.admin"]}])  # fmt: skip
async def test_malformed_decision_reaches_nobody(talking, rpc, body):
    response = await talking.post("/gateway/devices/approve", json=body)
    assert response.status_code == 422 and rpc.requests == []
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "changes",
    [
        {"requestId": "--all"},
        {"requestId": 5},
        {"deviceId": "../x"},
        {"ts": "soon"},
        {"ts": 1e300},
        {"ts": float("inf")},
        {"scopes": "operator.admin"},
        {"scopes": ["<b>"]},
        {"scopes": ["a"] * 1000},
        {"isRepair": "certainly not"},
        {"displayName": {"a": 1}},
    ],
)
async def test_list_in_another_form_is_the_gateways_fault(talking, rpc, changes):
    rpc.answers["device.pair.list"] = listing(**changes)
    response = await talking.get("/gateway/devices")
    assert response.status_code == 502, response.text
    assert "<b>" not in response.text and "--all" not in response.text


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"pending": [], "paired": 5}, {"pending": [1], "paired": []}])
async def test_list_that_is_none(talking, rpc, payload):
    rpc.answers["device.pair.list"] = {"type": "res", "ok": True, "payload": payload}
    assert (await talking.get("/gateway/devices")).status_code == 502


async def test_names_are_made_printable_and_short(talking, rpc):
    rpc.answers["device.pair.list"] = listing(displayName="\x1b[31m‮evil\n" + "x" * 5000)
    name = (await talking.get("/gateway/devices")).json()["pending"][0]["name"]
    assert name.isprintable() and len(name) == 200


async def test_gateway_down_is_told_and_hinders_nothing_else(talking, rpc):
    await rpc.stop()
    response = await talking.get("/gateway/devices")
    assert response.status_code == 503 and response.json()["title"] == "Service Unavailable"
    assert "The gateway does not answer" in response.json()["detail"]
    assert (await talking.get("/status")).status_code == 200
    await rpc.start()  # for the fixture's end


async def test_pairing(talking, rpc):
    requests = {"accounts": [], "requests": [PAIRING], "commandOwnerConfigured": False}
    rpc.answers["channels.pairing.list"] = {"type": "res", "ok": True, "payload": requests}
    found = (await talking.get("/gateway/pairing/telegram")).json()["requests"]
    assert rpc.requests[-1]["params"] == {"channel": "telegram"}
    assert [(entry["request"], entry["sender"], entry["account"]) for entry in found] == [
        ("b3b4ab1b1f0d4c7f", "123456789", "default")
    ]


async def test_channel_that_the_bot_has_not(talking, rpc):
    rpc.answers["channels.pairing.list"] = FRAMES["unknown_channel"]
    response = await talking.get("/gateway/pairing/telegram")
    assert response.status_code == 404 and "telegram" in response.json()["detail"]


@pytest.mark.parametrize("channel", ["Telegram", "-x", "a" * 40, "%2e%2e", "a%00"])
async def test_channel_that_is_no_name(talking, rpc, channel):
    assert (await talking.get(f"/gateway/pairing/{channel}")).status_code == 422 and rpc.requests == []


async def test_pairing_is_approved_without_making_an_owner(talking, rpc, jobs):
    listed = {"accounts": [], "requests": [{**PAIRING, "senderId": "Ä 7"}]}
    rpc.answers["channels.pairing.list"] = {"type": "res", "ok": True, "payload": listed}
    rpc.answers["channels.pairing.approve"] = {"type": "res", "ok": True, "payload": {"requestId": "b3b4ab1b1f0d4c7f"}}
    body = {"channel": "telegram", "account": "default", "request": "b3b4ab1b1f0d4c7f"}
    assert (await talking.post("/gateway/pairing/approve", json=body)).status_code == 200
    assert rpc.requests[-1]["params"] == {
        "channel": "telegram", "accountId": "default", "requestId": "b3b4ab1b1f0d4c7f", "notify": False,
    }  # fmt: skip
    said = {"actor": "operator", "decision": "pairing.approve", **body, "subject": "\\xc4 7"}
    assert jobs.asked("decided") == [{**said, "outcome": "asked"}, {**said, "outcome": "done"}]


async def test_pairing_of_somebody_who_does_not_ask(talking, rpc, jobs):
    body = {"channel": "telegram", "account": "default", "request": "b3b4ab1b1f0d4c7f"}
    assert (await talking.post("/gateway/pairing/approve", json=body)).status_code == 404
    assert [request["method"] for request in rpc.requests] == ["channels.pairing.list"]
    assert jobs.asked("decided") == []


async def test_answers_are_described_with_examples(talking):
    schemas = (await talking.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("Devices", "DeviceDecision", "PairingRequests", "PairingApproval", "Decided", "SecurityAudit"):
        assert schemas[name]["example"], name


def test_frames_are_as_recorded():
    assert compact(FRAMES["event"]).startswith('{"type":"event"')
