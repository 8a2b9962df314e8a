from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from clawfactory_core.jobs import kinds, listener, queue, service
from clawfactory_core.jobs.client import JobsUnavailable
from clawfactory_core.jobs.protocol import REQUEST_BYTES, Refusal

from .conftest import WORKER, talk, until

SHA = "0123456789abcdef0123456789abcdef01234567"


def refused(machine, status: int, op: str, **fields: str) -> str:
    with pytest.raises(Refusal) as caught:
        machine.client().ask(op, **fields)
    assert caught.value.status == status
    return caught.value.detail


def ask(machine, label: str = "", bot: str = "bot1") -> str:
    job_id: str = machine.client(bot).ask("snapshot", actor="operator", label=label)["job"]["id"]
    return job_id


def state(machine, job_id: str, bot: str = "bot1") -> str:
    found: str = machine.client(bot).ask("job", id=job_id)["job"]["state"]
    return found


def test_a_job_is_accepted_done_and_kept(machine, serving):
    job = machine.client().ask("snapshot", actor="operator", label="before work")["job"]
    assert (job["kind"], job["actor"], job["source"], job["options"]) == (
        "snapshot",
        "operator",
        "dashboard",
        {"label": "before work"},
    )
    done = machine.finished(job["id"])
    assert (done["state"], done["error"]) == ("done", None)
    assert done["result"]["label"] == "before work"
    assert done["asked"] <= done["started"] <= done["ended"]
    assert machine.client().ask("jobs")["jobs"] == [done]
    assert machine.client().ask("job", id=job["id"])["job"] == done
    file = machine.root / "jobs" / "bot1" / f"{job['id']}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["state"] == "done"


def test_every_kind_reaches_its_work_with_what_was_asked(machine, serving):
    asked = {
        "promotion": {"actor": "octocat", "source": "webhook", "sha": SHA, "delivery": "d-1"},
        "rollback": {"actor": "operator"},
        "deny": {"actor": "operator", "proposal": "x", "reason": "no\nthanks"},
        "memory_backup": {"actor": "operator"},
    }
    for kind, fields in asked.items():
        job = machine.client().ask(kind, **fields)["job"]
        assert (job["kind"], job["actor"]) == (kind, fields["actor"])
        assert job["source"] == fields.get("source", "dashboard")
        assert job["options"] == {name: value for name, value in fields.items() if name not in ("actor", "source")}
        assert machine.finished(job["id"])["state"] == "done"
    assert machine.worked() == [f"bot1 {kind} " for kind in asked]


def test_jobs_of_a_bot_run_one_after_another_and_those_of_others_meanwhile(machine, serving):
    machine.add("bot2")
    until(lambda: machine.socket("bot2").exists())
    first, second = ask(machine, "wait"), ask(machine)
    other = ask(machine, bot="bot2")
    assert machine.finished(other, "bot2")["state"] == "done"
    assert (state(machine, first), state(machine, second)) == ("running", "queued")
    machine.let_go()
    assert machine.finished(second)["state"] == "done"
    assert [line for line in machine.worked() if "bot1" in line] == ["bot1 snapshot wait", "bot1 snapshot "]


def test_no_more_than_a_few_jobs_wait(machine, serving):
    running = ask(machine, "wait")
    until(lambda: state(machine, running) == "running")
    waiting = [ask(machine) for _ in range(queue.MAX_WAITING)]
    assert "wait" in refused(machine, 429, "snapshot", actor="operator")
    assert sorted(waiting) == waiting
    machine.let_go()
    assert {machine.finished(job)["state"] for job in waiting} == {"done"}


def test_follow_tells_progress_and_ends_with_the_job(machine, serving):
    job_id = ask(machine, "wait")
    lines = []
    for job in machine.client().follow(job_id):
        lines.append(job)
        if job["progress"]:
            machine.let_go()
    assert [job["state"] for job in lines][-1] == "done"
    assert {"phase": "full", "bytes": 1, "total": 2, "rate": 1.0, "seconds_left": 1.0} in [
        job["progress"] for job in lines
    ]
    assert lines[-1]["progress"] is None


