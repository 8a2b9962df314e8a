from __future__ import annotations

import http.server
import os
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from clawfactory_core.adapters.git_repo import run_git
from clawfactory_core.checkout import commit
from clawfactory_core.errors import CoreError
from clawfactory_core.repository import RepositoryRequest, apply_repository, plan_repository

UID = os.geteuid()
LOGIN = "ghp_0123456789abcdef"


@pytest.fixture(autouse=True)
def same_group(monkeypatch):
    """The code gives files to user and group of one number, which an unprivileged user may not have."""
    chown = os.chown
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **more: chown(path, uid, os.getegid(), **more))


@pytest.fixture
def template(tmp_path) -> Path:
    top = tmp_path / "bot_template"
    (top / "workspace" / "bot_save").mkdir(parents=True)
    (top / "workspace" / "bot_save" / "package.json").write_text("{}")
    (top / "workspace" / "AGENTS.md").write_text("hello")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    return top


def ask(tmp_path: Path, remote: str = "") -> RepositoryRequest:
    bot = tmp_path / "bot1"
    return RepositoryRequest("bot1", bot / "origin.git", bot / "approved", tmp_path / "bot_template", remote, UID)


def make(request: RepositoryRequest) -> bool:
    plan = plan_repository(request)
    apply_repository(plan)
    return plan.changed


def remote_with(tmp_path: Path, build) -> str:
    work = tmp_path / "work"
    (work / "workspace").mkdir(parents=True)
    build(work / "workspace")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        run_git(work, *arguments, uid=UID)
    return str(work)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_template_becomes_origin_and_checkout(tmp_path, template):
    request = ask(tmp_path)
    assert make(request)
    approved = request.approved
    assert (approved / "workspace" / "bot1_save" / "package.json").read_text() == "{}"
    assert not (approved / "workspace" / "bot_save").exists()
    assert run_git(approved, "rev-parse", "HEAD", uid=UID) == commit(approved)
    assert run_git(approved, "status", "--porcelain", uid=UID) == ""
    assert run_git(request.origin, "rev-parse", "main", uid=UID) == commit(approved)
    assert sorted(path.name for path in request.origin.parent.iterdir()) == ["approved", "origin.git", "proposals.git"]
    assert not make(request)


def test_plan_writes_nothing(tmp_path, template):
    assert plan_repository(ask(tmp_path)).changed
    assert not (tmp_path / "bot1").exists()


def test_checkout_is_readable_for_the_gateway_but_not_its_git_directory(tmp_path, template):
    request = ask(tmp_path)
    make(request)
    approved = request.approved
    assert {path: mode(approved / path) for path in (".", "workspace", "workspace/AGENTS.md", "run.sh", ".git")} == {
        ".": 0o755, "workspace": 0o755, "workspace/AGENTS.md": 0o644, "run.sh": 0o755, ".git": 0o700,
    }  # fmt: skip
    assert mode(request.origin) == 0o700
    assert not any(mode(path) & 0o077 for path in request.origin.rglob("*"))


def test_existing_checkout_is_never_moved(tmp_path, template):
    request = ask(tmp_path)
    make(request)
    before = commit(request.approved)
    (template / "workspace" / "AGENTS.md").write_text("newer")
    assert not make(request)
    assert commit(request.approved) == before


def test_lost_checkout_is_made_again_from_origin(tmp_path, template):
    request = ask(tmp_path)
    make(request)
    before = commit(request.approved)
    subprocess.run(["rm", "-r", request.approved], check=True)
    plan = plan_repository(request)
    assert (plan.make_origin, plan.make_approved) == (False, True)
    make(request)
    assert commit(request.approved) == before


def test_checkout_directory_with_files_but_no_commit_stays(tmp_path, template):
    request = ask(tmp_path)
    request.approved.mkdir(parents=True)
    (request.approved / "somebody's").write_text("x")
    with pytest.raises(CoreError, match=f"{request.approved} holds files but no commit"):
        make(request)
    assert [path.name for path in request.approved.iterdir()] == ["somebody's"]


@pytest.mark.parametrize("left", [".template.partial", ".origin.partial", ".proposals.partial", "approved.partial"])
def test_leftovers_of_an_interrupted_run_are_removed(tmp_path, template, left):
    request = ask(tmp_path)
    directory = request.origin.parent / left
    (directory / "objects").mkdir(parents=True)
    (directory / "stray").write_text("x")
    make(request)
    assert sorted(path.name for path in request.origin.parent.iterdir()) == ["approved", "origin.git", "proposals.git"]
    assert not list(request.approved.rglob("stray")) and not list(request.origin.rglob("stray"))


@pytest.mark.parametrize("step", [0, 1])
def test_interrupted_run_leaves_no_half_repository(tmp_path, template, monkeypatch, step):
    request = ask(tmp_path)
    replace, calls = os.replace, []

    def interrupt(source, target):
        calls.append(target)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(request)
    assert request.origin.exists() == (step == 1)
    assert not request.approved.exists()
    assert make(request)
    assert commit(request.approved)


