"""What the bot may ask for, and that it may ask for nothing else."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.agent import create_agent_app
from controller_app.dependencies import get_app_services
from tests.support.git_repositories import git, make_repositories

pytestmark = pytest.mark.anyio

ROUTES = {
    ("GET", "/agent/status"),
    ("GET", "/agent/proposals"),
    ("GET", "/agent/snapshot"),
    ("POST", "/agent/snapshot"),
    ("GET", "/agent/jobs/{job}"),
    ("GET", "/agent/repository.git/info/refs"),
    ("POST", "/agent/repository.git/git-upload-pack"),
    ("POST", "/agent/repository.git/git-receive-pack"),
}


@pytest.fixture
def agent_app(settings, app):
    return create_agent_app(settings, get_app_services(app))


@pytest.fixture
async def stranger(agent_app):
    transport = httpx.ASGITransport(agent_app, client=("10.213.0.3", 40000), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://10.213.0.5:8090") as client:
        yield client


@pytest.fixture
async def bot(stranger, secret_values):
    stranger.headers["Authorization"] = f"Bearer {secret_values['CONTROLLER_AGENT_TOKEN']}"
    return stranger


@pytest.fixture
def repositories(settings):
    return make_repositories(settings.repositories_dir, {"workspace/SOUL.md": "x\n"})


def endpoints(routes):
    for route in routes:
        if hasattr(route, "original_router"):
            yield from endpoints(route.original_router.routes)
        else:
            yield from ((method, route.path) for method in route.methods)


def test_routes_are_these_and_no_more(agent_app):
    assert set(endpoints(agent_app.routes)) == ROUTES


@pytest.mark.parametrize("route", sorted(ROUTES))
async def test_no_route_opens_without_the_token(stranger, secret_values, route):
    method, path = route
    wrong = [None, "Bearer wrong", "Bearer", f"Bearer {secret_values['CONTROLLER_TOKEN']}", "Basic !", "Basic Og=="]
    for value in wrong[:4] if "git" not in path else wrong[:1]:
        response = await stranger.request(method, path, headers={"Authorization": value} if value else {})
        assert response.status_code == 401, (path, value)
        assert response.headers["content-type"] == "application/problem+json"
        assert "www-authenticate" in response.headers


async def test_guessing_is_slowed_down(bot, secret_values):
    for _ in range(5):
        assert (await bot.get("/agent/status", headers={"Authorization": "Bearer wrong"})).status_code == 401
    response = await bot.get("/agent/status")
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("path", ["/", "/status", "/health", "/login", "/branches", "/webhook/github", "/openapi.json"])
async def test_nothing_of_the_operator_answers(bot, path):
    for method in ("GET", "POST"):
        assert (await bot.request(method, path)).status_code == 404


async def test_agent_token_opens_nothing_of_the_operator(app, client, secret_values):
    headers = {"Authorization": f"Bearer {secret_values['CONTROLLER_AGENT_TOKEN']}"}
    for method, path in endpoints(app.routes[1:-1]):
        if path not in ("/health", "/login", "/webhook/github", "/static"):
            assert (await client.request(method, path, headers=headers)).status_code in (401, 303, 429), path


async def test_status(bot, commit):
    status = (await bot.get("/agent/status")).json()
    assert (status["bot"], status["approved"], status["locked"]) == ("bot1", commit, False)


async def test_status_after_a_promotion(bot, settings, commit):
    settings.promotion_dir.mkdir()
    other = "1" * 40
    lines = [
        {"from_commit": commit, "to_commit": other, "result": "promoted"},
        {"from_commit": other, "to_commit": "2" * 40, "result": "restored"},
    ]
    (settings.promotion_dir / "history.jsonl").write_text("torn\n" + "".join(json.dumps(line) + "\n" for line in lines))
    assert (await bot.get("/agent/status")).json()["approved"] == other


@pytest.mark.parametrize(
    ("answer", "locked"),
    [
        ({"promotion": {"locked": True}}, True),
        (Refusal(423, "Locked", "bot1 is locked"), True),
        (Refusal(500, "Failed", "x"), None),
        ({"promotion": {}}, None),
    ],
)
async def test_lock_is_told_when_it_is_known(bot, jobs, answer, locked):
    jobs.answers["promotion_info"] = answer
    assert (await bot.get("/agent/status")).json()["locked"] is locked


async def test_machine_is_not_asked_again_and_again(bot, jobs):
    for response in await asyncio.gather(*(bot.get("/agent/status") for _ in range(20))):
        assert response.status_code == 200
    assert len(jobs.asked("promotion_info")) == 1


async def test_proposals(bot, repositories, settings):
    git(repositories.proposals, "update-ref", "refs/heads/proposal/done", repositories.main)
    (settings.promotion_dir / "denied").mkdir(parents=True)
    (settings.promotion_dir / "denied" / "no.json").write_text(json.dumps({"name": "no", "reason": "Too kind."}))
    tree = git(repositories.origin, "rev-parse", "main^{tree}")
    sha = git(repositories.proposals, "commit-tree", tree, "-p", repositories.main, "-m", "x")
    git(repositories.proposals, "update-ref", "refs/heads/proposal/no", sha)
    git(repositories.proposals, "update-ref", "refs/heads/proposal/open", sha)
    found = {entry.pop("name"): entry for entry in (await bot.get("/agent/proposals")).json()}
    assert found == {
        "done": {"commit": repositories.main, "state": "merged", "reason": ""},
        "no": {"commit": sha, "state": "denied", "reason": "Too kind."},
        "open": {"commit": sha, "state": "open", "reason": ""},
    }


async def test_failure_tells_the_bot_nothing(bot, settings, caplog):
    response = await bot.get("/agent/proposals")  # there are no repositories
    assert response.status_code == 503
    assert str(settings.repositories_dir) not in response.text
    assert str(settings.repositories_dir) in caplog.text


async def test_snapshot_is_asked_for(bot, jobs):
    response = await bot.post("/agent/snapshot", json={"label": "before the change"})
    assert response.status_code == 202
    assert jobs.asked("snapshot") == [{"actor": "agent", "label": "before the change"}]
    job = response.json()
    assert (await bot.get(f"/agent/jobs/{job['id']}")).json() == job


async def test_snapshot_needs_no_label(bot, jobs):
    assert (await bot.post("/agent/snapshot")).status_code == 202
    assert jobs.asked("snapshot") == [{"actor": "agent"}]


@pytest.mark.parametrize("body", [{"label": "a\nb"}, {"label": "x" * 65}, {"label": 1}, {"other": 1}, [], "x"])
async def test_strange_snapshot_request_is_refused(bot, jobs, body):
    assert (await bot.post("/agent/snapshot", json=body)).status_code == 422
    assert jobs.requests == []


async def test_refusal_of_the_machine_reaches_the_bot(bot, jobs):
    jobs.answers["snapshot"] = Refusal(429, "Too many", "4 snapshots in an hour; wait 10 minutes")
    response = await bot.post("/agent/snapshot")
    assert (response.status_code, response.json()["detail"]) == (429, "4 snapshots in an hour; wait 10 minutes")


async def test_failure_of_the_machine_does_not(bot, jobs, caplog):
    jobs.answers["snapshot"] = Refusal(500, "Failed", "/srv/clawfactory/jobs/bot1 is full")
    response = await bot.post("/agent/snapshot")
    assert response.status_code == 503
    assert "/srv" not in response.text
    assert "/srv/clawfactory/jobs/bot1 is full" in caplog.text


async def test_snapshots_are_listed_without_paths(bot, jobs):
    entry = {"id": "a", "time": "2027-01-15T08:00:00.000000Z", "kind": "full", "size": 5, "label": "", "parent": None,
             "verified": None, "problem": "", "path": "/srv/x"}  # fmt: skip
    jobs.answers["snapshots"] = {"snapshots": [entry]}
    (found,) = (await bot.get("/agent/snapshot")).json()
    assert set(found) == {"id", "time", "kind", "size", "label"}


@pytest.mark.parametrize(("kind", "actor"), [("snapshot", "operator"), ("promotion", "agent"), ("deny", "operator")])
async def test_jobs_of_others_are_not_there(bot, jobs, kind, actor):
    job = jobs.add_job(kind, actor=actor)
    assert (await bot.get(f"/agent/jobs/{job['id']}")).status_code == 404


@pytest.mark.parametrize("job", ["x", "0" * 23, "0" * 25, "..%2f..%2fx", "0" * 23 + "A"])
async def test_strange_job_is_refused(bot, jobs, job):
    assert (await bot.get(f"/agent/jobs/{job}")).status_code in (404, 422)
    assert jobs.requests == []


async def test_failed_job_says_why(bot, jobs):
    error = {"status": 500, "title": "Failed", "detail": "the disk is full"}
    job = jobs.add_job("snapshot", actor="agent", state="failed", error=error, result=None)
    found = (await bot.get(f"/agent/jobs/{job['id']}")).json()
    assert (found["state"], found["error"]) == ("failed", "the disk is full")


async def test_large_body_is_refused(bot):
    response = await bot.post("/agent/snapshot", content=b"x" * 65537, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
