"""Copies of snapshots elsewhere, made by the real rclone in another directory and over SFTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clawfactory_core.adapters.age import WrongKey, make_key_pair
from clawfactory_core.adapters.rclone import Rclone
from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.repository import RepositoryRequest, apply_repository, plan_repository
from clawfactory_core.snapshots.chains import BrokenChain, Retention, list_snapshots
from clawfactory_core.snapshots.history import pack_history
from clawfactory_core.snapshots.offsite import (
    config_path,
    copy_noted,
    fetch_chain,
    fetch_history,
    open_place,
    prune_copies,
    read_offsite,
)
from clawfactory_core.snapshots.schedule import COPY, read_run
from clawfactory_core.snapshots.settings import read_identities, read_recipients
from tests.support.polling import wait_for
from tests.support.snapshot_files import BOT, Files
from tests.support.ssh_server import make_key

NOW = datetime.now(UTC)
ALL = {"last": 99, "daily": 0, "weekly": 0, "monthly": 0}


@pytest.fixture
def bot(tmp_path: Path) -> Files:
    files = Files(tmp_path / "root")
    settle(files, tmp_path / "elsewhere")
    return files


def settle(files: Files, elsewhere: Path, **values: object) -> None:
    path = files.root / "snapshots" / f"{BOT}.json"
    offsite = {"remote": f"here:{elsewhere}", "prune": True, "keep": ALL, **values}
    path.write_text(json.dumps({**json.loads(path.read_text()), "offsite": offsite}))
    config_path(files.root, BOT).write_text("[here]\ntype = local\n")


def place(files: Files, bot: str = BOT) -> Rclone:
    offsite = read_offsite(files.root, BOT)
    assert offsite is not None
    return open_place(files.root, BOT, offsite, bot)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def chain_of_three(files: Files) -> list[str]:
    made = []
    for text in ("one", "two", "three"):
        (files.state / "workspace" / "note.md").write_text(text)
        made.append(files.snapshot())
    return made


def test_archives_and_records_are_copied_and_nothing_else(bot: Files, tmp_path: Path) -> None:
    made = chain_of_three(bot)
    (bot.directory / ".partial").write_text("half")
    assert copy_noted(bot.root, BOT) == []
    wanted = [name for name in names(bot.directory) if name.endswith((".age", ".json"))]
    assert len(wanted) == 6
    assert names(tmp_path / "elsewhere" / BOT) == wanted
    run = read_run(bot.root, BOT, COPY)
    assert run is not None
    assert (run.state, run.problem, made[-1].startswith(run.snapshot)) == ("made", "", True)
    assert read_run(bot.root, BOT) is None


def test_a_chain_comes_back_as_it_was(bot: Files, tmp_path: Path) -> None:
    made = chain_of_three(bot)
    copy_noted(bot.root, BOT)
    into = tmp_path / "fetched"
    assert fetch_chain(place(bot), made[1].split(".")[0], into, 0) == made[:2]
    assert [record.problem for record in list_snapshots(into)] == ["", ""]
    assert all((into / name).read_bytes() == (bot.directory / name).read_bytes() for name in names(into))
    assert fetch_chain(place(bot), "latest", into, 0) == made


@pytest.fixture
def approved(bot: Files, tmp_path: Path) -> Callable[[str], str]:
    """Gives the bot a repository without a remote, and moves it: the commit by which what is approved says that."""
    settle(bot, tmp_path / "elsewhere", history=True)
    home = bot.state.parent
    template = tmp_path / "template"
    (template / "workspace").mkdir(parents=True)
    (template / "workspace" / "AGENTS.md").write_text("of the template")
    request = RepositoryRequest(BOT, home / "origin.git", home / "approved", template, "", os.geteuid())
    apply_repository(plan_repository(request))

    def move(text: str) -> str:
        clone = tmp_path / "clone"
        if not clone.exists():
            git(tmp_path, "clone", "--quiet", str(home / "origin.git"), str(clone))
        (clone / "workspace" / "AGENTS.md").write_text(text)
        git(clone, "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "--all", "--message", text)
        git(clone, "push", "--quiet", "origin", "HEAD:main")
        return git(clone, "rev-parse", "HEAD")

    return move


def git(directory: Path, *arguments: str) -> str:
    run = ["git", "-C", str(directory), *arguments]
    return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def histories(directory: Path) -> list[str]:
    return [name for name in names(directory) if name.endswith(".bundle.age")]


def test_what_was_approved_is_copied_once_and_anew_when_it_moved(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    bot.snapshot()
    copy_noted(bot.root, BOT)
    (first,) = histories(tmp_path / "elsewhere" / BOT)
    copy_noted(bot.root, BOT)
    assert histories(tmp_path / "elsewhere" / BOT) == [first]
    commit = approved("first")
    copy_noted(bot.root, BOT)
    both = histories(tmp_path / "elsewhere" / BOT)
    assert [name for name in both if commit[:12] in name] == histories(bot.directory)
    assert len(both) == 2
    assert [path.stat().st_mode & 0o777 for path in bot.directory.glob("*.bundle.age")] == [0o600]
    assert b"of the template" not in (bot.directory / histories(bot.directory)[0]).read_bytes()


def test_what_was_approved_opens_with_age_and_git_alone(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    commit = approved("first")
    copy_noted(bot.root, BOT)
    (name,) = histories(tmp_path / "elsewhere" / BOT)
    opened = ["age", "-d", "-i", str(bot.secrets / "snapshot.key"), "-o", str(tmp_path / "bundle")]
    subprocess.run([*opened, str(tmp_path / "elsewhere" / BOT / name)], check=True, timeout=60)
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(tmp_path / "bundle"), str(tmp_path / "opened"))
    assert git(tmp_path / "opened", "rev-parse", "HEAD") == commit
    assert (tmp_path / "opened" / "workspace" / "AGENTS.md").read_text() == "first"


def test_what_was_approved_is_packed_again_for_a_new_key(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    approved("first")
    copy_noted(bot.root, BOT)
    identity, recipient = make_key_pair()
    (bot.root / "secrets" / BOT / "snapshot.pub").write_text(f"{recipient}\n")
    copy_noted(bot.root, BOT)
    copy_noted(bot.root, BOT)
    assert len(histories(bot.directory)) == 1
    newest = histories(tmp_path / "elsewhere" / BOT)[-1]
    (tmp_path / "key").write_text(f"{identity}\n")
    opened = ["age", "-d", "-i", str(tmp_path / "key"), "-o", str(tmp_path / "bundle")]
    subprocess.run([*opened, str(tmp_path / "elsewhere" / BOT / newest)], check=True, timeout=60)


def test_old_copies_of_what_was_approved_go_by_their_number(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    settle(bot, tmp_path / "elsewhere", history=True, keep={**ALL, "last": 2})
    bot.snapshot()
    moment = NOW
    for text in ("one", "two", "three"):
        commit = approved(text)
        moment += timedelta(minutes=1)
        pack_history(bot.state.parent / "origin.git", bot.directory, read_recipients(bot.root, BOT), moment)
        place(bot).upload(bot.directory, ["*.age"])
    gone = prune_copies(place(bot), Retention(last=2, daily=0, weekly=0, monthly=0), moment)
    left = histories(tmp_path / "elsewhere" / BOT)
    assert (len(gone), len(left), commit[:12] in left[1]) == (1, 2, True)


def test_a_repository_with_a_remote_is_not_copied(bot: Files, approved: Callable[[str], str], tmp_path: Path) -> None:
    settle(bot, tmp_path / "elsewhere", history=False)
    bot.snapshot()
    copy_noted(bot.root, BOT)
    assert histories(tmp_path / "elsewhere" / BOT) == []


def test_what_was_approved_comes_back_to_a_bot_that_has_nothing(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    approved("first")
    commit = approved("second")
    copy_noted(bot.root, BOT)
    home = bot.state.parent
    key = read_identities(bot.root, BOT)
    with pytest.raises(Conflict, match="has a repository here, which stays"):
        fetch_history(bot.root, BOT, place(bot), key, os.geteuid())
    for name in ("origin.git", "proposals.git", "approved"):
        (home / name).rename(tmp_path / name)
    with pytest.raises(WrongKey):
        fetch_history(bot.root, BOT, place(bot), (make_key_pair()[0],), os.geteuid())
    assert not (home / "origin.git").exists()
    assert fetch_history(bot.root, BOT, place(bot), key, os.geteuid()) == commit
    assert git(home / "origin.git", "rev-list", "main") == git(tmp_path / "origin.git", "rev-list", "main")
    assert (home / "proposals.git" / "HEAD").exists()
    assert not list(tmp_path.rglob("bundle"))


def test_a_copy_that_may_not_be_approved_makes_nothing(
    bot: Files, approved: Callable[[str], str], tmp_path: Path
) -> None:
    """Whoever can write to the remote can encrypt for the bot too."""
    approved("first")
    clone, home = tmp_path / "clone", bot.state.parent
    (clone / "workspace" / "out").symlink_to("/etc/passwd")
    git(clone, "add", "--all")
    git(clone, "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "--message", "a link out")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    copy_noted(bot.root, BOT)
    for name in ("origin.git", "proposals.git", "approved"):
        (home / name).rename(tmp_path / name)
    with pytest.raises(InvalidInput, match="may not be approved"):
        fetch_history(bot.root, BOT, place(bot), (), os.geteuid())
    assert not (home / "origin.git").exists()


def test_a_history_that_is_too_large_is_not_fetched(bot: Files, approved: Callable[[str], str], tmp_path: Path) -> None:
    approved("first")
    copy_noted(bot.root, BOT)
    home = bot.state.parent
    (home / "origin.git").rename(tmp_path / "origin.git")
    copied = tmp_path / "elsewhere" / BOT
    os.truncate(copied / histories(copied)[-1], (1 << 30) + 1)
    with pytest.raises(Conflict, match="more than the 1073741824 that a history may have"):
        fetch_history(bot.root, BOT, place(bot), (), os.geteuid())
    assert not (home / "origin.git").exists()


def test_a_place_that_sends_more_than_it_said_fills_no_disk(bot: Files, tmp_path: Path) -> None:
    (made,) = chain_of_three(bot)[:1]
    copy_noted(bot.root, BOT)
    held = tmp_path / "held"
    held.mkdir()
    os.truncate(tmp_path / "elsewhere" / BOT / made, 64 << 20)
    with pytest.raises(CoreError, match="cannot be used"):
        place(bot).download(held, {made: 1000})
    assert sum(path.stat().st_size for path in held.iterdir()) < 2 << 20


def test_nothing_is_fetched_where_there_is_no_room(bot: Files, tmp_path: Path) -> None:
    chain_of_three(bot)
    copy_noted(bot.root, BOT)
    with pytest.raises(Conflict, match="are to stay free"):
        fetch_chain(place(bot), "latest", tmp_path / "fetched", 1 << 60)
    assert list((tmp_path / "fetched").iterdir()) == []


def test_records_that_nobody_wrote_are_not_fetched(bot: Files, tmp_path: Path) -> None:
    chain_of_three(bot)
    copy_noted(bot.root, BOT)
    record = next((tmp_path / "elsewhere" / BOT).glob("*.json"))
    os.truncate(record, (64 << 20) + 1)
    with pytest.raises(Conflict, match="not of our making"):
        fetch_chain(place(bot), "latest", tmp_path / "fetched", 0)


def test_a_pack_that_is_cut_off_leaves_the_one_before(
    bot: Files, approved: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    approved("first")
    copy_noted(bot.root, BOT)
    before = names(bot.directory)
    approved("second")

    def fail(*_arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("clawfactory_core.snapshots.history.os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        pack_history(bot.state.parent / "origin.git", bot.directory, read_recipients(bot.root, BOT), NOW)
    assert names(bot.directory) == before


def test_a_missing_link_is_named_before_anything_is_fetched(bot: Files, tmp_path: Path) -> None:
    made = chain_of_three(bot)
    copy_noted(bot.root, BOT)
    (tmp_path / "elsewhere" / BOT / made[1]).unlink()
    with pytest.raises(BrokenChain, match="is missing"):
        fetch_chain(place(bot), "latest", tmp_path / "fetched", 0)
    assert not (tmp_path / "fetched").exists()


def test_retention_of_the_copies_is_their_own(bot: Files, tmp_path: Path) -> None:
    bot.settle(max_chain=1)
    settle(bot, tmp_path / "elsewhere")
    made = chain_of_three(bot)
    copy_noted(bot.root, BOT)
    gone = prune_copies(place(bot), Retention(last=1, daily=0, weekly=0, monthly=0), NOW)
    assert sorted(gone) == sorted(made[:2])
    assert [name for name in names(tmp_path / "elsewhere" / BOT) if name.endswith(".age")] == [made[2]]
    assert len(names(tmp_path / "elsewhere" / BOT)) == 2
    assert set(made) <= set(names(bot.directory))


def test_nothing_is_deleted_where_pruning_is_off(bot: Files, tmp_path: Path) -> None:
    bot.settle(max_chain=1)
    settle(bot, tmp_path / "elsewhere", prune=False, keep={**ALL, "last": 1})
    made = chain_of_three(bot)
    assert copy_noted(bot.root, BOT) == []
    assert set(made) <= set(names(tmp_path / "elsewhere" / BOT))


def test_what_fails_is_noted_and_shows_no_credentials(bot: Files) -> None:
    chain_of_three(bot)
    config_path(bot.root, BOT).write_text("[here]\ntype = sftp\nhost = 127.0.0.1\nport = 1\npass = c2VjcmV0LXdvcmQ\n")
    with pytest.raises(CoreError, match=r"snapshots_offsite_remote\) cannot be used, rclone copy") as failure:
        copy_noted(bot.root, BOT)
    run = read_run(bot.root, BOT, COPY)
    assert run is not None
    assert run.state == "failed"
    assert "c2VjcmV0LXdvcmQ" not in str(failure.value) + run.problem


def test_a_line_that_cannot_be_parsed_is_not_shown(bot: Files, tmp_path: Path) -> None:
    """A private key that was written in several lines has such ones."""
    settle(bot, tmp_path / "elsewhere")
    with config_path(bot.root, BOT).open("a") as config:
        config.write("key_pem = -----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n")
    with pytest.raises(CoreError, match="could not parse a line of its configuration, not shown") as caught:
        copy_noted(bot.root, BOT)
    assert "b3BlbnNz" not in str(caught.value)


def test_a_locked_bot_is_not_copied(bot: Files, tmp_path: Path) -> None:
    chain_of_three(bot)
    (bot.root / "locks" / BOT).touch()
    with pytest.raises(Conflict):
        copy_noted(bot.root, BOT)
    assert not (tmp_path / "elsewhere").exists()


def test_no_copies_are_no_error_until_one_is_wanted(bot: Files, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no copy of a snapshot"):
        fetch_chain(place(bot, "another"), "latest", tmp_path / "fetched", 0)


def test_settings_without_copies_want_none(bot: Files) -> None:
    bot.settle()
    assert read_offsite(bot.root, BOT) is None
    with pytest.raises(InvalidInput, match="nothing is to be copied"):
        copy_noted(bot.root, BOT)


def test_an_absent_rclone_is_named(bot: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CoreError, match=r"rclone is not on this machine; run: ansible-playbook site\.yml"):
        replace(place(bot)).sizes()


@contextmanager
def sftp_server(directory: Path, key: Path) -> Iterator[int]:
    """rclone as a server of SFTP that lets ``bot`` in with ``pass-word``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["rclone", "serve", "sftp", "--config=", f"--addr=127.0.0.1:{port}", f"--key={key}", "--user=bot"]
    server = subprocess.Popen([*command, "--pass=pass-word", str(directory)], stderr=subprocess.DEVNULL)
    try:
        wait_for("the server", lambda: _listens(port), 20)
        yield port
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def s3_store(bucket: str) -> Iterator[int]:
    """moto's server of S3, with a bucket; it takes any key."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for("the store", lambda: _listens(port), 60)
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(made, timeout=60).close()
        yield port
    finally:
        server.terminate()
        server.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_another_host_takes_copies_and_an_impostor_gets_none(bot: Files, tmp_path: Path) -> None:
    made = chain_of_three(bot)
    settle(bot, tmp_path / "unused", remote="host:bots")
    make_key(tmp_path / "keys" / "right")
    make_key(tmp_path / "keys" / "wrong")
    obscured = subprocess.run(["rclone", "obscure", "-"], input="pass-word", capture_output=True, text=True, check=True)
    known = bot.root / "secrets" / BOT / "rclone.known_hosts"
    (tmp_path / "served").mkdir()
    with sftp_server(tmp_path / "served", tmp_path / "keys" / "right") as port:
        config_path(bot.root, BOT).write_text(
            f"[host]\ntype = sftp\nhost = 127.0.0.1\nport = {port}\nuser = bot\npass = {obscured.stdout}\n"
        )
        for name in ("wrong", "right"):
            kind, public, _ = (tmp_path / "keys" / f"{name}.pub").read_text().split()
            known.write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
            if name == "wrong":
                with pytest.raises(CoreError, match="knownhosts: key mismatch"):
                    copy_noted(bot.root, BOT)
                assert list((tmp_path / "served").iterdir()) == []
        copy_noted(bot.root, BOT)
        assert fetch_chain(place(bot), "latest", tmp_path / "fetched", 0) == made
    assert set(made) <= set(names(tmp_path / "served" / "bots" / BOT))


def test_an_s3_store_takes_copies_and_gives_them_back(
    bot: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot.settle(max_chain=1)
    made = chain_of_three(bot)
    settle(bot, tmp_path / "unused", remote="store:backups/fleet")
    # Of whoever runs the playbook; a bundle of authorities is one that Debian's rclone cannot do with.
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("RCLONE_S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with s3_store("backups") as port:
        config_path(bot.root, BOT).write_text(
            "[store]\ntype = s3\nprovider = Other\naccess_key_id = key\nsecret_access_key = hush\n"
            f"endpoint = http://127.0.0.1:{port}\nforce_path_style = true\n"
        )
        assert place(bot).sizes() == {}
        copy_noted(bot.root, BOT)
        assert set(made) <= set(place(bot).sizes())
        assert fetch_chain(place(bot), "latest", tmp_path / "fetched", 0) == made[2:]
        assert (tmp_path / "fetched" / made[2]).read_bytes() == (bot.directory / made[2]).read_bytes()
        prune_copies(place(bot), Retention(last=1, daily=0, weekly=0, monthly=0), NOW)
        assert [name for name in place(bot).sizes() if name.endswith(".age")] == made[2:]
