"""Snapshots, memory and the log: the machine is asked for what was meant, and nothing else."""

from __future__ import annotations

import pytest

from clawfactory_core.jobs.protocol import Refusal
from tests.support.jobs_server import CONTENTS

pytestmark = pytest.mark.anyio
NAME = "before-upgrade--2026-11-22T10-00-00Z"
FILE = f"{NAME}.full.tar.zst.age"


@pytest.fixture
def archives(settings, app):
    directory = settings.snapshots_dir
    directory.mkdir()
    (directory / FILE).write_bytes(b"age-encryption.org/v1\n" + bytes(range(256)) * 4096)
    (directory / "latest").symlink_to(FILE)
    (directory / f"{NAME}.full.json").write_text("{}")
    return directory


@pytest.mark.parametrize(
    ("path", "body", "op", "asked"),
    [
        ("/snapshot/verify", {"name": NAME}, "snapshot_verify", {"snapshot": NAME, "how": "digest"}),
        ("/snapshot/verify", {"name": NAME, "content": True}, "snapshot_verify", {"snapshot": NAME, "how": "content"}),
        ("/snapshot/restore", {"name": NAME}, "snapshot_restore", {"snapshot": NAME}),
        ("/snapshot/rename", {"name": NAME, "label": "x"}, "snapshot_rename", {"snapshot": NAME, "new_label": "x"}),
        ("/snapshot/delete", {"name": NAME}, "snapshot_delete", {"snapshot": NAME}),
        ("/memory/backup", None, "memory_backup", {}),
    ],
)
async def test_machine_is_asked(operator, jobs, same_origin, path, body, op, asked):
    response = await operator.post(path, json=body, headers=same_origin)
    assert response.status_code == 202, response.text
    assert response.json()["kind"] == op
    assert jobs.asked(op) == [{"actor": "operator", **asked}]


@pytest.mark.parametrize("path", ["/snapshot/verify", "/snapshot/restore", "/snapshot/rename", "/snapshot/delete"])
@pytest.mark.parametrize(
    "body",
    [
        {}, [], None, {"name": "latest"}, {"name": "../x--2026-11-22T10-00-00Z"}, {"name": f"{NAME}\n"}, {"name": 7},
        {"name": f"{'x' * 200}--2026-11-22T10-00-00Z"}, {"name": NAME, "force": True}, {"name": NAME, "label": "<b>"},
    ],
)  # fmt: skip
async def test_malformed_name_asks_for_nothing(operator, jobs, same_origin, path, body):
    assert (await operator.post(path, json=body, headers=same_origin)).status_code == 422
    assert jobs.requests == []


async def test_missing_key_is_said_with_the_playbook(operator, jobs, same_origin):
    jobs.answers["snapshot_restore"] = Refusal(409, "No key here", "run: ansible-playbook playbooks/restore.yml")
    response = await operator.post("/snapshot/restore", json={"name": NAME}, headers=same_origin)
    assert response.status_code == 409
    assert "playbooks/restore.yml" in response.json()["detail"]


@pytest.mark.parametrize("name", [NAME, FILE])
async def test_download_is_the_ciphertext(operator, archives, name):
    response = await operator.get(f"/snapshot/download/{name}")
    assert response.content == (archives / FILE).read_bytes()
    assert response.headers["content-disposition"] == f'attachment; filename="{FILE}"'
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name",
    [
        "latest", f"{NAME}.full.json", "..%2f..%2fetc%2fpasswd", f"{FILE}%00", f"{FILE}%0a", "x" * 300,
        "absent--2026-11-22T10-00-00Z", "%2e%2e",
    ],
)  # fmt: skip
async def test_nothing_else_is_downloaded(operator, archives, name):
    response = await operator.get(f"/snapshot/download/{name}")
    assert response.status_code in (404, 422), response.text


