from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from clawfactory_core import takeover
from clawfactory_core.adapters.age import recipient_of
from clawfactory_core.adapters.git_repo import run_git
from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.secrets import read_env
from clawfactory_core.takeover import TakeoverRequest, apply_takeover, plan_takeover
from tests.support import original

UID = os.geteuid()


@pytest.fixture(autouse=True)
def same_group(monkeypatch):
    """The code gives files to user and group of one number, which an unprivileged user may not have."""
    chown = os.chown
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **more: chown(path, uid, os.getegid(), **more))


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "original").mkdir()
    original.lay_out(tmp_path / "original", "bot1")
    return tmp_path / "original"


@pytest.fixture
def request_(tmp_path, source) -> TakeoverRequest:
    home = tmp_path / "srv" / "bot_repos" / "bot1"
    paths = {
        "bot": home, "state": home / "state", "approved": home / "approved", "origin": home / "origin.git",
        "snapshots": tmp_path / "srv" / "snapshots" / "bot1",
    }  # fmt: skip
    # As the layout makes them.
    (paths["state"] / "workspace").mkdir(parents=True)
    paths["snapshots"].mkdir(parents=True)
    paths_ = {name: str(path) for name, path in paths.items()}
    return TakeoverRequest(source, tmp_path / "srv", "bot1", paths_, UID, UID)


def take(request: TakeoverRequest) -> takeover.TakeoverPlan:
    plan = plan_takeover(request)
    if plan.changed:
        apply_takeover(plan, recipient_of)
    return plan


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file with mode, time and content."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def assert_whole(request: TakeoverRequest) -> None:
    state = Path(request.paths["state"])
    theirs = request.source / "bot_repos" / "bot1" / "state"
    assert tree(state) == {name: file for name, file in tree(theirs).items() if not name.startswith("installed/")}
    with sqlite3.connect(state / "memory" / "main.sqlite") as database:
        assert database.execute("SELECT count(*) FROM chunks").fetchone() == (original.MEMORIES,)
    secrets = request.root / "secrets" / "bot1"
    assert read_env(secrets / "gateway.env") == original.ENV | {"OPENCLAW_GATEWAY_TOKEN": original.GATEWAY_TOKEN}
    assert read_env(secrets / "controller.env") == {"CONTROLLER_TOKEN": original.CONTROLLER_TOKEN}
    key = (request.source / "secrets" / "bot1" / "snapshot.key").read_text().splitlines()[-1]
    assert (secrets / "snapshot.key").read_text().splitlines()[-1] == key
    assert (secrets / "snapshot.pub").read_text() == recipient_of(key) + "\n"
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}
    for name in (original.ARCHIVE, original.LABELLED):
        archive = Path(request.paths["snapshots"]) / name
        assert archive.read_bytes() == (request.source / "snapshots" / "bot1" / name).read_bytes()
    clone = request.source / "bot_repos" / "bot1" / "approved"
    origin, proposals = Path(request.paths["origin"]), Path(request.paths["bot"]) / "proposals.git"
    assert run_git(origin, "rev-parse", "main", uid=UID) == original.git(clone, "rev-parse", "main")
    assert run_git(proposals, "rev-parse", "proposal/colour", uid=UID) == original.git(
        clone, "rev-parse", "proposal/colour"
    )
    assert not list(request.root.rglob("*.takeover")) + list(request.root.rglob("*.partial"))


def test_everything_is_taken_and_the_source_stays_as_it_was(request_, source):
    before = tree(source)
    plan = take(request_)
    assert plan.taken == ["state", "secrets", "key", "snapshots", "repository"]
    assert_whole(request_)
    assert tree(source) == before
    assert any("CONTROLLER_WEBHOOK_SECRET" in line and "new one" in line for line in plan.left)
    assert "controller.env ALLOWED_MERGE_ACTORS: has no counterpart" in plan.left
    assert not any(secret in str(plan.left) for secret in original.ENV.values())


def test_a_second_takeover_changes_nothing(request_):
    take(request_)
    (Path(request_.paths["state"]) / "workspace" / "MEMORY.md").write_text("newer\n")
    before = tree(request_.root)
    assert not take(request_).changed
    assert tree(request_.root) == before


def test_a_plan_writes_nothing(request_):
    before = tree(request_.root)
    assert plan_takeover(request_).changed
    assert tree(request_.root) == before


