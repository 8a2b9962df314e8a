"""Forms of the pages: they ask for what was shown, lead to the job's page, and fail as pages."""

from __future__ import annotations

import re

import pytest

from clawfactory_core.jobs.protocol import KINDS, Refusal
from tests.support.controller_stack import HOSTILE, NEWEST, controller_stack, propose

pytestmark = pytest.mark.anyio
PAGES = ["/", "/pages/proposals", "/pages/proposals/kinder", "/pages/history", "/pages/snapshots", "/pages/memory",
         "/pages/audit", "/pages/jobs"]  # fmt: skip


@pytest.fixture
def stack(tmp_path):
    with controller_stack(tmp_path / "stack") as stack:
        yield stack


@pytest.fixture
def app(stack):
    return stack.app


@pytest.fixture
def kinder(stack):
    return propose(stack.repositories, "kinder", HOSTILE, {"workspace/<b>.md": f"{HOSTILE}\n"})


@pytest.mark.parametrize(
    ("path", "form", "op", "asked"),
    [
        ("history/rollback", {"sha": "1" * 40}, "rollback", {"sha": "1" * 40}),
        ("snapshots/create", {"label": ""}, "snapshot", {}),
        ("snapshots/create", {"label": "a b"}, "snapshot", {"label": "a b"}),
        ("snapshots/verify", {"name": NEWEST}, "snapshot_verify", {"snapshot": NEWEST, "how": "digest"}),
        (
            "snapshots/verify",
            {"name": NEWEST, "content": "1"},
            "snapshot_verify",
            {"snapshot": NEWEST, "how": "content"},
        ),
        ("snapshots/rename", {"name": NEWEST, "label": "x"}, "snapshot_rename", {"snapshot": NEWEST, "new_label": "x"}),
        ("snapshots/restore", {"name": NEWEST, "confirm": "bot1"}, "snapshot_restore", {"snapshot": NEWEST}),
        ("snapshots/delete", {"name": NEWEST}, "snapshot_delete", {"snapshot": NEWEST}),
        ("memory/backup", {}, "memory_backup", {}),
    ],
)  # fmt: skip
async def test_form_asks_and_leads_to_the_job(operator, stack, same_origin, path, form, op, asked):
    response = await operator.post(f"/pages/{path}", data=form, headers=same_origin)
    assert response.status_code == 303, response.text
    assert stack.jobs.asked(op) == [{"actor": "operator", **asked}]
    page = await operator.get(response.headers["location"])
    assert page.status_code == 200
    assert "waits for its turn" in page.text


async def test_decisions_name_what_was_shown(operator, stack, kinder, same_origin):
    page = (await operator.get("/pages/proposals/kinder")).text
    assert f'name="expected_sha" value="{kinder}"' in page
    await operator.post("/pages/proposals/kinder/promote", data={"expected_sha": kinder}, headers=same_origin)
    await operator.post("/pages/proposals/kinder/deny", data={"reason": "No.\r\nNever."}, headers=same_origin)
    await operator.post("/pages/history/promote-main", headers=same_origin)
    main = {"actor": "operator", "source": "dashboard"}
    assert stack.jobs.asked("promotion") == [
        {**main, "proposal": "kinder", "expected_sha": kinder},
        {**main, "sha": stack.repositories.main},
    ]
    assert stack.jobs.asked("deny") == [{"actor": "operator", "proposal": "kinder", "reason": "No.\nNever."}]


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("snapshots/restore", {"name": NEWEST}, 422),
        ("snapshots/restore", {"name": NEWEST, "confirm": "bot2"}, 422),
        ("snapshots/delete", {"name": "../x"}, 422),
        ("snapshots/delete", {}, 422),
        ("snapshots/create", {"label": "<b>"}, 422),
        ("history/rollback", {"sha": "HEAD"}, 422),
        ("proposals/absent/promote", {"expected_sha": "1" * 40}, 404),
        ("proposals/absent/deny", {"reason": "x"}, 404),
    ],
)
async def test_refused_form_is_a_page_and_asks_for_nothing(operator, stack, same_origin, path, form, status):
    response = await operator.post(f"/pages/{path}", data=form, headers=same_origin)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert 'role="alert"' in response.text
    assert not [request for request in stack.jobs.requests if "actor" in request]


