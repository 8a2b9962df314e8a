import json
import os
from pathlib import Path

import pytest

from clawfactory_core import disk
from clawfactory_core.errors import Conflict, InvalidInput

MIB = 2**20


def make_limit(tmp_path: Path, **changes: object) -> disk.DiskLimit:
    state = tmp_path / "bot1" / "state"
    state.mkdir(parents=True, exist_ok=True)
    values = {"bot": "bot1", "path": state, "limit_bytes": 5 * MIB, "min_free_bytes": 0, "container": "c", **changes}
    return disk.DiskLimit(**values)  # type: ignore[arg-type] - wrong ones are tried, too


def test_a_limit_is_read_as_it_was_written(tmp_path):
    limit = make_limit(tmp_path, method="quota")
    disk.limit_file(tmp_path, "bot1").write_text(limit.to_json())
    assert disk.read_limit(tmp_path, "bot1") == limit
    assert disk.read_limit(tmp_path, "bot2") is None


@pytest.mark.parametrize(
    "change",
    [
        {"bot": "Bot"},
        {"path": "relative"},
        {"path": "/a/../b"},
        {"limit_bytes": 0},
        {"limit_bytes": "many"},
        {"min_free_bytes": -1},
        {"container": ""},
        {"method": "hope"},
        {"path": None},
    ],
)
def test_a_wrong_limit_is_refused(tmp_path, change):
    raw = {**json.loads(make_limit(tmp_path).to_json()), **change}
    with pytest.raises(InvalidInput):
        disk.parse_limit(json.dumps(raw), "x.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"bot": '])
def test_a_damaged_limit_is_refused(text):
    with pytest.raises(InvalidInput, match=r"x\.json"):
        disk.parse_limit(text, "x.json")


def test_a_mark_keeps_its_first_reason(tmp_path):
    limit = make_limit(tmp_path)
    assert disk.write_mark(tmp_path, limit, "limit", "first")
    assert not disk.write_mark(tmp_path, limit, "free", "second")
    mark = disk.read_mark(tmp_path, "bot1")
    assert mark is not None
    assert (mark["reason"], mark["message"]) == ("limit", "first")
    assert os.stat(disk.mark_file(tmp_path, "bot1")).st_mode & 0o777 == 0o644


def test_a_damaged_mark_still_stops(tmp_path):
    disk.mark_file(tmp_path, "bot1").write_text("{")
    mark = disk.read_mark(tmp_path, "bot1")
    assert mark is not None
    assert "damaged" in mark["message"]


def test_release_refuses_until_space_is_back(tmp_path):
    limit = make_limit(tmp_path)
    disk.limit_file(tmp_path, "bot1").write_text(limit.to_json())
    (limit.path / "big").write_bytes(b"x" * 6 * MIB)
    disk.write_mark(tmp_path, limit, "limit", "too much")
    with pytest.raises(Conflict, match=r"bot1 .*takes 6\.0 MiB, the limit is 5\.0 MiB; delete files"):
        disk.release(tmp_path, "bot1")
    assert disk.mark_file(tmp_path, "bot1").exists()
    (limit.path / "big").unlink()
    assert disk.release(tmp_path, "bot1")
    assert not disk.release(tmp_path, "bot1")


def test_release_refuses_while_too_little_is_free(tmp_path):
    limit = make_limit(tmp_path, min_free_bytes=2**60)
    disk.limit_file(tmp_path, "bot1").write_text(limit.to_json())
    disk.write_mark(tmp_path, limit, "free", "low")
    with pytest.raises(Conflict, match="free some space on the machine"):
        disk.release(tmp_path, "bot1")


def test_release_of_a_bot_without_limit_lets_it_start(tmp_path):
    disk.write_mark(tmp_path, make_limit(tmp_path), "limit", "once")
    assert disk.release(tmp_path, "bot1")