@pytest.mark.parametrize("step", range(14))
def test_one_that_was_cut_off_is_taken_up_again(request_, monkeypatch, step):
    """Each durable change is one call of these; the one that is the step's does not happen."""
    calls = 0

    def counted(original_function):
        def call(*arguments, **more):
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise KeyboardInterrupt
            return original_function(*arguments, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(takeover, "write_new", counted(takeover.write_new))
        patch.setattr(takeover, "copy_tree", counted(takeover.copy_tree))
        try:
            take(request_)
        except KeyboardInterrupt:
            pass
        else:
            pytest.fail(f"there are only {calls} steps")
    take(request_)
    assert_whole(request_)


def test_a_bot_that_runs_there_is_refused(request_, source):
    mounts = {"clawfactory-bot1-gateway": [str(source / "bot_repos" / "bot1" / "state")], "other": ["/srv/x"]}
    running = TakeoverRequest(**(request_.__dict__ | {"mounts": mounts}))
    with pytest.raises(Conflict, match=r"clawfactory-bot1-gateway.*stop"):
        plan_takeover(running)


def test_a_bot_with_a_state_here_is_refused(request_):
    (Path(request_.paths["state"]) / "workspace" / "MEMORY.md").write_text("mine\n")
    with pytest.raises(Conflict, match=r"has a state here already.*remove"):
        plan_takeover(request_)


def test_a_directory_that_is_not_the_originals_is_refused_with_the_bots_there_are(request_, source):
    (source / "bot_repos" / "bot1").rename(source / "bot_repos" / "sandy")
    with pytest.raises(InvalidInput, match="bots there: sandy"):
        plan_takeover(request_)


def test_what_a_hostile_bot_left_in_its_state_reads_and_runs_nothing(request_, source, tmp_path):
    state = source / "bot_repos" / "bot1" / "state"
    secret = tmp_path / "secret"
    secret.write_text("of the machine")
    os.mkfifo(state / "fifo")
    (state / "link").symlink_to(secret)
    (state / "directory").symlink_to(tmp_path)
    (state / "setuid").write_text("x")
    (state / "setuid").chmod(0o4755)
    (state / "unreadable").write_text("x")
    plan = take(request_)
    here = Path(request_.paths["state"])
    assert (here / "link").is_symlink() and (here / "directory").is_symlink()
    assert (here / "setuid").stat().st_mode & 0o7777 == 0o755
    assert not (here / "fifo").exists()
    assert "fifo: neither a file, a directory nor a link" in plan.left


def test_git_neither_reads_the_clones_configuration_nor_its_borrowed_objects(request_, source, tmp_path):
    git = source / "bot_repos" / "bot1" / "approved" / ".git"
    ran = tmp_path / "ran"
    with (git / "config").open("a") as config:
        config.write(f'[core]\n\tfsmonitor = "touch {ran}"\n\tsshCommand = "touch {ran}"\n\tpager = "touch {ran}"\n')
        config.write(f'[uploadpack]\n\tpackObjectsHook = "touch {ran}; cat"\n')
    (git / "objects" / "info").mkdir(exist_ok=True)
    (git / "objects" / "info" / "alternates").write_text(f"{tmp_path}/elsewhere\n")
    take(request_)
    assert_whole(request_)
    assert not ran.exists()


def test_a_git_directory_that_is_a_link_is_no_repository(request_, source, tmp_path):
    git = source / "bot_repos" / "bot1" / "approved" / ".git"
    git.rename(tmp_path / "elsewhere")
    git.symlink_to(tmp_path / "elsewhere")
    assert "repository" not in take(request_).taken


def test_a_commit_that_may_not_be_approved_is_refused(request_, source):
    clone = source / "bot_repos" / "bot1" / "approved"
    (clone / "workspace" / "passwd").symlink_to("/etc/passwd")
    original.git(clone, "add", "--all")
    original.git(clone, "commit", "--quiet", "--message", "A link out")
    with pytest.raises(CoreError, match="may not be approved"):
        take(request_)
    assert not Path(request_.paths["origin"]).exists()


def test_a_key_that_shall_not_lie_on_the_machine_stays_where_it_is(request_):
    take(TakeoverRequest(**(request_.__dict__ | {"keep_key": False})))
    assert not (request_.root / "secrets" / "bot1" / "snapshot.key").exists()
