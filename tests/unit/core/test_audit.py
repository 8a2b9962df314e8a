from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from datetime import datetime, timedelta

import pytest

from clawfactory_core import audit
from clawfactory_core.errors import Conflict, InvalidInput

MANY = 1 << 20


@pytest.fixture
def log(tmp_path):
    return tmp_path / "bot1.jsonl"


def add(log, number=0, max_bytes=MANY, **fields):
    audit.append(log, "test.event", "bot1", {"number": number, **fields}, max_bytes=max_bytes)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_when_who_what_and_what_was_before(log):
    add(log, 1, client="gateway")
    add(log, 2)
    first, second = lines(log)
    assert {key: first[key] for key in ("bot", "event", "number", "client", "previous")} == {
        "bot": "bot1",
        "event": "test.event",
        "number": 1,
        "client": "gateway",
        "previous": "0" * 64,
    }
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(time.tzinfo) - time) < timedelta(minutes=1)
    assert second["previous"] == hashlib.sha256(log.read_bytes().split(b"\n")[0]).hexdigest()
    assert audit.verify(log) == audit.Verification(2, ())


def test_nobody_else_reads_it(log):
    previous = os.umask(0)
    try:
        add(log)
    finally:
        os.umask(previous)
    assert log.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["time", "bot", "event", "previous"])
def test_reserved_fields_are_refused(log, name):
    with pytest.raises(InvalidInput, match=name):
        audit.append(log, "x", "bot1", {name: "mine"}, max_bytes=MANY)
    assert not log.exists()


def test_a_line_too_long_is_refused_and_nothing_is_written(log):
    add(log)
    with pytest.raises(InvalidInput, match="65536"):
        add(log, text="x" * 70000)
    assert audit.verify(log) == audit.Verification(1, ())


def test_a_line_break_in_a_value_stays_in_its_line(log):
    add(log, text='a\nb\r\u2028"}')
    assert log.read_bytes().count(b"\n") == 1
    assert lines(log)[0]["text"] == 'a\nb\r\u2028"}'


def test_a_log_that_is_not_there_is_whole(log):
    assert audit.verify(log) == audit.Verification(0, ())