def test_follow_repeats_itself_while_nothing_changes(machine, serving, monkeypatch):
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 0.05)
    following = machine.client().follow(ask(machine, "wait"))
    seen = [next(following) for _ in range(6)]
    assert seen[-1] == seen[-2]
    machine.let_go()
    assert list(following)[-1]["state"] == "done"


@pytest.mark.parametrize(
    ("label", "status", "words"),
    [
        ("refuse", 409, "as told"),
        ("die", 500, "without a word"),
        ("garbage", 500, "without a word"),
        ("bug", 500, "nobody thought of"),
    ],
)
def test_a_job_that_fails_says_why_and_the_next_one_is_done(machine, serving, label, status, words):
    failed = machine.finished(ask(machine, label))
    assert (failed["state"], failed["result"], failed["error"]["status"]) == ("failed", None, status)
    assert words in failed["error"]["detail"]
    assert machine.finished(ask(machine))["state"] == "done"


def test_what_a_library_prints_is_not_taken_for_an_answer(machine, serving):
    assert machine.finished(ask(machine, "chatter"))["result"]["label"] == "chatter"


def test_work_sees_nothing_of_the_environment_of_the_service(machine, monkeypatch, start):
    monkeypatch.setenv("HOME", "/home/somebody")
    start()
    assert machine.finished(ask(machine))["result"]["home"] == ""


def test_a_promotion_that_dies_is_resumed_at_once(machine, serving):
    failed = machine.finished(ask(machine, "die"))
    assert failed["error"]["title"] == "Interrupted"
    assert "undone afterwards" in failed["error"]["detail"]
    assert machine.worked() == ["bot1 snapshot die", "bot1 resume "]


def test_a_promotion_that_a_playbook_left_is_resumed(machine, monkeypatch, start):
    monkeypatch.setattr(queue, "RESUME_SECONDS", 0.1)
    start()
    journal = machine.root / "promotion" / "bot1" / "journal.json"
    (machine.root / "no-resume").touch()
    journal.write_text("{}")
    until(lambda: machine.worked().count("bot1 resume ") >= 2)
    assert journal.exists()
    (machine.root / "no-resume").unlink()
    until(lambda: not journal.exists())


def test_a_service_that_ends_ends_the_work_and_the_next_one_says_so(machine, start):
    first = start()
    running = ask(machine, "wait")
    pids = until(lambda: (machine.root / "pids-bot1").exists() and (machine.root / "pids-bot1").read_text().split())
    waiting = ask(machine)
    (machine.root / "promotion" / "bot1" / "journal.json").write_text("{}")
    first.stop()
    until(lambda: not any(_lives(int(pid)) for pid in pids))
    # The label says wait: it must not be begun a second time.
    start()
    found = machine.finished(running)
    assert (found["state"], found["error"]["title"]) == ("failed", "Interrupted")
    assert "undone afterwards" in found["error"]["detail"]
    assert machine.finished(waiting)["state"] == "done"
    assert machine.worked() == ["bot1 snapshot wait", "bot1 resume ", "bot1 snapshot "]


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


_SERVICE = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from clawfactory_core.jobs.child import Children
from clawfactory_core.jobs.service import JobsService
root = Path(sys.argv[3])
JobsService(root, Children((sys.executable, sys.argv[2], str(root))), threading.Event()).run()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a service of another process listens for the controller's user alone")
def test_a_service_that_is_killed_takes_its_work_with_it(machine, start):
    core = Path(service.__file__).parents[2]
    killed = subprocess.Popen([sys.executable, "-c", _SERVICE, str(core), str(WORKER), str(machine.root)])
    until(machine.answers)
    running = ask(machine, "wait")
    pids = until(lambda: (machine.root / "pids-bot1").exists() and (machine.root / "pids-bot1").read_text().split())
    assert all(_lives(int(pid)) for pid in pids)
    killed.kill()
    killed.wait()
    until(lambda: not any(_lives(int(pid)) for pid in pids))
    start()
    assert machine.finished(running)["error"]["title"] == "Interrupted"