def test_remote_is_copied_and_checked_out(tmp_path):
    remote = remote_with(tmp_path, lambda workspace: (workspace / "AGENTS.md").write_text("mine"))
    request = ask(tmp_path, remote)
    assert make(request)
    assert (request.approved / "workspace" / "AGENTS.md").read_text() == "mine"
    assert run_git(request.origin, "rev-parse", "main", uid=UID) == commit(request.approved)
    assert not make(request)


def test_branch_of_another_name_is_copied_as_main(tmp_path):
    remote = remote_with(tmp_path, lambda workspace: (workspace / "AGENTS.md").write_text("mine"))
    run_git(Path(remote), "branch", "-m", "main", "live", uid=UID)
    request = replace(ask(tmp_path, remote), branch="live")
    make(request)
    assert run_git(request.origin, "rev-parse", "main", uid=UID) == commit(request.approved)


def test_proposals_borrow_from_origin_by_a_path_that_moves_along(tmp_path, template):
    request = ask(tmp_path)
    make(request)
    assert (request.proposals / "objects/info/alternates").read_text() == "../../origin.git/objects\n"
    tip = commit(request.approved)
    assert run_git(request.proposals, "cat-file", "-t", tip, uid=UID) == "commit"
    request.origin.parent.rename(tmp_path / "elsewhere")
    for name in ("proposals.git", "approved"):
        assert run_git(tmp_path / "elsewhere" / name, "cat-file", "-t", tip, uid=UID) == "commit"
    assert mode(tmp_path / "elsewhere" / "proposals.git") == 0o700
    assert not any(mode(path) & 0o077 for path in (tmp_path / "elsewhere" / "proposals.git").rglob("*"))


@pytest.mark.parametrize("with_remote", [True, False])
def test_bot_from_before_gets_what_it_lacks(tmp_path, template, with_remote):
    """It has no proposals.git, with a remote no origin.git, and approved is a clone."""
    request = ask(tmp_path)
    make(request)
    before = commit(request.approved)
    subprocess.run(["rm", "-r", request.proposals, request.approved], check=True)
    run_git(request.origin.parent, "clone", "-q", "--no-hardlinks", "origin.git", "approved", uid=UID)
    if with_remote:
        subprocess.run(["rm", "-r", request.origin], check=True)
        request = ask(tmp_path, f"{tmp_path}/remote-that-is-away")
    plan = plan_repository(request)
    assert (plan.make_origin, plan.make_proposals, plan.make_approved) == (with_remote, True, False)
    assert not plan.needs_template
    make(request)
    assert run_git(request.origin, "rev-parse", "main", uid=UID) == before == commit(request.approved)
    assert not plan_repository(request).changed


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda workspace: (workspace / "link").symlink_to("/etc/passwd"), "workspace/link: is a symbolic link"),
        (lambda workspace: (workspace / "a,b").write_text("x"), "character in its name"),
        (lambda workspace: (workspace.rmdir(), workspace.symlink_to("/etc")), "workspace: is not a directory"),
        (lambda workspace: (workspace / ".gitattributes").write_text("x"), "Git gives a meaning to"),
        (lambda workspace: [(workspace / name).write_text("x") for name in ("Aa", "aA")], "is the same as"),
    ],
)
def test_remote_with_unusable_tree_is_refused_and_removed(tmp_path, build, said):
    request = ask(tmp_path, remote_with(tmp_path, build))
    with pytest.raises(
        CoreError, match=f"bot1: cannot make origin.git from the remote: .*may not be approved: .*{said}"
    ):
        make(request)
    assert list(request.approved.parent.iterdir()) == []


def test_unusable_tree_in_an_origin_that_exists_is_not_checked_out(tmp_path, template):
    (template / "workspace" / "link").symlink_to("/etc/passwd")
    request = ask(tmp_path)
    with pytest.raises(CoreError, match=r"cannot make the approved checkout: .*top-level entries"):
        make(request)
    assert not request.approved.exists()


def test_absent_remote_is_named(tmp_path):
    with pytest.raises(CoreError, match=f"bot1: cannot make origin.git from the remote: .*{tmp_path}/absent"):
        make(ask(tmp_path, f"{tmp_path}/absent"))


@pytest.fixture(params=[401, 403, 404, 500])
def refusing_server(request):
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(request.param)

        def log_message(self, format, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("login", [LOGIN, f"user:{LOGIN}", f"{LOGIN}:x-oauth-basic", f"user:{LOGIN}%40odd"])
def test_login_of_a_refusing_remote_is_not_shown(tmp_path, refusing_server, login):
    with pytest.raises(CoreError, match=f"http://{refusing_server}/bot") as caught:
        make(ask(tmp_path, f"http://{login}@{refusing_server}/bot.git"))
    assert LOGIN not in str(caught.value)


@pytest.mark.parametrize("url", ["http://{}@127.0.0.1:1/x", "https://u:{}@127.0.0.1:1/x", "nonsense://{}@h/x",
                                 "ssh://u:{}@127.0.0.1:1/x", "git://{}@127.0.0.1:1/x"])  # fmt: skip
def test_login_of_an_unreachable_remote_is_not_shown(tmp_path, url):
    with pytest.raises(CoreError) as caught:
        make(ask(tmp_path, url.format(LOGIN)))
    assert LOGIN not in str(caught.value)
