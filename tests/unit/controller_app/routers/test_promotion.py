"""The operator decides, and the machine is asked to do it."""

from __future__ import annotations

import json

import pytest

from clawfactory_core.jobs.protocol import Refusal
from tests.support.git_repositories import commit as git_commit
from tests.support.git_repositories import git, make_repositories

pytestmark = pytest.mark.anyio


@pytest.fixture
def repositories(settings):
    return make_repositories(settings.repositories_dir, {"workspace/SOUL.md": "I am a bot.\n"})


@pytest.fixture
def proposed(repositories):
    work = repositories.directory / "work"
    sha = git_commit(work, "Be kinder\n\nBecause.", {"workspace/SOUL.md": "I am a kind bot.\n"})
    git(work, "push", "--quiet", str(repositories.proposals), "HEAD:refs/heads/proposal/kinder")
    return sha


async def test_branches(operator, proposed):
    (branch,) = (await operator.get("/branches")).json()
    time = branch.pop("time")
    assert time.endswith(("Z", "+00:00"))
    assert branch == {
        "name": "kinder", "commit": proposed, "author": "Bot", "subject": "Be kinder", "files": 1, "added": 1,
        "removed": 1, "bytes": len("I am a kind bot.\n"), "state": "open", "reason": "",
    }  # fmt: skip


async def test_denied_branch_has_the_reason(operator, proposed, settings):
    (settings.promotion_dir / "denied").mkdir(parents=True)
    (settings.promotion_dir / "denied" / "kinder.json").write_text(json.dumps({"reason": "Too kind."}))
    (branch,) = (await operator.get("/branches")).json()
    assert (branch["state"], branch["reason"]) == ("denied", "Too kind.")


@pytest.mark.parametrize("name", ["kinder", "proposal/kinder"])
async def test_diff(operator, proposed, name):
    diff = (await operator.get(f"/branches/{name}/diff")).json()["diff"]
    assert "-I am a bot.\n+I am a kind bot.\n" in diff


async def test_merge_names_what_was_seen(operator, proposed, jobs, same_origin):
    body = {"expected_sha": proposed}
    response = await operator.post("/branches/kinder/merge", json=body, headers=same_origin)
    assert response.status_code == 202
    assert (response.json()["kind"], response.json()["state"]) == ("promotion", "queued")
    asked = {"actor": "operator", "source": "dashboard", "proposal": "kinder", "expected_sha": proposed}
    assert jobs.asked("promotion") == [asked]


async def test_deny(operator, proposed, jobs, same_origin):
    response = await operator.post("/branches/kinder/deny", json={"reason": "Too kind."}, headers=same_origin)
    assert response.status_code == 202
    assert jobs.asked("deny") == [{"actor": "operator", "proposal": "kinder", "reason": "Too kind."}]


async def test_promote_main(operator, repositories, jobs, same_origin):
    assert (await operator.post("/controller/promote-main", headers=same_origin)).status_code == 202
    assert jobs.asked("promotion") == [{"actor": "operator", "source": "dashboard", "sha": repositories.main}]


async def test_promote_commit_by_token(client, bearer, jobs, commit):
    response = await client.post("/controller", json={"sha": commit}, headers=bearer)
    assert response.status_code == 202
    assert jobs.asked("promotion") == [{"actor": "operator", "source": "dashboard", "sha": commit}]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/branches/absent/merge", {"expected_sha": "1" * 40}, 404),
        ("/branches/absent/deny", {"reason": "x"}, 404),
        ("/branches/kinder/merge", {}, 422),
        ("/branches/kinder/merge", {"expected_sha": "HEAD"}, 422),
        ("/branches/kinder/merge", {"expected_sha": "1" * 40, "force": True}, 422),
        ("/branches/kinder/deny", {"reason": ""}, 422),
        ("/branches/kinder/deny", {"reason": "x" * 501}, 422),
        ("/branches/..%2fmain/merge", {"expected_sha": "1" * 40}, 422),
        ("/branches/Kinder/merge", {"expected_sha": "1" * 40}, 422),
        ("/controller", {"sha": "main"}, 422),
        ("/controller", {"sha": "1" * 41}, 422),
        ("/controller", {}, 422),
    ],
)
async def test_malformed_request_asks_for_nothing(operator, proposed, jobs, same_origin, path, body, status):
    assert (await operator.post(path, json=body, headers=same_origin)).status_code == status
    assert jobs.requests == []