def test_a_service_that_is_told_to_end_waits_a_while_for_what_runs(machine, monkeypatch, start):
    monkeypatch.setattr(service, "PATIENCE", 10)
    running = start()
    job_id = ask(machine, "wait")
    until(lambda: (machine.root / "pids-bot1").exists())
    threading.Timer(0.5, machine.let_go).start()
    running.stop()
    record = json.loads((machine.root / "jobs" / "bot1" / f"{job_id}.json").read_text())
    assert record["state"] == "done"


def test_follow_ends_without_an_end_when_the_service_does(machine, start):
    running = start()
    following = machine.client().follow(ask(machine, "wait"))
    next(following)
    running.ending.set()
    with pytest.raises(JobsUnavailable):
        list(following)


def test_a_locked_bot_gets_no_job_but_answers(machine, serving):
    job_id = ask(machine)
    (machine.root / "locks" / "bot1").write_text("because")
    assert "unlock" in refused(machine, 423, "rollback", actor="operator")
    assert machine.client().ask("job", id=job_id)


def test_a_bot_that_is_locked_while_a_job_waits_does_not_do_it(machine, serving):
    ask(machine, "wait")
    until(lambda: (machine.root / "pids-bot1").exists())
    waiting = ask(machine, "never")
    (machine.root / "locks" / "bot1").write_text("because")
    machine.let_go()
    assert machine.finished(waiting)["error"]["status"] == 423
    assert "bot1 snapshot never" not in machine.worked()


def test_the_agent_gets_so_many_snapshots_in_an_hour_and_the_operator_as_many_as_he_asks_for(machine, start):
    machine.settle_snapshots("bot1", 2)
    running = start()
    for _ in range(2):
        machine.client().ask("snapshot", actor="agent")
    assert "at most 2 snapshots in an hour; ask in 60 minutes" in refused(machine, 429, "snapshot", actor="agent")
    machine.finished(ask(machine))
    running.stop()
    start()
    refused(machine, 429, "snapshot", actor="agent")
    machine.settle_snapshots("bot1", 0)
    assert "snapshots_agent_per_hour is 0" in refused(machine, 429, "snapshot", actor="agent")


