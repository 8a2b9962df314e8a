from __future__ import annotations

import pytest

MODULE = "clawfactory_files"
SECRET = "correct-horse-battery-staple"


def test_files_are_made_once_and_paths_returned(run_module, tmp_path):
    wanted = [
        {"path": f"{tmp_path}/d", "state": "directory", "mode": "0755"},
        {"path": f"{tmp_path}/d/f", "content": "x\n", "mode": "0640"},
    ]
    first = run_module(MODULE, files=wanted)
    assert (first["changed"], first["changed_paths"]) == (True, [f"{tmp_path}/d", f"{tmp_path}/d/f"])
    assert (tmp_path / "d" / "f").read_text() == "x\n"
    second = run_module(MODULE, files=wanted)
    assert (second["changed"], second["changed_paths"], second["diff"]) == (False, [], [])


def test_check_mode_reports_and_writes_nothing(run_module, tmp_path):
    result = run_module(MODULE, check=True, files=[{"path": f"{tmp_path}/f", "content": "x\n"}])
    assert result["changed"] and "+x" in result["diff"][0]["prepared"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"state": "sideways"},
        {"mode": "rw"},
        {"owner": "root"},
        {"unknown": 1},
        {"path": "relative"},
        {"path": "/proc/nowhere/f"},
    ],
    ids=str,
)
def test_secret_content_is_in_no_result_and_no_log(run_module, system_log, tmp_path, broken):
    path = tmp_path / "f"
    path.write_text(f"old {SECRET}")
    result = run_module(MODULE, files=[{"path": str(path), "content": f"new {SECRET}", "secret": True, **broken}])
    assert bool(result.get("failed")) == bool(broken)
    assert SECRET not in result["text"]
    assert SECRET not in "".join(system_log)


def test_refusal_names_the_path_and_changes_nothing(run_module, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    files = [{"path": f"{tmp_path}/a", "content": "x"}, {"path": f"{tmp_path}/link", "content": "x"}]
    result = run_module(MODULE, files=files)
    assert result["failed"] and f"{tmp_path}/link is not a file" in result["msg"]
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_error_of_the_file_system_names_the_path(run_module, tmp_path):
    (tmp_path / "d" / "kept").mkdir(parents=True)
    result = run_module(MODULE, files=[{"path": f"{tmp_path}/d", "state": "absent"}])
    assert result["failed"] and result["msg"].startswith(f"{tmp_path}/d: ")
