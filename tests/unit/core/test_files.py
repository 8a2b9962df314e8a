from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from clawfactory_core import files
from clawfactory_core.errors import InvalidInput
from clawfactory_core.files import FileSpec, apply_files, parse_specs, plan_files, write_atomic

SECRET = "correct-horse-battery-staple"


def bring(*specs: FileSpec) -> list[str]:
    return apply_files(plan_files(specs))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".partial")]


def test_files_are_made_once(tmp_path):
    specs = [
        FileSpec(tmp_path / "d" / "e", state="directory", mode=0o2750, owner=os.getuid(), group=os.getgid()),
        FileSpec(tmp_path / "d" / "e" / "f", content="é\n", mode=0o640),
        FileSpec(tmp_path / "absent", state="absent"),
    ]
    assert bring(*specs) == [str(spec.path) for spec in specs[:2]]
    assert (tmp_path / "d/e/f").read_bytes() == "é\n".encode()
    assert (mode(tmp_path / "d/e"), mode(tmp_path / "d/e/f")) == (0o2750, 0o640)
    assert not plan_files(specs).changed


def test_modes_default_to_private(tmp_path):
    bring(FileSpec(tmp_path / "d", state="directory"), FileSpec(tmp_path / "f"))
    assert (mode(tmp_path / "d"), mode(tmp_path / "f")) == (0o700, 0o600)


def test_plan_writes_nothing(tmp_path):
    plan = plan_files([FileSpec(tmp_path / "d", state="directory"), FileSpec(tmp_path / "d" / "f", content="x")])
    assert plan.changed
    assert list(tmp_path.iterdir()) == []


def test_mode_drift_is_repaired_without_rewriting(tmp_path):
    spec = FileSpec(tmp_path / "f", content="x", mode=0o640)
    bring(spec)
    inode = spec.path.stat().st_ino
    spec.path.chmod(0o666)
    plan = plan_files([spec])
    assert [change.reasons for change in plan.changes] == [["mode"]]
    apply_files(plan)
    assert (mode(spec.path), spec.path.stat().st_ino) == (0o640, inode)


def test_owner_drift_is_repaired(tmp_path, ownership):
    specs = [
        FileSpec(tmp_path / "f", content="x", owner=20001, group=20002),
        FileSpec(tmp_path / "d", state="directory", owner=20003, group=20004),
    ]
    bring(*specs)
    assert ownership.of(tmp_path / "f") == (20001, 20002)
    assert ownership.of(tmp_path / "d") == (20003, 20004)
    ownership.give(tmp_path / "f", 1, 1)
    ownership.give(tmp_path / "d", 20003, 1)
    assert [change.reasons for change in plan_files(specs).changes] == [["owner", "group"], ["group"]]
    bring(*specs)
    assert not plan_files(specs).changed


def test_content_change_keeps_mode_and_owner_not_asked_for(tmp_path, ownership):
    spec = FileSpec(tmp_path / "f", content="old")
    bring(spec)
    spec.path.chmod(0o604)
    ownership.give(spec.path, 20001, 20002)
    bring(FileSpec(spec.path, content="new"))
    assert (spec.path.read_text(), mode(spec.path), ownership.of(spec.path)) == ("new", 0o604, (20001, 20002))


def test_once_keeps_content_and_repairs_mode(tmp_path):
    path = tmp_path / "f"
    bring(FileSpec(path, content="first", once=True, mode=0o640))
    path.write_text("the operator's")
    path.chmod(0o600)
    assert bring(FileSpec(path, content="second", once=True, mode=0o640)) == [str(path)]
    assert (path.read_text(), mode(path)) == ("the operator's", 0o640)


@pytest.mark.parametrize("state", ["file", "directory"])
def test_link_at_target_is_refused(tmp_path, state):
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="is not a"):
        plan_files([FileSpec(tmp_path / "link", state=state, content="x")])
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_dangling_link_at_target_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(InvalidInput):
        plan_files([FileSpec(tmp_path / "link", content="x")])


@pytest.mark.parametrize("state", ["file", "directory"])
def test_link_put_in_place_after_the_look_is_not_followed(tmp_path, state):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    path = tmp_path / "path"
    bring(FileSpec(path, state=state, mode=0o700))
    plan = plan_files([FileSpec(path, state=state, mode=0o777)])
    path.rename(tmp_path / "aside")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="path"):
        apply_files(plan)
    assert mode(victim) == 0o755


def test_link_put_in_place_of_new_file_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    plan = plan_files([FileSpec(tmp_path / "f", content="ours")])
    (tmp_path / "f").symlink_to(victim)
    apply_files(plan)
    assert (victim.read_text(), (tmp_path / "f").read_text()) == ("untouched", "ours")
    assert not (tmp_path / "f").is_symlink()


