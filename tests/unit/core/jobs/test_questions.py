from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from clawfactory_core import audit as audit_log
from clawfactory_core.jobs import kinds, questions
from clawfactory_core.jobs.kinds import check_request, do_work
from clawfactory_core.jobs.protocol import ANSWER_BYTES, QUESTIONS, Refusal, Request
from clawfactory_core.jobs.records import JobRecord, now
from clawfactory_core.jobs.work import Work
from clawfactory_core.snapshots.schedule import begin_run, write_run
from tests.unit.core.promotion.promotion_machine import BOT, same_user
from tests.unit.core.snapshots.live_machine import LiveMachine


def ask(root, kind, **options):
    return do_work(Work(root, "bot1", kind, "operator", "dashboard", options), lambda progress: None)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit" / "bot1.jsonl"
    path.parent.mkdir()
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch) -> LiveMachine:
    same_user(monkeypatch)
    return LiveMachine(tmp_path)


def test_there_is_work_for_every_question():
    assert set(QUESTIONS) < set(kinds.WORK)


def test_the_log_comes_in_pages_newest_first(tmp_path, log):
    for number in range(120):
        audit_log.append(log, "promotion" if number % 2 else "deny", "bot1", {"number": number}, max_bytes=4096)
    first = ask(tmp_path, "audit")
    assert len(first["entries"]) <= questions.PAGE
    newest = first["entries"][0]
    assert (newest["event"], newest["fields"], newest["number"]) == ("promotion", {"number": 119}, first["total"])
    seen = [entry["number"] for entry in first["entries"]]
    page = first
    while page["more"]:
        page = ask(tmp_path, "audit", before=str(seen[-1]))
        seen += [entry["number"] for entry in page["entries"]]
    assert seen == list(range(first["total"], 0, -1))
    assert {entry["event"] for entry in ask(tmp_path, "audit", event="den")["entries"]} == {"deny"}


def test_a_page_of_long_lines_fits_in_an_answer(tmp_path, log):
    for _ in range(40):
        audit_log.append(log, "deny", "bot1", {"reason": "\x00" * 10000}, max_bytes=64 << 20)
    page = ask(tmp_path, "audit")
    assert page["more"]
    assert len(json.dumps(page)) < ANSWER_BYTES


def test_lines_that_are_none_are_shown_as_such(tmp_path, log):
    log.write_bytes(b"\xff\n" + b"[" * 5000 + b"\n" + b'"text"\n{"event": ["x"], "time": 7}\n')
    assert [entry["event"] for entry in ask(tmp_path, "audit")["entries"]] == ["['x']", *["unreadable"] * 3]


def test_no_log_is_an_empty_one(tmp_path):
    assert ask(tmp_path, "audit") == {"entries": [], "total": 0, "more": False}
    assert ask(tmp_path, "audit_verify") == {"lines": 0, "problems": []}


def test_a_log_is_not_followed_to_elsewhere(tmp_path, log):
    (tmp_path / "secret").write_text('{"event": "secret"}\n')
    log.symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal) as caught:
        ask(tmp_path, "audit")
    assert caught.value.status == 500


def test_a_changed_line_breaks_the_chain(tmp_path, log):
    for number in range(3):
        audit_log.append(log, "deny", "bot1", {"number": number}, max_bytes=1 << 20)
    assert ask(tmp_path, "audit_verify") == {"lines": 3, "problems": []}
    log.write_text(log.read_text().replace('"number":0', '"number":9'))
    assert "line 2" in ask(tmp_path, "audit_verify")["problems"][0]


def test_the_machine_says_whether_the_key_is_there_and_the_bot_locked(machine):
    found = questions.machine_info(machine.root, BOT)
    assert (found["locked"], found["key"]) == (False, True)
    assert 0 < found["free_bytes"] <= found["total_bytes"]
    machine.key.unlink()
    os.symlink("/nowhere", machine.root / "locks" / BOT)
    found = questions.machine_info(machine.root, BOT)
    assert (found["locked"], found["key"]) == (True, False)


