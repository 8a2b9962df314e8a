from __future__ import annotations

import base64
import io
import os
import tarfile

import pytest

MODULE = "clawfactory_repository"


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> dict:
    # The code gives files to user and group of one number, which an unprivileged user may not have.
    chown = os.chown
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **more: chown(path, uid, os.getegid(), **more))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as template:
        member = tarfile.TarInfo("workspace/bot_save/package.json")
        member.size = 2
        template.addfile(member, io.BytesIO(b"{}"))
    paths = {"origin": tmp_path / "bot" / "origin.git", "approved": tmp_path / "bot" / "approved"}
    text = base64.b64encode(buffer.getvalue()).decode()
    return {"bot": "bot1", "owner": os.geteuid(), "template": text, **{key: str(path) for key, path in paths.items()}}


def test_repository_is_made_once(run_module, arguments):
    first = run_module(MODULE, **arguments)
    assert first["changed"] and len(first["commit"]) == 40
    assert first["entries"] == [{"name": "bot1_save", "kind": "directory"}]
    second = run_module(MODULE, **arguments)
    assert not second["changed"]
    assert (second["commit"], second["entries"]) == (first["commit"], first["entries"])


def test_check_mode_writes_nothing(run_module, arguments, tmp_path):
    result = run_module(MODULE, check=True, **arguments)
    assert (result["changed"], result["commit"], result["entries"]) == (True, "", [])
    assert not (tmp_path / "bot").exists()


def test_login_of_a_refusing_remote_is_in_no_result_or_log(run_module, arguments, system_log):
    login = "ghp_0123456789abcdef"
    result = run_module(MODULE, **arguments, remote=f"http://user:{login}@127.0.0.1:1/bot.git")
    assert result["failed"] and "http://127.0.0.1:1/bot.git" in result["msg"]
    assert login not in result["text"]
    assert login not in "".join(system_log)
