from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.promotion import remotes
from clawfactory_core.promotion.remotes import (
    Remote,
    check_branch,
    fetch_branch,
    open_remote,
    push_branch,
    shown_address,
)
from clawfactory_core.promotion.repository import fetch_remote, main_commit
from tests.support.git_server import RemoteServer
from tests.unit.core.promotion.repositories import UID, Repositories, git

TOKEN = "made-up:tok/en%20$(id)'"


@contextmanager
def git_http(top: Path, user: str, password: str) -> Iterator[str]:
    with RemoteServer(("127.0.0.1", 0), top, f"{user}:{password}") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def repos(tmp_path) -> Repositories:
    found = Repositories(tmp_path / "bot1")
    git(found.top, "clone", "-q", "--bare", str(found.origin), "remote.git")
    git(found.top / "remote.git", "config", "http.receivepack", "true")
    return found


def test_login_travels_to_its_server_alone_and_in_no_argument(repos, tmp_path, monkeypatch):
    newer = repos.commit({"x": "1"})
    git(repos.work, "push", "-q", str(repos.top / "remote.git"), "main")
    seen = tmp_path / "arguments"
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    # Helpers that git starts are found by the same name: their arguments are written down too.
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0 $*" >> {seen}\nexec /usr/bin/git "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    with git_http(repos.top, "x-access-token", TOKEN) as url:
        remote = Remote(f"{url}/remote.git", token=TOKEN)
        assert fetch_remote(repos.origin, UID, remote) == newer == main_commit(repos.origin, UID)
        push_branch(repos.origin, UID, remote, newer, "memory-backup")
        assert fetch_branch(repos.origin, UID, remote, "memory-backup") == newer
    assert "fetch" in seen.read_text() and TOKEN not in seen.read_text() and "tok" not in seen.read_text()
    config = (repos.origin / "config").read_text()
    assert TOKEN not in config and url not in config


def test_login_in_the_address_is_used(repos):
    with git_http(repos.top, "user", "pass/w@rd") as url:
        remote = Remote(f"{url.replace('://', '://user:pass%2Fw%40rd@')}/remote.git")
        assert fetch_remote(repos.origin, UID, remote) == repos.first


def test_wrong_login_is_told_without_it(repos):
    with git_http(repos.top, "user", "right") as url, pytest.raises(CoreError) as caught:
        fetch_remote(repos.origin, UID, Remote(f"{url.replace('://', '://user:wrong-one@')}/remote.git"))
    assert "cannot fetch main of http://127.0.0.1:" in str(caught.value) and "wrong-one" not in str(caught.value)


def test_missing_login_asks_nobody(repos, monkeypatch):
    for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, "/bin/false")
    with git_http(repos.top, "user", "right") as url, pytest.raises(CoreError, match=r"cannot fetch main of"):
        fetch_remote(repos.origin, UID, Remote(f"{url}/remote.git"))


def test_ordinary_fetch_takes_one_connection(repos, tmp_path, monkeypatch):
    newer = repos.commit({"x": "1"})
    git(repos.work, "push", "-q", str(repos.top / "remote.git"), "main")
    called = []
    real = remotes.call_git
    monkeypatch.setattr(remotes, "call_git", lambda *given: called.append(given[2]) or real(*given))
    assert fetch_remote(repos.origin, UID, Remote(str(repos.top / "remote.git"))) == newer
    assert called == ["fetch"]


def test_branch_that_cannot_be_moved_is_an_error_and_not_an_old_commit(repos):
    remote = Remote(str(repos.top / "remote.git"))
    for held in ("refs/remote/main.lock", "refs/heads/main.lock"):
        newest = repos.commit({"x": held})
        git(repos.work, "push", "-q", remote.url, "main")
        lock = repos.origin / held
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with pytest.raises(CoreError, match="lock"):
            fetch_remote(repos.origin, UID, remote)
        lock.unlink()
    assert fetch_remote(repos.origin, UID, remote) == main_commit(repos.origin, UID) == newest


def test_login_is_not_given_to_another_server():
    access = open_remote(Remote("https://user:secret@host.example:8443/x/bot.git"))
    assert access.url == "https://host.example:8443/x/bot.git"
    assert dict(access.settings)["credential.helper"] == ""
    asked = "protocol=https\nhost={}\n\n"
    settings = [word for key, value in access.settings for word in ("-c", f"{key}={value}")]
    answers = [
        subprocess.run(
            ["git", *settings, "credential", "fill"],
            input=asked.format(host), text=True, capture_output=True, check=False,
            env={"PATH": os.environ["PATH"], "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "HOME": "/nonexistent",
                 **access.environment},
        ).stdout
        for host in ("host.example:8443", "host.example", "evil.example", "host.example.evil:8443")
    ]  # fmt: skip
    assert "password=secret" in answers[0] and "username=user" in answers[0]
    assert answers[1:] == [""] * 3


def test_nothing_printable_holds_the_login():
    remote = Remote("https://user:secret@host/x", token="secret")
    assert "secret" not in f"{remote!r} {open_remote(remote)!r}"


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://u:p@host/bot.git", "https://host/bot.git"),
        ("https://token@host/bot.git", "https://host/bot.git"),
        ("/srv/a@b", "/srv/a@b"),
        ("git://u:p@host/bot.git", "git://host/bot.git"),
    ],
)
def test_address_is_used_without_its_password(url, bare):
    assert open_remote(Remote(url)).url == bare


@pytest.mark.parametrize(
    "url", ["", "-x", "--upload-pack=touch /tmp/x", "https://host/\n", "https:///x", "https://a\x00b/"]
)
def test_unusable_address_is_refused(url):
    with pytest.raises(InvalidInput, match="address"):
        open_remote(Remote(url))


def test_unusable_login_is_refused():
    with pytest.raises(InvalidInput, match="login") as caught:
        open_remote(Remote("https://host/x", token="made-up\nhost=evil"))
    assert "made-up" not in str(caught.value)


def test_transport_that_runs_commands_is_refused(repos, tmp_path):
    with pytest.raises(CoreError):
        fetch_remote(repos.origin, UID, Remote(f"ext::sh -c 'touch {tmp_path}/ran'"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("branch", ["main", "release/1.2", "a_b-c", "v1"])
def test_branch_is_accepted(branch):
    assert check_branch(branch) == branch


@pytest.mark.parametrize(
    "branch",
    ["", "-a", "a..b", "a//b", "a/", "/a", "a.", "a.lock", "a/.b", "a b", "a:b", "+a", "a*", "a^", "@{-1}", "a\n", "ä"],
)
def test_branch_with_a_meaning_of_its_own_is_refused(branch):
    with pytest.raises(InvalidInput, match=r"branch .* is not valid"):
        check_branch(branch)


def test_address_is_shown_without_a_login():
    assert shown_address("https://a:b@c@host/x") == "https://host/x"
    assert shown_address("git@host:x") == "git@host:x"
    assert Path(shown_address("/srv/x")) == Path("/srv/x")