def test_the_machine_tells_the_last_scheduled_snapshot(machine):
    assert questions.machine_info(machine.root, BOT)["schedule"] == {}
    run = replace(begin_run(), finished="2027-01-15T08:00:09.000000Z", problem="no room")
    write_run(machine.root, BOT, run)
    assert questions.machine_info(machine.root, BOT)["schedule"] == {
        "state": "failed", "time": run.began, "snapshot": "", "problem": "no room",
    }  # fmt: skip


def test_memory_is_looked_at_and_not_saved(machine):
    (machine.state / "workspace" / "memory").mkdir(parents=True)
    (machine.state / "workspace" / "MEMORY.md").write_text("I remember.\n")
    found = ask(machine.root, "memory_info")
    assert (found["files"], found["changed"], found["commit"]) == ({"MEMORY.md": 12}, True, "")
    assert ask(machine.root, "memory_info") == found


def test_refused_hosts_are_counted_and_what_is_no_such_line_is_left_out():
    def line(seconds, host, **other):
        entry = {"time": seconds, "from": "gateway", "host": host, "port": "443", "status": 403, **other}
        return json.dumps(entry)

    lines = [
        "squid is up",
        "[]",
        "{}",
        line(1.0, "a.example"),
        line(2.5, "b.example"),
        line(3.0, "a.example"),
        line(4.0, "ok.example", status=502),
        line("NaN", "x"),
        line(1e300, "x"),
        line(5.0, "h" * 9000, port=[1]),
    ]
    found = questions.denied_hosts(lines)
    assert [(entry["host"][:9], entry["count"]) for entry in found] == [
        ("hhhhhhhhh", 1),
        ("a.example", 2),
        ("b.example", 1),
    ]
    assert found[1]["time"] == "1970-01-01T00:00:03.000000Z"
    assert len(found[0]["host"]) == 255


@pytest.mark.parametrize(
    ("op", "fields", "playbook"),
    [
        ("snapshot_restore", {}, "playbooks/restore.yml"),
        ("snapshot_verify", {"how": "content"}, "playbooks/snapshots.yml"),
    ],
)
def test_without_the_key_the_playbook_is_named(machine, op, fields, playbook):
    request = Request(op, {"actor": "operator", "snapshot": "a--2026-11-22T10-00-00Z", **fields})
    check_request(machine.root, BOT, request, [])
    machine.key.unlink()
    with pytest.raises(Refusal) as caught:
        check_request(machine.root, BOT, request, [])
    assert caught.value.status == 409
    assert playbook in caught.value.detail and "a--2026-11-22T10-00-00Z" in caught.value.detail
    check_request(machine.root, BOT, Request("snapshot_verify", {**request.fields, "how": "digest"}), [])


def test_jobs_on_snapshots_do_what_they_say(machine):
    first, second = machine.snapshot("one"), machine.snapshot("two", kind="full")
    for how in ("digest", "content"):
        done = ask(machine.root, "snapshot_verify", snapshot=first, how=how)
        assert (done["snapshot"], done["how"]) == (first, how)
    assert ask(machine.root, "snapshot_rename", snapshot=first, new_label="x") == {"snapshot": first, "label": "x"}
    assert ask(machine.root, "snapshot_delete", snapshot=first) == {"snapshot": first}
    archive = next(machine.directory.glob(f"{second}*.age"))
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(Refusal) as caught:
        ask(machine.root, "snapshot_verify", snapshot=second, how="digest")
    assert (caught.value.status, caught.value.title) == (422, "Does not pass")


