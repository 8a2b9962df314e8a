"""Only a merge by somebody who may, signed by GitHub, promotes; each line of the table below changes nothing."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.main import create_app
from tests.support.github_server import REPOSITORY, pull_request_event, webhook_headers

pytestmark = pytest.mark.anyio

SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture
def options():
    return {"github_repository": REPOSITORY, "github_actors": "octocat,Hubot"}


@pytest.fixture
async def github(settings, options, gateway):
    transport = httpx.ASGITransport(create_app(settings.model_copy(update=options), gateway_transport=gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://bot1.example.org") as client:
        yield client


@pytest.fixture
def deliver(github, secret_values):
    async def send(event=None, *, body: bytes | None = None, secret: str | None = None, **changed: str | None):
        content = json.dumps(pull_request_event(SHA) if event is None else event).encode() if body is None else body
        headers = webhook_headers(content, secret or secret_values["CONTROLLER_WEBHOOK_SECRET"])
        for name, value in changed.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value
        return await github.post("/webhook/github", content=content, headers=headers)

    return send


def change(path: str, value: object) -> dict:
    """The event with another value at ``path``; ``...`` takes it away."""
    event = pull_request_event(SHA)
    *parents, last = path.split(".")
    place = event
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return event


async def test_merge_is_promoted(deliver, jobs):
    response = await deliver()
    assert response.status_code == 202
    asked = {"actor": "octocat", "source": "webhook", "sha": SHA, "delivery": DELIVERY}
    assert jobs.asked("promotion") == [asked]
    assert response.json() == {"job": next(iter(jobs.jobs))}


async def test_login_is_compared_without_regard_to_case(deliver, jobs):
    assert (await deliver(pull_request_event(SHA, actor="hubot"))).status_code == 202
    assert (
        await deliver(pull_request_event(SHA, repository=REPOSITORY.upper()), X_GitHub_Delivery="2")
    ).status_code == 202


async def test_ping_is_answered_and_asks_for_nothing(deliver, jobs):
    assert (await deliver({"zen": "Keep it logically awesome."}, X_GitHub_Event="ping")).status_code == 200
    assert jobs.requests == []


BENT = {
    "not merged": change("pull_request.merged", False),
    "merged as text": change("pull_request.merged", "true"),
    "merged as number": change("pull_request.merged", 1),
    "merged is null": change("pull_request.merged", None),
    "merged is missing": change("pull_request.merged", ...),
    "opened": change("action", "opened"),
    "reopened": change("action", "reopened"),
    "action is a list": change("action", ["closed"]),
    "action is missing": change("action", ...),
    "other base": change("pull_request.base.ref", "develop"),
    "full base": change("pull_request.base.ref", "refs/heads/main"),
    "base with a blank": change("pull_request.base.ref", "main "),
    "base in capitals": change("pull_request.base.ref", "Main"),
    "base is missing": change("pull_request.base", ...),
    "other repository": change("repository.full_name", "octo-org/bot2"),
    "repository is a prefix": change("repository.full_name", f"{REPOSITORY}-evil"),
    "base of a fork": change("pull_request.base.repo", {"full_name": "evil/bot1"}),
    "repository is missing": change("repository", ...),
    "repository is a list": change("repository.full_name", [REPOSITORY]),
    "other actor": change("pull_request.merged_by.login", "mallory"),
    "empty actor": change("pull_request.merged_by.login", ""),
    "actor list": change("pull_request.merged_by.login", "octocat,hubot"),
    "actor with a blank": change("pull_request.merged_by.login", "octocat "),
    "actor is null": change("pull_request.merged_by", None),
    "actor is missing": change("pull_request.merged_by", ...),
    "actor is the sender alone": change("pull_request.merged_by", {"id": 21031067}),
    "no commit": change("pull_request.merge_commit_sha", None),
    "short commit": change("pull_request.merge_commit_sha", SHA[:12]),
    "branch as commit": change("pull_request.merge_commit_sha", "main"),
    "option as commit": change("pull_request.merge_commit_sha", "--upload-pack=x"),
    "commit with a line break": change("pull_request.merge_commit_sha", f"{SHA}\n"),
    "commit in capitals": change("pull_request.merge_commit_sha", SHA.upper()),
    "no pull request": change("pull_request", ...),
    "list": [pull_request_event(SHA)],
    "text": "closed",
    "number": 1,
    "null": None,
}


@pytest.mark.parametrize("kind", BENT)
async def test_bent_event_is_refused(deliver, jobs, kind, caplog):
    with caplog.at_level(logging.WARNING, logger="controller_app.audit"):
        response = await deliver(body=json.dumps(BENT[kind]).encode())
    assert response.status_code in (403, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert jobs.requests == []
    (line,) = [json.loads(record.getMessage()) for record in caplog.records]
    assert (line["event"], line["delivery"]) == ("webhook.refused", DELIVERY)


def twice() -> bytes:
    text = json.dumps(pull_request_event(SHA))
    return text.replace('"merged": true', '"merged": false, "merged": true').encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (twice(), 400),
        (b'{"action": NaN}', 400),
        (b"payload=%7B%22action%22%3A%22closed%22%7D", 400),
        (json.dumps(pull_request_event(SHA)).encode() + b"{}", 400),
        (b" " * (1 << 20) + b"{}", 413),
    ],
)
async def test_broken_body_is_refused(deliver, jobs, body, status):
    assert (await deliver(body=body)).status_code == status
    assert jobs.requests == []


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha1=" + "0" * 40,
        "0" * 64,
        "sha256=" + "g" * 64,
        "sha512=" + "0" * 128,
    ],
)
async def test_forged_signature_is_refused(deliver, jobs, signature):
    assert (await deliver(X_Hub_Signature_256=signature)).status_code == 401
    assert jobs.requests == []


@pytest.mark.parametrize("secret", ["", "wrong", "CONTROLLER_TOKEN", "CONTROLLER_AGENT_TOKEN"])
async def test_other_secret_is_refused(deliver, jobs, secret_values, secret):
    assert (await deliver(secret=secret_values.get(secret, secret) or "x")).status_code == 401
    assert jobs.requests == []


async def test_signature_is_of_the_raw_body(github, deliver, jobs, secret_values):
    body = json.dumps(pull_request_event(SHA)).encode()
    headers = webhook_headers(body, secret_values["CONTROLLER_WEBHOOK_SECRET"])
    assert (await github.post("/webhook/github", content=body + b" ", headers=headers)).status_code == 401
    assert jobs.requests == []


async def test_second_signature_is_no_signature(github, jobs, secret_values):
    body = json.dumps(pull_request_event(SHA)).encode()
    headers = list(webhook_headers(body, secret_values["CONTROLLER_WEBHOOK_SECRET"]).items())
    response = await github.post(
        "/webhook/github", content=body, headers=[*headers, ("X-Hub-Signature-256", "sha256=" + "0" * 64)]
    )
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Content_Type", "application/x-www-form-urlencoded", 415),
        ("Content_Type", "text/plain", 415),
        ("Content_Type", None, 415),
        ("X_GitHub_Event", "push", 422),
        ("X_GitHub_Event", "pull_request_review", 422),
        ("X_GitHub_Event", None, 422),
        ("X_GitHub_Delivery", None, 400),
        ("X_GitHub_Delivery", "a b", 400),
        ("X_GitHub_Delivery", "x" * 65, 400),
        ("X_GitHub_Delivery", "../../x", 400),
    ],
)
async def test_other_headers_are_refused(deliver, jobs, name, value, status):
    assert (await deliver(**{name: value})).status_code == status
    assert jobs.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"github_repository": "", "github_actors": "octocat"},
        {"github_repository": REPOSITORY, "github_actors": ""},
        {"github_repository": "", "github_actors": ""},
    ],
)
async def test_nothing_is_promoted_before_it_is_set_up(deliver, jobs):
    response = await deliver()
    assert response.status_code == 403
    assert "controller_github_actors" in response.json()["detail"]
    assert jobs.requests == []


async def test_replay_is_refused(deliver, jobs):
    assert (await deliver()).status_code == 202
    assert (await deliver()).status_code == 409
    assert len(jobs.requests) == 1


async def test_two_at_once_promote_once(deliver, jobs):
    responses = await asyncio.gather(*(deliver() for _ in range(5)))
    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409, 409]
    assert len(jobs.requests) == 1


async def test_replay_after_a_restart_is_refused_by_the_machine(deliver, jobs, caplog):
    jobs.answers["promotion"] = Refusal(409, "Seen before", "the delivery was handled")
    assert (await deliver()).status_code == 409
    assert (await deliver()).status_code == 409
    assert len(jobs.requests) == 1, "what the machine has seen is remembered here too"


async def test_delivery_may_come_again_when_the_machine_was_away(deliver, jobs):
    promote = jobs.answers["promotion"]
    jobs.answers["promotion"] = Refusal(503, "Ending", "ask again")
    assert (await deliver()).status_code == 503
    jobs.answers["promotion"] = promote
    assert (await deliver()).status_code == 202


async def test_locked_bot_stays_as_it_is(deliver, jobs):
    jobs.answers["promotion"] = Refusal(423, "Locked", "bot1 is locked")
    assert (await deliver()).status_code == 423


async def test_event_with_more_in_it_is_fine(deliver, jobs):
    event = pull_request_event(SHA)
    event["installation"] = {"id": 1}
    event["pull_request"]["auto_merge"] = None
    assert (await deliver(event)).status_code == 202


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_only_post(github, method):
    assert (await github.request(method, "/webhook/github")).status_code == 405


async def test_secret_is_in_no_log(deliver, secret_values, caplog):
    with caplog.at_level(logging.DEBUG):
        await deliver()
        await deliver(X_Hub_Signature_256="sha256=" + "0" * 64)
    assert secret_values["CONTROLLER_WEBHOOK_SECRET"] not in caplog.text