@pytest.mark.parametrize("status", [404, 409, 423, 429, 500, 503, 504, 507])
async def test_refusal_of_the_machine_is_a_problem_document(client, bearer, jobs, commit, status):
    jobs.answers["promotion"] = Refusal(status, "Refused", "because")
    response = await client.post("/controller", json={"sha": commit}, headers=bearer)
    # What fails on the machine is not a failure of the controller.
    assert response.status_code == (502 if status == 500 else status)
    assert response.json()["detail"] == "Refused: because"


async def test_status_that_http_does_not_know_is_a_failure(client, bearer, jobs, commit):
    jobs.answers["promotion"] = b'{"status":99,"title":"x","detail":"y"}\n'
    assert (await client.post("/controller", json={"sha": commit}, headers=bearer)).status_code == 502


async def test_snapshots(operator, jobs, same_origin):
    assert (await operator.post("/snapshot", json={"label": "a"}, headers=same_origin)).status_code == 202
    assert (await operator.post("/snapshot", headers=same_origin)).status_code == 202
    assert jobs.asked("snapshot") == [{"actor": "operator", "label": "a"}, {"actor": "operator"}]


async def test_jobs(operator, jobs):
    first, second = jobs.add_job("snapshot", actor="agent"), jobs.add_job("promotion", actor="operator")
    assert [job["id"] for job in (await operator.get("/jobs")).json()] == [second["id"], first["id"]]
    assert (await operator.get(f"/jobs/{first['id']}")).json()["kind"] == "snapshot"
    assert (await operator.get(f"/jobs/{'0' * 24}")).status_code == 404


async def test_events_of_a_job(operator, jobs):
    job = jobs.add_job("promotion", actor="operator")
    response = await operator.get(f"/jobs/{job['id']}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in response.text.strip().split("\n\n")]
    assert [event[0] for event in events] == ["event: job"] * 3
    assert [json.loads(event[1].removeprefix("data: "))["state"] for event in events] == ["queued", "running", "done"]


async def test_events_end_with_what_went_wrong(operator, jobs):
    job = jobs.add_job("promotion", actor="operator")
    jobs.answers["follow"] = b""
    text = (await operator.get(f"/jobs/{job['id']}/events")).text
    assert text.startswith("event: problem\ndata: {")


async def test_events_of_an_unknown_job_are_a_problem_document(operator):
    assert (await operator.get(f"/jobs/{'0' * 24}/events")).status_code == 404


async def test_history_and_the_way_back(operator, jobs, same_origin, commit):
    entry = {
        "id": "1", "time": "2027-01-15T08:00:00Z", "actor": "operator", "source": "dashboard", "from_commit": "1" * 40,
        "to_commit": commit, "result": "promoted", "reason": "", "snapshot": "", "delivery": "", "rollback": False,
    }  # fmt: skip
    jobs.answers["promotion_info"] = {"promotion": {"history": [entry]}}
    (found,) = (await operator.get("/controller/history")).json()
    assert (found["to_commit"], found["rollback"]) == (commit, False)
    for body in (None, {}, {"sha": commit}):
        response = await operator.post("/controller/rollback", json=body, headers=same_origin)
        assert response.status_code == 202, response.text
    assert jobs.asked("rollback") == [{"actor": "operator"}] * 2 + [{"actor": "operator", "sha": commit}]