@pytest.fixture
def full(machine) -> str:
    """A snapshot of a state with a name that is no text, a link, and files below directories."""
    odd = machine.state / "odd"
    (odd / "below").mkdir(parents=True)
    (odd / os.fsdecode(b"\xff name")).write_text("odd")
    (odd / "below" / "deep.txt").write_bytes(bytes(5000))
    (odd / "link").symlink_to("../nowhere")
    return machine.snapshot("browsed", kind="full")


def test_a_directory_of_a_snapshot_is_told_and_nothing_of_it_is_kept(machine, full):
    before = sorted(machine.state.parent.iterdir())
    found = ask(machine.root, "snapshot_contents", snapshot=full, path="odd")
    assert [(one["kind"], one["name"], one["bytes"], one["files"]) for one in found["listing"]["entries"]] == [
        ("d", "below", 5000, 1),
        ("l", "link", 0, 0),
        ("f", r"\0377\0040name", 3, 1),
    ]
    assert found["listing"]["entries"][1]["target"] == "../nowhere"
    assert found["listing"]["count"] == 3 < found["count"]
    top = ask(machine.root, "snapshot_contents", snapshot=full)["listing"]["entries"]
    assert ("odd", 5003, 2) in [(one["name"], one["bytes"], one["files"]) for one in top]
    assert sorted(machine.state.parent.iterdir()) == before


def test_a_directory_of_a_chain_is_as_its_last_snapshot_has_it(machine, full):
    (machine.state / "odd" / "link").unlink()
    (machine.state / "odd" / "new").write_text("later")
    last = machine.snapshot("later")
    names = [
        one["name"] for one in ask(machine.root, "snapshot_contents", snapshot=last, path="odd")["listing"]["entries"]
    ]
    assert names == ["below", "new", r"\0377\0040name"]


def test_names_and_targets_of_the_bot_never_outgrow_an_answer(machine):
    crowd = machine.state / "crowd"
    crowd.mkdir()
    for number in range(600):
        (crowd / os.fsdecode(b"%03d" % number + b"\xff" * 250)).symlink_to(os.fsdecode(b"\xff" * 4000))
    full = machine.snapshot("crowd", kind="full")
    found = ask(machine.root, "snapshot_contents", snapshot=full, path="crowd")
    assert len(json.dumps(found)) < ANSWER_BYTES
    assert 0 < len(found["listing"]["entries"]) < found["listing"]["count"] == 600


@pytest.mark.parametrize("path", ["nothing", "odd/link", "odd/below/deep.txt", "../state", "odd/", "odd/./below"])
def test_what_is_no_directory_of_it_is_refused(machine, full, path):
    with pytest.raises(Refusal) as caught:
        ask(machine.root, "snapshot_contents", snapshot=full, path=path)
    assert (caught.value.status, caught.value.title) == (422, "Refused")


def test_a_snapshot_that_does_not_pass_is_not_shown(machine, full):
    archive = next(machine.directory.glob(f"{full}*.age"))
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(Refusal) as caught:
        ask(machine.root, "snapshot_contents", snapshot=full)
    assert (caught.value.status, caught.value.title) == (422, "Does not pass")


def test_without_the_key_nothing_is_shown(machine, full):
    machine.key.unlink()
    with pytest.raises(Refusal) as caught:
        ask(machine.root, "snapshot_contents", snapshot=full)
    assert caught.value.status == 409
    assert "playbooks/restore.yml" in caught.value.detail and full in caught.value.detail


def test_deletions_in_a_day_are_bounded(machine):
    request = Request("snapshot_delete", {"actor": "operator", "snapshot": "a--2026-11-22T10-00-00Z"})
    job = JobRecord("0" * 24, "snapshot_delete", "operator", "dashboard", now())
    old = JobRecord("0" * 24, "snapshot_delete", "operator", "dashboard", "2020-01-01T00:00:00.000000Z")
    check_request(machine.root, BOT, request, [job] * 19 + [old] * 50)
    with pytest.raises(Refusal) as caught:
        check_request(machine.root, BOT, request, [job] * 20)
    assert caught.value.status == 429