def test_link_at_parent_that_leads_nowhere_fails(tmp_path):
    (tmp_path / "parent").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match="parent"):
        bring(FileSpec(tmp_path / "parent" / "f", content="x"))


def test_absent_removes_the_link_and_not_its_target(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    assert bring(FileSpec(tmp_path / "link", state="absent")) == [str(tmp_path / "link")]
    assert (tmp_path / "d").is_dir() and not (tmp_path / "link").is_symlink()


def test_absent_keeps_directory_with_entries(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").touch()
    with pytest.raises(OSError, match="not empty"):
        bring(FileSpec(tmp_path / "d", state="absent"))
    assert (tmp_path / "d" / "kept").exists()


def test_absent_below_a_file_is_absent(tmp_path):
    (tmp_path / "f").touch()
    assert not plan_files([FileSpec(tmp_path / "f" / "below", state="absent")]).changed


@pytest.mark.parametrize("broken", ["replace", "fsync", "fchmod"])
def test_interrupted_write_keeps_old_content_and_leaves_nothing(tmp_path, monkeypatch, broken):
    path = tmp_path / "f"
    path.write_text("old")
    plan = plan_files([FileSpec(path, content="new", mode=0o600), FileSpec(tmp_path / "g", content="later")])

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, broken, interrupt)
    with pytest.raises(KeyboardInterrupt):
        apply_files(plan)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_leftover_of_a_killed_process_does_not_stop_a_later_one(tmp_path):
    path = tmp_path / "f"
    (tmp_path / f".f.{os.getpid()}.partial").write_text("half")
    write_atomic(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_write_never_leaves_the_content_readable_on_the_way(tmp_path, monkeypatch):
    seen: list[int] = []
    replace = os.replace

    def watch(source, target):
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_atomic(tmp_path / "f", b"x", mode=0o400)
    assert seen == [0o400]


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path):
    path = tmp_path / "f"
    contents = [bytes([65 + number]) * 50_000 for number in range(6)]
    errors: list[BaseException] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(8):
                write_atomic(path, data)
                assert path.read_bytes() in contents
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in contents
    assert leftovers(tmp_path) == []


def test_write_over_a_directory_fails_and_leaves_nothing(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="d"):
        write_atomic(tmp_path / "d", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_bytes_that_are_not_text_are_replaced(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"\xff")
    assert bring(FileSpec(path, content="\ufffd")) == [str(path)]
    assert path.read_bytes() == "\ufffd".encode()


@pytest.mark.parametrize("old", [None, "old " + SECRET])
def test_secret_content_is_in_no_diff_and_no_representation(tmp_path, old):
    path = tmp_path / "f"
    if old:
        path.write_text(old)
    plan = plan_files([FileSpec(path, content=f"new {SECRET}\n", secret=True, mode=0o600)])
    assert plan.changed
    assert SECRET not in f"{plan.diff()} {plan!r} {plan.changes} {apply_files(plan)}"
    assert SECRET in path.read_text()


def test_diff_shows_both_contents(tmp_path):
    path = tmp_path / "f"
    path.write_text("old\nsame\n")
    (entry,) = plan_files([FileSpec(path, content="new\nsame\n")]).diff()
    assert {"-old", "+new", " same"} <= set(entry["prepared"].splitlines())


def test_diff_of_attributes_names_the_path(tmp_path):
    path = tmp_path / "d"
    path.mkdir(mode=0o700)
    (entry,) = plan_files([FileSpec(path, state="directory", mode=0o755)]).diff()
    assert str(path) in entry["prepared"] and "mode" in entry["prepared"]


def test_specs_take_module_arguments():
    (spec,) = parse_specs([{"path": "/a", "content": "x", "owner": "1", "group": 2, "mode": "2750", "secret": True}])
    assert spec == FileSpec(Path("/a"), content="x", owner=1, group=2, mode=0o2750, secret=True)
    assert parse_specs([{"path": "/a", "owner": None, "mode": ""}]) == [FileSpec(Path("/a"))]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"path": "a"}, "'a' is not absolute"),
        ({}, "not absolute"),
        ({"path": "/a", "dest": "/b"}, "'dest'"),
        ({"path": "/a", "state": "touch"}, "'touch'"),
        ({"path": "/a", "owner": "root"}, "'root'"),
        ({"path": "/a", "group": "-1"}, "'-1'"),
        ({"path": "/a", "mode": "rw"}, "'rw'"),
        ({"path": "/a", "mode": "0999"}, "'0999'"),
        ({"path": "/a", "mode": "77777"}, "'77777'"),
        # YAML reads an unquoted 0644 as the number 420.
        ({"path": "/a", "mode": 420}, "420"),
    ],
)
def test_unusable_specs_are_refused_by_value(wrong, named):
    with pytest.raises(InvalidInput, match=named):
        parse_specs([wrong])


def test_digest_is_sha256():
    assert files.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
