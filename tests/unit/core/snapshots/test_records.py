from __future__ import annotations

import json
import os
import stat
from dataclasses import replace

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots.names import parse_file_name
from clawfactory_core.snapshots.records import SnapshotRecord, link_latest, read_record, write_record

ID = "a--2026-03-01T12-00-00Z"
RECORD = SnapshotRecord(
    id=ID,
    kind="inc",
    bot="bot1",
    label="a",
    parent="b--2026-03-01T11-00-00Z",
    parent_sha256="0" * 64,
    started="2026-03-01T12:00:00.000000Z",
    finished="2026-03-01T12:00:01.000000Z",
    size=7,
    sha256="1" * 64,
    count=3,
    bytes=10,
    left_out=2,
    recipients=("age1x", "age1y"),
    file_name=f"{ID}.inc.tar.zst.age",
)
FILE = parse_file_name(RECORD.file_name)


@pytest.fixture
def directory(tmp_path):
    (tmp_path / RECORD.file_name).write_bytes(b"archive")
    return tmp_path


@pytest.mark.parametrize(
    "record", [RECORD, replace(RECORD, verified="2026-03-02T00:00:00.000000Z", verified_how="content")]
)
def test_a_record_comes_back_as_it_was_written(directory, record):
    write_record(directory, record, 4321)
    assert read_record(directory, FILE) == record
    found = (directory / f"{ID}.inc.json").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 4321, 0o600)


def test_the_object_has_the_keys_of_the_format():
    data = replace(RECORD, kind="full", parent="", parent_sha256="").to_dict()
    assert (data["parent"], data["parent_sha256"], data["recipients"]) == (None, None, ["age1x", "age1y"])
    assert set(data) == {
        *("schema", "id", "kind", "bot", "label", "parent", "parent_sha256", "started", "finished", "size"),
        *("sha256", "count", "bytes", "left_out", "recipients"),
    }


def test_without_a_record_the_name_and_the_size_tell_what_they_can(directory):
    record = read_record(directory, FILE)
    assert (record.id, record.kind, record.label, record.size) == (ID, "inc", "a", 7)
    assert record.started == "2026-03-01T12:00:00.000000Z"
    assert (record.sha256, record.count) == ("", -1)
    assert record.problem == f"its record {ID}.inc.json is missing"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema": 2}, "written by a newer ClawFactory"),
        ({"schema": "1"}, "schema '1' is not a number"),
        ({"id": "other"}, "it is of 'other'"),
        ({"kind": "full"}, "it is of"),
        ({"size": "7"}, "size '7' has the wrong type"),
        ({"size": True}, "size True has the wrong type"),
        ({"recipients": ["a", 1]}, "recipients"),
        ({"parent": None}, "without parent"),
        ({"parent_sha256": "short"}, "without parent"),
        ({"sha256": "2" * 63}, "is not 64 hex digits"),
        ({"size": 8}, "has 7 bytes, its record says 8"),
    ],
)
def test_a_record_that_is_not_right_is_a_problem(directory, changes, problem):
    (directory / f"{ID}.inc.json").write_text(json.dumps({**RECORD.to_dict(), **changes}))
    assert problem in read_record(directory, FILE).problem


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "1" * (1 << 20) + " "])
def test_a_record_that_is_not_an_object_is_a_problem(directory, text):
    (directory / f"{ID}.inc.json").write_text(text, encoding="latin-1")
    assert "cannot be read" in read_record(directory, FILE).problem


def test_links_and_fifos_in_its_place_are_not_followed(directory):
    path = directory / f"{ID}.inc.json"
    path.symlink_to("/etc/passwd")
    assert "cannot be read" in read_record(directory, FILE).problem
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in read_record(directory, FILE).problem
    (directory / RECORD.file_name).unlink()
    (directory / RECORD.file_name).symlink_to("/etc/passwd")
    assert "is not a regular file" in read_record(directory, FILE).problem


def test_an_archive_of_the_original_needs_no_record(tmp_path):
    (tmp_path / "snapshot-2025-01-02T03-04-05Z.tar.age").write_bytes(b"old")
    record = read_record(tmp_path, parse_file_name("snapshot-2025-01-02T03-04-05Z.tar.age"))
    assert (record.kind, record.size, record.problem) == ("legacy", 3, "")


def test_latest_is_replaced_in_one_step(directory):
    (directory / "latest").symlink_to("old")
    link_latest(directory, RECORD.file_name)
    assert os.readlink(directory / "latest") == RECORD.file_name
    assert sorted(path.name for path in directory.iterdir()) == [RECORD.file_name, "latest"]
    with pytest.raises(CoreError, match="not the name of an archive"):
        link_latest(directory, "../elsewhere")