async def test_link_in_the_place_of_an_archive_is_not_followed(operator, archives, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (archives / FILE).unlink()
    (archives / FILE).symlink_to(tmp_path / "secret")
    response = await operator.get(f"/snapshot/download/{NAME}")
    assert response.status_code == 503
    assert "secret" not in response.text


async def test_downloads_are_bounded(operator, archives, app):
    store = app.state.services.archives
    open_ones = [store.stream(await store.open(NAME)) for _ in range(4)]
    for stream in open_ones:
        await anext(stream)
    assert (await operator.get(f"/snapshot/download/{NAME}")).status_code == 429
    for stream in open_ones:
        await stream.aclose()
    assert (await operator.get(f"/snapshot/download/{NAME}")).status_code == 200


async def test_snapshots_are_listed_newest_last(operator, jobs):
    entry = {"id": NAME, "time": "2026-11-22T10:00:00Z", "kind": "full", "size": 9, "label": "x", "parent": None,
             "verified": None, "problem": ""}  # fmt: skip
    later = {**entry, "id": "x--2026-11-23T10-00-00Z", "time": "2026-11-23T10:00:00Z"}
    jobs.answers["snapshots"] = {"snapshots": [later, entry]}
    assert [one["id"] for one in (await operator.get("/snapshot")).json()] == [NAME, later["id"]]


async def test_memory(operator):
    found = (await operator.get("/memory/status")).json()
    assert (found["files"], found["changed"]) == ({"MEMORY.md": 2048}, True)


async def test_audit_is_filtered_and_paged_by_the_machine(operator, jobs):
    entry = {"number": 7, "time": "t", "event": "restore", "fields": {"actor": "operator"}}
    jobs.answers["audit"] = {"audit": {"entries": [entry], "total": 9, "more": True}}
    page = (await operator.get("/audit", params={"event": "restore", "before": 8})).json()
    assert (page["entries"], page["more"]) == ([entry], True)
    assert jobs.asked("audit") == [{"event": "restore", "before": "8"}]
    jobs.answers["audit_verify"] = {"audit": {"lines": 9, "problems": ["line 2: cut"]}}
    assert (await operator.get("/audit/verify")).json() == {"lines": 9, "problems": ["line 2: cut"]}


@pytest.mark.parametrize(
    "query", ["before=0", "before=x", "before=-1", "before=9999999999999", "event=%3Cb%3E", "event="]
)
async def test_malformed_audit_query_asks_for_nothing(operator, jobs, query):
    assert (await operator.get(f"/audit?{query}")).status_code == 422
    assert jobs.requests == []


@pytest.mark.parametrize(("query", "asked"), [("", {}), (r"?path=workspace/a\0040b", {"path": r"workspace/a\0040b"})])
async def test_contents_are_those_that_were_asked_for(operator, jobs, query, asked):
    response = await operator.get(f"/snapshot/contents/{NAME}{query}")
    assert response.status_code == 200, response.text
    assert jobs.asked("snapshot_contents") == [{"snapshot": NAME, **asked}]
    found = response.json()
    assert (found["path"], found["count"], found["total_count"]) == ("workspace", 3, 7)
    assert [(one["name"], one["kind"]) for one in found["entries"]] == [
        ("memory", "directory"),
        ("latest", "link"),
        ("MEMORY.md", "file"),
    ]


@pytest.mark.parametrize("path", ["a b", "a%0A", "<b>", "a%5C0999", "x" * 5000])
async def test_path_that_no_snapshot_has_asks_for_nothing(operator, jobs, path):
    for address in ("/snapshot/contents", "/pages/snapshots"):
        assert (await operator.get(f"{address}/{NAME}?path={path}")).status_code == 422
    assert jobs.requests == []


async def test_page_of_a_directory_leads_down_and_up_again(operator):
    page = (await operator.get(f"/pages/snapshots/{NAME}?path=workspace/notes")).text
    assert f'href="/pages/snapshots/{NAME}?path=workspace"' in page
    assert f'href="/pages/snapshots/{NAME}?path=workspace/memory"' in page
    assert "MEMORY.md" in page and "memory/a.md" in page


async def test_contents_without_a_key_name_the_playbook(operator, jobs):
    jobs.answers["snapshot_contents"] = Refusal(409, "No key here", "run: ansible-playbook playbooks/restore.yml")
    for address in ("/snapshot/contents", "/pages/snapshots"):
        response = await operator.get(f"{address}/{NAME}")
        assert (response.status_code, "playbooks/restore.yml" in response.text) == (409, True)


@pytest.mark.parametrize("mtime_ns", [-(2**63), 2**63 - 1, 10**30])
async def test_file_that_claims_to_be_of_no_time_is_shown(operator, jobs, mtime_ns):
    listing = {"count": 1, "entries": [{**CONTENTS["listing"]["entries"][0], "mtime_ns": mtime_ns}]}
    jobs.answers["snapshot_contents"] = {"contents": {**CONTENTS, "listing": listing}}
    for address in ("/snapshot/contents", "/pages/snapshots"):
        assert (await operator.get(f"{address}/{NAME}")).status_code == 200