def test_links_and_other_things_are_not_followed(log, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious\n")
    log.symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        add(log)
    log.unlink()
    os.mkfifo(log)
    with pytest.raises((Conflict, OSError)):
        add(log)
    assert target.read_text() == "precious\n"


def tamper_change(data):
    return data.replace(b'"number":1', b'"number":7')


def tamper_drop(data):
    return b"".join(data.splitlines(keepends=True)[i] for i in (0, 2, 3))


def tamper_swap(data):
    return b"".join(data.splitlines(keepends=True)[i] for i in (0, 2, 1, 3))


def tamper_drop_first(data):
    return b"".join(data.splitlines(keepends=True)[1:])


def tamper_insert(data):
    return data.replace(b"\n", b'\n{"time":"","bot":"","event":"x","previous":"' + b"0" * 64 + b'"}\n', 1)


def tamper_garbage(data):
    return data.replace(b"\n", b"\nnot json\n", 1)


def tamper_blank(data):
    return data.replace(b"\n", b"\n\n", 1)


@pytest.mark.parametrize(
    "tamper",
    [tamper_change, tamper_drop, tamper_swap, tamper_drop_first, tamper_insert, tamper_garbage, tamper_blank],
)
def test_what_was_done_to_it_shows(log, tamper):
    for number in range(4):
        add(log, number)
    log.write_bytes(tamper(log.read_bytes()))
    assert audit.verify(log).problems


def test_a_cut_line_shows_until_the_next_one_closes_it_off(log):
    for number in range(3):
        add(log, number)
    os.truncate(log, log.stat().st_size - 40)
    (problem,) = audit.verify(log).problems
    assert "line 3" in problem
    add(log, 3)
    assert audit.verify(log) == audit.Verification(5, ())
    *_, torn, last = log.read_bytes().splitlines()
    assert json.loads(torn)["event"] == "audit.torn"
    assert json.loads(last)["number"] == 3


def test_a_line_that_only_lost_its_end_is_closed_off_too(log):
    add(log, 0)
    os.truncate(log, log.stat().st_size - 1)
    add(log, 1)
    assert audit.verify(log) == audit.Verification(3, ())


def test_a_file_of_nothing_but_a_cut_line(log):
    log.write_bytes(b'{"time":"2')
    add(log, 1)
    assert audit.verify(log) == audit.Verification(3, ())


def test_a_torn_mark_does_not_excuse_another_line(log):
    for number in range(2):
        add(log, number)
    os.truncate(log, log.stat().st_size - 5)
    add(log, 2)
    data = log.read_bytes()
    log.write_bytes(data.replace(b'"number":1', b'"number":9'))
    assert audit.verify(log).problems
    # Nor one line fewer before it.
    log.write_bytes(b"".join(data.splitlines(keepends=True)[1:]))
    assert audit.verify(log).problems


def test_it_rotates_and_the_chain_goes_on(log):
    for number in range(30):
        add(log, number, max_bytes=1000)
    old = audit.rotated(log)
    assert log.stat().st_size <= 1000
    assert old.stat().st_size <= 1000
    assert lines(log)[0]["previous"] == hashlib.sha256(old.read_bytes().splitlines()[-1]).hexdigest()
    assert [entry["number"] for entry in lines(old) + lines(log)][-1] == 29
    assert audit.verify(log).problems == ()
    assert audit.verify(log).lines == len(lines(old)) + len(lines(log))


def test_a_rotated_file_that_is_gone_or_cut_shows(log):
    for number in range(30):
        add(log, number, max_bytes=1000)
    old = audit.rotated(log)
    kept = old.read_bytes()
    old.unlink()
    assert audit.verify(log).problems
    old.write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
    assert audit.verify(log).problems
    old.write_bytes(kept)
    assert audit.verify(log).problems == ()


def test_killed_between_rename_and_first_line(log):
    for number in range(3):
        add(log, number)
    log.rename(audit.rotated(log))
    assert audit.verify(log) == audit.Verification(3, ())
    log.touch()
    add(log, 3)
    assert audit.verify(log) == audit.Verification(4, ())


def test_a_cut_line_is_closed_off_before_the_file_rotates(log):
    for number in range(4):
        add(log, number, max_bytes=1000)
    os.truncate(log, log.stat().st_size - 20)
    for number in range(4, 9):
        add(log, number, max_bytes=700)
    assert audit.rotated(log).exists()
    assert audit.verify(log).problems == ()


def test_a_cut_first_line_of_a_new_file(log):
    for number in range(3):
        add(log, number)
    log.rename(audit.rotated(log))
    log.write_bytes(b'{"time')
    add(log, 3)
    assert audit.verify(log) == audit.Verification(6, ())


def test_one_line_may_be_larger_than_the_file_should_be(log):
    add(log, 0, max_bytes=10)
    add(log, 1, max_bytes=10)
    assert audit.verify(log) == audit.Verification(2, ())


def _many(log, process, max_bytes):
    for number in range(40):
        audit.append(log, "test.event", "bot1", {"process": process, "number": number}, max_bytes=max_bytes)


@pytest.mark.parametrize("max_bytes", [MANY, 4000])
def test_several_processes_write_one_chain(log, max_bytes):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many, args=(log, process, max_bytes)) for process in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    verification = audit.verify(log)
    assert verification.problems == ()
    if max_bytes == MANY:
        assert verification.lines == 160
        for process in range(4):
            assert [entry["number"] for entry in lines(log) if entry["process"] == process] == list(range(40))


def test_lines_cut_from_the_end_show(log):
    for number in range(4):
        add(log, number)
    whole = log.read_bytes().splitlines(keepends=True)
    for kept in (3, 1):
        log.write_bytes(b"".join(whole[:kept]))
        (problem,) = audit.verify(log).problems
        assert f"{log}, line {kept}: the line that was written last is not there" in problem
    log.unlink()
    (problem,) = audit.verify(log).problems
    assert problem.startswith("the whole log: ")


def test_a_change_of_the_last_line_shows(log):
    for number in range(2):
        add(log, number)
    log.write_bytes(tamper_change(log.read_bytes()))
    (problem,) = audit.verify(log).problems
    assert "line 2" in problem


def test_lines_cut_after_it_rotated_show(log):
    for number in range(30):
        add(log, number, max_bytes=1000)
    log.write_bytes(b"")
    assert audit.verify(log).problems
    log.unlink()
    assert audit.verify(log).problems


def test_a_log_from_before_there_was_a_head_is_whole(log):
    for number in range(2):
        add(log, number)
    audit.head_of(log).unlink()
    assert audit.verify(log) == audit.Verification(2, ())
    add(log, 2)
    assert audit.head_of(log).read_text().strip() == hashlib.sha256(log.read_bytes().splitlines()[-1]).hexdigest()


def test_a_head_older_than_the_last_line_is_what_a_crash_leaves(log):
    add(log, 0)
    before = audit.head_of(log).read_bytes()
    add(log, 1)
    audit.head_of(log).write_bytes(before)
    assert audit.verify(log) == audit.Verification(2, ())


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_rotated_file_that_is_none_is_neither_followed_nor_waited_for(log, make):
    add(log)
    make(audit.rotated(log))
    with pytest.raises((Conflict, OSError)):
        audit.verify(log)


def test_a_head_that_is_a_link_is_not_followed(log, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious\n")
    audit.head_of(log).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        add(log)
    assert target.read_text() == "precious\n"