def test_a_delivery_counts_once_also_after_a_restart(machine, start):
    running = start()
    fields = {"actor": "octocat", "source": "webhook", "sha": SHA, "delivery": "abc"}
    answers: list[str] = []

    def deliver() -> None:
        try:
            machine.client().ask("promotion", **fields)
            answers.append("accepted")
        except Refusal as refusal:
            answers.append(f"{refusal.status}")

    threads = [threading.Thread(target=deliver) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["409"] * 9 + ["accepted"]
    running.stop()
    start()
    assert "abc" in refused(machine, 409, "promotion", **fields)


def test_what_nobody_set_up_is_refused(machine, serving):
    (machine.root / "snapshots" / "bot1.json").unlink()
    assert "site.yml" in refused(machine, 409, "snapshot", actor="operator")
    (machine.root / "promotion" / "bot1" / "settings.json").unlink()
    assert "site.yml" in refused(machine, 409, "rollback", actor="operator")


def test_snapshots_and_promotions_can_be_read(machine, serving):
    assert machine.client().ask("snapshots") == {"snapshots": []}
    assert machine.client().ask("promotion_info")["promotion"]["label"] == ""


def test_snapshots_are_told_with_the_newest_last(tmp_path, monkeypatch):
    records = [
        SimpleNamespace(id=name, started=name, kind="full", size=1, label="", parent="", verified="", problem="")
        for name in ("newest", "middle", "oldest")
    ]
    monkeypatch.setattr(kinds, "bot_directories", lambda root, bot: (tmp_path, tmp_path))
    monkeypatch.setattr(kinds, "list_snapshots", lambda directory: records)  # as snapshots/chains.py has them
    assert [entry["id"] for entry in kinds.snapshot_entries(tmp_path, "bot1")] == ["oldest", "middle", "newest"]


def test_a_job_of_another_bot_is_not_there(machine, serving):
    machine.add("bot2")
    until(lambda: machine.socket("bot2").exists())
    job_id = ask(machine)
    with pytest.raises(Refusal) as caught:
        machine.client("bot2").ask("job", id=job_id)
    assert caught.value.status == 404
    assert machine.client("bot2").ask("jobs") == {"jobs": []}


def test_bots_that_come_and_go_are_noticed(machine, serving):
    machine.add("bot2")
    until(lambda: machine.socket("bot2").exists())
    assert machine.client("bot2").ask("jobs") == {"jobs": []}
    machine.remove("bot2")

    def gone() -> bool:
        try:
            machine.client("bot2").ask("jobs")
        except JobsUnavailable:
            return True
        return False

    until(gone)


def test_a_directory_that_was_made_anew_gets_its_socket(machine, serving):
    job_id = ask(machine)
    machine.finished(job_id)
    shutil.rmtree(machine.socket().parent)
    until(lambda: not machine.socket().exists())
    time.sleep(0.3)
    machine.socket().parent.mkdir()
    until(lambda: machine.socket().exists())
    assert machine.client().ask("job", id=job_id)


def test_a_damaged_list_of_bots_changes_nothing(machine, serving, caplog):
    text = (machine.root / "allocations.json").read_text()
    (machine.root / "allocations.json").write_text("{")
    until(lambda: "not valid JSON" in caplog.text)
    assert machine.client().ask("jobs") == {"jobs": []}
    time.sleep(0.5)
    assert caplog.text.count("not valid JSON") == 1
    (machine.root / "allocations.json").write_text(text)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_no_socket_in_a_directory_that_others_may_write(machine, start, caplog, mode):
    machine.add("bot2")
    machine.socket("bot2").parent.chmod(mode)
    start()
    until(lambda: "root's alone" in caplog.text)
    assert not machine.socket("bot2").exists()


def test_the_socket_is_for_root_and_the_controller(machine, serving):
    found = machine.socket().stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == os.geteuid()
    assert found.st_gid == (machine.uid("bot1") if os.geteuid() == 0 else os.getegid())
    assert not list(machine.socket().parent.glob(".*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("uid", "answer"), [(30001, "jobs"), (30002, 403), (20001, 403), (0, "jobs")])
def test_only_root_and_the_bots_controller_are_heard(machine, serving, uid, answer):
    machine.socket().chmod(0o666)
    machine.socket().parent.chmod(0o755)
    (machine.root / "run").chmod(0o755)
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(sender, json.dumps(talk(machine.socket(), b'{"op":"jobs"}\n')).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as stream:
        found = json.loads(stream.read())
    os.waitpid(pid, 0)
    assert found.get("status", "jobs") == answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\n", 400),
        (b"[]\n", 400),
        (b"\xff\xfe\n", 400),
        (b'{"op":"jobs"}\n{"op":"jobs"}\n', 400),
        (b"{" + b" " * (REQUEST_BYTES - 1), 413),
        (b"x" * 1_000_000, 413),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b'{"op":"jobs"}', 400),
    ],
)
def test_garbage_is_answered_and_changes_nothing(machine, serving, data, status):
    assert talk(machine.socket(), data, close=len(data) < 65535)["status"] == status
    assert machine.client().ask("jobs") == {"jobs": []}


def test_whoever_is_slow_is_let_go_and_holds_nobody_up(machine, serving, monkeypatch):
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(machine.socket()))
        begun = time.monotonic()
        assert machine.client().ask("jobs") == {"jobs": []}
        for letter in b'{"op":':
            connection.send(bytes([letter]))
            time.sleep(0.05)
        answer = json.loads(connection.recv(65536))
        assert time.monotonic() - begun < 4.5
    assert answer["status"] == 408


def test_connections_of_a_bot_are_bounded_and_those_of_others_untouched(machine, serving):
    machine.add("bot2")
    until(lambda: machine.socket("bot2").exists())
    before = threading.active_count()
    held = [socket.socket(socket.AF_UNIX) for _ in range(service.MAX_CONNECTIONS)]
    try:
        for connection in held:
            connection.connect(str(machine.socket()))
        until(lambda: threading.active_count() >= before + len(held))
        for _ in range(10_000):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(machine.socket()))
        assert talk(machine.socket(), b'{"op":"jobs"}\n')["status"] == 503
        assert threading.active_count() <= before + len(held)
        assert machine.client("bot2").ask("jobs") == {"jobs": []}
    finally:
        for connection in held:
            connection.close()
    until(lambda: threading.active_count() <= before)
    assert machine.client().ask("jobs") == {"jobs": []}