async def test_refusal_of_the_machine_is_told_on_the_page_as_text(operator, stack, same_origin):
    stack.jobs.answers["snapshot_delete"] = Refusal(409, "Conflict", f"because {HOSTILE}")
    response = await operator.post("/pages/snapshots/delete", data={"name": NEWEST}, headers=same_origin)
    assert response.status_code == 409
    assert "because &lt;script&gt;" in response.text


async def test_no_page_has_code_or_markup_of_the_bot(operator, kinder):
    pages = {path: (await operator.get(path)).text for path in PAGES}
    for page in pages.values():
        assert_plain(page)
    assert "&lt;script&gt;" in pages["/pages/proposals"]


def assert_plain(page: str) -> None:
    assert not re.search(r"<script(?! src=\"/static/vendor/[a-z.-]+\" defer></script>)|<style|javascript:", page)
    assert not re.search(r"<[^>]*\s(?:style|on[a-z]+)=", page), "a handler or a style in a tag"
    assert "<img src=x" not in page
    assert "<b>.md" not in page


async def test_pages_stay_below_the_prefix(operator, kinder, token):
    headers = {"X-Forwarded-Prefix": "/bots/bot1", "Authorization": f"Bearer {token}"}
    for path in PAGES:
        page = (await operator.get(path, headers=headers)).text
        places = re.findall(r'(?:href|src|action|hx-get|sse-connect)="([^"]*)"', page)
        assert len(places) > 10
        assert [place for place in places if not place.startswith(("/bots/bot1/", "#"))] == []


async def test_form_below_a_prefix_leads_to_a_page_below_it(operator, token, same_origin):
    headers = {"X-Forwarded-Prefix": "/bots/bot1", "Authorization": f"Bearer {token}", **same_origin}
    response = await operator.post("/pages/memory/backup", headers=headers)
    assert response.headers["location"].startswith("/bots/bot1/pages/jobs/")


async def test_pages_say_what_does_not_answer(operator, stack, kinder):
    stack.jobs.path.unlink()
    for path in PAGES:
        response = await operator.get(path)
        assert response.headers["content-type"].startswith("text/html")
        # What the controller can read itself is shown.
        assert response.status_code == (200 if path == "/" or path.startswith("/pages/proposals") else 503), path
        if not path.startswith("/pages/proposals"):
            assert "clawfactory-jobs has to run" in response.text


async def test_every_job_has_a_page_however_little_it_says(operator, stack):
    for kind in [*KINDS, "of the future"]:
        for state in ("queued", "running", "done", "failed"):
            error = {"title": "Failed", "detail": HOSTILE, "status": 500} if state == "failed" else None
            result = {} if state == "done" else None
            job = stack.jobs.add_job(kind, actor="operator", state=state, result=result, error=error)
            response = await operator.get(f"/pages/jobs/{job['id']}")
            assert response.status_code == 200, (kind, state)
            assert ("sse-connect" in response.text) == (state in ("queued", "running"))


async def test_events_are_pieces_of_the_page(operator, stack):
    job = stack.jobs.add_job("snapshot", actor="operator", state="running")
    text = (await operator.get(f"/pages/jobs/{job['id']}/events")).text
    events = re.findall("^event: (.*)$", text, flags=re.MULTILINE)
    assert events == ["state", "job", "state", "job", "end"]
    assert all(line.startswith(("event: ", "data:")) for line in text.splitlines() if line)
    assert "<script" not in text
    assert (await operator.get(f"/pages/jobs/{'0' * 24}/events")).status_code == 404


async def test_script_of_a_page_whose_session_has_ended_reloads_it(client):
    response = await client.get("/", headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["hx-refresh"]) == (401, "true")


async def test_lock_is_thrown_for_the_name_of_the_bot_alone(operator, stack, same_origin):
    assert "Lock…" in (await operator.get("/")).text
    refused = await operator.post("/pages/lock", data={"confirm": "bot2", "reason": "x"}, headers=same_origin)
    assert "Nothing was done" in refused.text and stack.jobs.asked("lock") == []
    done = await operator.post("/pages/lock", data={"confirm": "bot1", "reason": f"a\n{HOSTILE}"}, headers=same_origin)
    assert done.status_code == 200 and HOSTILE not in done.text
    assert stack.jobs.asked("lock") == [{"actor": "operator", "reason": f"a {HOSTILE}"}]