def test_followers_leave_room_for_questions(machine, serving):
    job_id = ask(machine, "wait")
    followers = [machine.client().follow(job_id) for _ in range(service.MAX_FOLLOWED)]
    for follower in followers:
        next(follower)
    with pytest.raises(Refusal) as caught:
        next(machine.client().follow(job_id))
    assert caught.value.status == 503
    assert machine.client().ask("jobs")["jobs"]
    for follower in followers:
        follower.close()

    def has_room() -> bool:
        try:
            return bool(next(machine.client().follow(job_id)))
        except Refusal:
            return False

    until(has_room)
    machine.let_go()
    assert machine.finished(job_id)["state"] == "done"


def test_whoever_leaves_in_the_middle_costs_nothing(machine, serving, caplog):
    before = threading.active_count()
    job_id = ask(machine, "wait")
    for data in (b"", b"{", b'{"op":"jobs"}\n', b'{"op":"follow","id":"%s"}\n' % job_id.encode()):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(machine.socket()))
            connection.sendall(data)
    machine.let_go()
    machine.finished(job_id)
    until(lambda: threading.active_count() <= before)
    assert "Traceback" not in caplog.text


def test_a_job_that_cannot_be_written_down_is_not_accepted(machine, serving):
    shutil.rmtree(machine.root / "jobs" / "bot1")
    assert "written down" in refused(machine, 500, "snapshot", actor="operator")
    assert machine.client().ask("jobs") == {"jobs": []}
    assert machine.worked() == []


def test_work_that_takes_too_long_is_ended(machine, serving, monkeypatch):
    from clawfactory_core.jobs import child

    monkeypatch.setitem(child.LIMITS, "snapshot", 1.0)
    failed = machine.finished(ask(machine, "wait"))
    assert "longer than 1 seconds" in failed["error"]["detail"]
    pids = (machine.root / "pids-bot1").read_text().split()
    until(lambda: not any(_lives(int(pid)) for pid in pids))


def test_a_lock_waits_for_no_job_and_names_whose_it_is(machine, serving):
    machine.client().ask("snapshot", actor="operator", label="wait")
    lock = machine.client().ask("lock", actor="operator", reason="It talks\nto strangers.")["lock"]
    assert (lock["actor"], lock["reason"], lock["state"]) == ("operator", "It talks to strangers.", "locking")
    assert (machine.root / "locks" / "bot1").is_file()
    again = machine.client().ask("lock", actor="somebody")["lock"]
    assert again["actor"] == "operator"
    assert "playbooks/unlock.yml -l bot1" in refused(machine, 423, "rollback", actor="operator")


def test_nothing_unlocks(machine, serving):
    machine.client().ask("lock", actor="operator")
    assert "unknown" in refused(machine, 400, "unlock", actor="operator")
    assert (machine.root / "locks" / "bot1").is_file()


def test_a_text_of_the_configuration_is_in_no_answer_and_on_no_disk_afterwards(machine, serving):
    text = "// only for the work\n" + "{}"
    job = machine.client().ask("config", actor="operator", text=text, base="5d" * 32)["job"]
    assert job["options"] == {"base": "5d" * 32}
    assert machine.finished(job["id"])["options"] == {"base": "5d" * 32}
    assert "only for the work" not in json.dumps(machine.client().ask("jobs"))
    until(lambda: "only for the work" not in (machine.root / "jobs" / "bot1" / f"{job['id']}.json").read_text())


def test_an_interrupted_change_of_the_configuration_is_settled(machine, monkeypatch, start):
    monkeypatch.setattr(queue, "RESUME_SECONDS", 0.1)
    start()
    journal = machine.root / "promotion" / "bot1" / "config-change.json"
    journal.write_text("{}")
    until(lambda: "bot1 resume " in machine.worked())
    journal.unlink()
