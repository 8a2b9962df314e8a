"""SSH remotes: addresses and keys are taken apart by allow-lists, and a real server is spoken to."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clawfactory_core.adapters.git_repo import GitCall
from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.files import apply_files, plan_files
from clawfactory_core.promotion import remotes, ssh
from clawfactory_core.promotion.remotes import Remote, fetch_branch, open_remote, push_branch
from clawfactory_core.promotion.repository import fetch_remote, main_commit
from clawfactory_core.promotion.upstream import _with_login
from clawfactory_core.remote_key import RemoteKeyRequest, no_new_key, plan_remote_key, remote_directory
from clawfactory_core.repository import RepositoryRequest, apply_repository, plan_repository
from tests.support.ssh_server import SshServer, make_key, ssh_server
from tests.unit.core.promotion.repositories import Repositories, git

#: As a bot's: without a name.
UID = 30977 if os.geteuid() == 0 else os.geteuid()
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
ADDRESS = ssh.SshAddress("git", "git.example", 22)


@pytest.mark.parametrize(
    ("url", "user", "host", "port", "name"),
    [
        ("ssh://git@git.example/bot1.git", "git", "git.example", 22, "git.example"),
        ("ssh://git@Git.Example:2222/owner/bot1.git", "git", "git.example", 2222, "[git.example]:2222"),
        ("ssh://git@192.0.2.7:65535/~owner/bot-1.git/", "git", "192.0.2.7", 65535, "[192.0.2.7]:65535"),
        ("git@github.com:owner/bot1.git", "git", "github.com", 22, "github.com"),
        ("a.b-c_d@host:/srv/bot1.git", "a.b-c_d", "host", 22, "host"),
    ],
)
def test_address_is_taken_apart(url, user, host, port, name):
    assert ssh.is_ssh(url)
    found = ssh.parse_ssh(url)
    assert (found.user, found.host, found.port, found.name) == (user, host, port, name)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=touch x@host/bot", "ssh://-oProxyCommand=x/bot", "ssh://git@-oProxyCommand=x/bot",
        "-oProxyCommand=x@host:bot", "git@-oProxyCommand=x:bot", "git@host:-x", "git@host:--upload-pack=x",
        "ssh://git@host/--upload-pack=x", "ssh://git@host/a/-x", "git@host:a/-x",
        "ssh://git:password@host/bot", "ssh://host/bot", "host:bot", "git@:bot", "ssh://git@/bot", "git@host:",
        "ssh://git@host", "ssh://git@host/", "ssh://git@host:0/bot", "ssh://git@host:65536/bot", "ssh://git@host:022/b",
        "ssh://git@host:x/bot", "ssh://git@host:22:22/bot", "ssh://git@a@host/bot", "git@a@host:bot",
        "git+ssh://git@host/bot", "ssh+git://git@host/bot", "SSH://git@host/bot",
        "ssh://git@[::1]/bot", "git@[::1]:bot", "git@[host:22]:bot", "ssh://git@ho_st-/bot", "ssh://git@a..b/bot",
        "ssh://git@host/../x", "ssh://git@host/a/../x", "git@host:..", "git@host:./a", "ssh://git@host//etc",
        "ssh://git@host/a b", "ssh://git@host/a;id", "ssh://git@host/$(id)", "ssh://git@host/`id`", "ssh://git@host/a'b",
        "ssh://git@host/a%20b", "ssh://git@host/a?b", "ssh://git@host/a#b", "ssh://git@host/a\\b", "ssh://git@host/%h",
        "ssh://git@h%p/bot", "git@host:bot\n", "git@host:bot\nHost x", "ssh://git@host/ä", "ssh://git@hóst/bot",
    ],
)  # fmt: skip
def test_address_with_a_meaning_of_its_own_is_refused_without_showing_it(url, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        ssh.parse_ssh(url)
    assert url not in str(caught.value) and "password" not in str(caught.value).replace("without a password", "")
    with pytest.raises(InvalidInput):
        open_remote(Remote(url, keys=tmp_path))


@given(st.text(max_size=60))
@example("ext::sh -c id")
@example("ext::ssh://git@host/x")
@example("fd::17/x")
@example("rsync://host/x")
@example("relative/path")
@example("transport::ssh://git@host/x")
def test_what_is_taken_for_git_s_use_is_one_of_four_kinds(url):
    try:
        access = open_remote(Remote(url, keys=Path("/keys")))
    except (InvalidInput, ValueError):
        return
    assert access.url.startswith(("https://", "http://", "git://", "file://", "/")) or ssh.parse_ssh(access.url)
    assert access.environment.get("GIT_ALLOW_PROTOCOL", "ssh") == "ssh"


def test_ssh_without_keys_is_refused_with_the_way_out():
    with pytest.raises(InvalidInput, match=r"https:// address"):
        open_remote(Remote("git@host:x"))


def test_published_key_is_taken_for_its_server_alone():
    assert ssh.known_hosts(ssh.parse_ssh("git@github.com:o/b.git"), ()) == f"github.com {HOST_KEY}\n"
    for url in ("git@git.example:b", "ssh://git@github.com:2222/b", "git@github.com.evil.example:b"):
        with pytest.raises(InvalidInput, match=r"promotion_remote_host_keys .*'ssh-keyscan -p"):
            ssh.known_hosts(ssh.parse_ssh(url), ())


@pytest.mark.parametrize(
    "line", [HOST_KEY, f"{HOST_KEY} a comment", f"git.example {HOST_KEY}", f"Git.Example,192.0.2.7 {HOST_KEY}"]
)
def test_host_key_is_written_for_this_server(line):
    assert ssh.known_hosts(ADDRESS, [line]) == f"git.example {HOST_KEY}\n"
    assert ssh.known_hosts(ssh.SshAddress("git", "git.example", 22), [line, line]).count("\n") == 2


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (f"other.example {HOST_KEY}", "that of git.example"),
        (f"[git.example]:2222 {HOST_KEY}", "that of git.example"),
        (f"*.example {HOST_KEY}", "that of git.example"),
        (f"|1|JfKTdBh7rNbXkVAQCRp4OQoPfmI=|USECr3SWf1JUPsms5AqfD5QfxkM= {HOST_KEY}", "that of git.example"),
        (f"@cert-authority git.example {HOST_KEY}", "is not a server's key"),
        (f"@revoked git.example {HOST_KEY}", "is not a server's key"),
        (HOST_KEY.replace("ssh-ed25519", "ssh-rsa"), "is not a server's key"),
        (HOST_KEY.replace("ssh-ed25519", "ssh-dss"), "is not a server's key"),
        (f"{HOST_KEY}\nevil.example {HOST_KEY}", "is not a server's key"),
        ("ssh-ed25519", "is not a server's key"),
        ("ssh-ed25519 ä", "is not a server's key"),
        ("ssh-ed25519 !!!!", "is not a server's key"),
        ("# a comment", "is not a server's key"),
        ("", "is not a server's key"),
    ],
)
def test_host_key_that_is_none_or_another_server_s_is_refused(line, match):
    with pytest.raises(InvalidInput, match=match):
        ssh.known_hosts(ADDRESS, [line])


def test_public_half_is_that_of_ssh_keygen(tmp_path):
    for kind in (("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "2048")):
        shutil.rmtree(tmp_path / "keys", ignore_errors=True)
        private = make_key(tmp_path / "keys" / "key", *kind)
        expected = (tmp_path / "keys" / "key.pub").read_text().split()
        for text in (private, private.replace("\n", "\r\n"), f"\n{private}\n"):
            assert ssh.public_key(text) == " ".join(expected[:2])


def test_private_key_that_cannot_be_used_is_refused_without_showing_it(tmp_path):
    locked = make_key(tmp_path / "locked", "-N", "passphrase")
    pem = make_key(tmp_path / "pem", "-t", "rsa", "-m", "PEM")
    whole = make_key(tmp_path / "whole")
    public = (tmp_path / "whole.pub").read_text()
    lines = whole.splitlines()
    texts = [locked, pem, public, "hunter2", whole[:60], "\n".join([lines[0], lines[1][:40], lines[-1]]),
             "\n".join([lines[0], "!!!!", lines[-1]]), whole + whole]  # fmt: skip
    for text in texts:
        with pytest.raises(InvalidInput, match=r"secrets_remote_key .*; make one with: ssh-keygen") as caught:
            ssh.public_key(text)
        assert not any(line in str(caught.value) for line in text.splitlines() if line)
    with pytest.raises(InvalidInput, match="has a passphrase"):
        ssh.public_key(locked)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_key_are_refused_or_taken(data):
    text = base64.b64encode(b"openssh-key-v1\0" + data).decode()
    pem = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n"
    try:
        assert ssh.public_key(pem).split(" ")[0].startswith(("ssh-", "ecdsa-"))
    except InvalidInput:
        return


class Place:
    """A machine with a bot whose remote is behind a server.

    :ivar root: clawfactory_root.
    """

    def __init__(self, top: Path, server: SshServer) -> None:
        self.root, self.server = top / "root", server
        self.repos = Repositories(top / "bot1")
        git(top, "clone", "-q", "--bare", str(self.repos.origin), "remote.git")
        self.bare = top / "remote.git"
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(self.repos.origin)], check=True)
        self.keys = remote_directory(self.root, "bot1")
        self.remote = self.settle(server.url(self.bare), server.host_key, server.private)

    def settle(self, url: str, host_key: str, private: str) -> Remote:
        """Write what the role writes."""
        for name in ("secrets", "run"):
            (self.root / name / "bot1").mkdir(parents=True, exist_ok=True)
        wanted = RemoteKeyRequest(url, (host_key,), private)
        apply_files(plan_files(plan_remote_key(self.root, "bot1", UID, wanted, no_new_key)[0]))
        return Remote(url, keys=self.keys)

    def advance(self, files: dict[str, str | bytes | None]) -> str:
        """A commit on main at the remote."""
        git(self.repos.work, "fetch", "-q", str(self.bare), "main")
        git(self.repos.work, "checkout", "-q", "-B", "main", "FETCH_HEAD")
        commit = self.repos.commit(files)
        self.repos.push("main", self.bare)
        return commit


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with tempfile.TemporaryDirectory() as directory, ssh_server(Path(directory)) as found:
        yield found


@pytest.fixture
def place(server) -> Iterator[Place]:
    # Not below pytest's directory, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Place(Path(directory), server)


def test_fetch_and_push_as_a_user_without_a_name(place):
    newer = place.advance({"x": "1"})
    assert fetch_remote(place.repos.origin, UID, place.remote) == newer == main_commit(place.repos.origin, UID)
    push_branch(place.repos.origin, UID, place.remote, newer, "memory-backup")
    assert git(place.bare, "rev-parse", "memory-backup") == newer
    assert fetch_branch(place.repos.origin, UID, place.remote, "memory-backup") == newer
    assert fetch_branch(place.repos.origin, UID, place.remote, "nothing") == ""
    listed = remotes.ask(
        place.repos.origin, remotes._call(place.remote, UID)[1], place.remote, "ls-remote", "--", place.remote.url
    )
    assert b"refs/heads/memory-backup" in listed.output


def test_new_bot_begins_with_what_is_there(place):
    newer = place.advance({"x": "1"})
    there = place.root / "bot_repos"
    there.mkdir()
    os.chown(there, UID, UID)
    request = RepositoryRequest(
        "bot1", there / "origin.git", there / "approved", place.root, place.remote.url, UID, keys=place.keys
    )
    apply_repository(plan_repository(request))
    assert main_commit(request.origin, UID) == newer
    assert (request.approved / "x").read_text() == "1"
    assert not plan_repository(request).changed


def test_fork_on_the_same_server_alone_is_reached_with_the_same_key(place):
    class Bot:
        remote = place.remote

    address = ssh.parse_ssh(place.remote.url)
    same = Remote(f"ssh://{address.user}@{address.host}:{address.port}/other.git")
    assert _with_login(same, Bot).keys == place.keys
    for url in ("git@other.example:o/fork.git", f"ssh://else@{address.host}:{address.port}/x", "https://host/x"):
        assert _with_login(Remote(url), Bot).keys is None


def test_rewritten_history_is_not_pushed_over(place):
    place.advance({"x": "1"})
    with pytest.raises(CoreError, match="push"):
        push_branch(place.repos.origin, UID, place.remote, place.repos.first, "main")


def test_other_server_is_refused_with_the_way_out(place, tmp_path):
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    remote = place.settle(place.remote.url, other, place.server.private)
    before = place.server.log.count("Accepted publickey")
    for act in (
        lambda: fetch_remote(place.repos.origin, UID, remote),
        lambda: push_branch(place.repos.origin, UID, remote, place.repos.first, "x"),
    ):
        with pytest.raises(CoreError, match=rf"\[127.0.0.1\]:{place.server.port} is not the server that "
                                            "promotion_remote_host_keys names"):  # fmt: skip
            act()
    assert place.server.log.count("Accepted publickey") == before


def test_refused_key_is_told_with_the_public_one(place, tmp_path):
    private = make_key(tmp_path / "other")
    remote = place.settle(place.remote.url, place.server.host_key, private)
    with pytest.raises(CoreError, match="does not accept the bot's key; add this one there") as caught:
        fetch_remote(place.repos.origin, UID, remote)
    said = str(caught.value)
    assert ssh.public_key(private) in said
    assert not any(line in said for line in private.splitlines() if line)


def test_nothing_of_the_user_s_own_is_used(place, tmp_path, monkeypatch):
    """No agent, no configuration, no key of theirs; and what git is told to run as ssh is not asked either."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "agent").exists():
            assert agent.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        (tmp_path / "good").write_text(place.server.private)
        (tmp_path / "good").chmod(0o600)
        subprocess.run(["ssh-add", "-q", str(tmp_path / "good")], check=True)
        monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {tmp_path}/ran; ssh")
        monkeypatch.setenv("GIT_SSH", "/bin/false")
        remote = place.settle(place.remote.url, place.server.host_key, make_key(tmp_path / "other"))
        with pytest.raises(CoreError, match="does not accept the bot's key"):
            fetch_remote(place.repos.origin, UID, remote)
    finally:
        agent.terminate()
        agent.wait()
    assert not (tmp_path / "ran").exists()


def test_repository_s_own_configuration_does_not_decide_how_it_is_reached(place):
    newer = place.advance({"x": "1"})
    ran = place.root / "ran"
    config = place.repos.origin / "config"
    config.write_text(f"{config.read_text()}[core]\n\tsshCommand = touch {ran}\n[ssh]\n\tvariant = plink\n")
    assert fetch_remote(place.repos.origin, UID, place.remote) == newer
    assert not ran.exists()


def test_private_key_is_in_no_argument_no_environment_and_no_repository(place):
    """Looked for from outside, in all processes of the machine, as long as one fetch of some megabytes takes."""
    blob = os.urandom(8_000_000)
    newer = place.advance({"big": blob})
    lines = [line.encode() for line in place.server.private.splitlines()[1:-1]]
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                except (OSError, ValueError):
                    continue  # it has ended
                if b"NSS_WRAPPER_PASSWD" in words:
                    seen.add(words)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        assert fetch_remote(place.repos.origin, UID, place.remote) == newer
    finally:
        ended.set()
        watcher.join()
    assert any(b"IdentityFile=" in words for words in seen), "no ssh was seen"
    assert not [line for line in lines for words in seen if line in words]
    assert "IdentityFile" not in (place.repos.origin / "config").read_text()
    assert repr(place.remote).count("PRIVATE") == 0


def test_files_are_the_controller_s_alone(place):
    held = {path.name: path.stat() for path in (place.keys, *place.keys.iterdir())}
    assert {name: (entry.st_uid, entry.st_mode & 0o777) for name, entry in held.items()} == {
        "remote": (UID, 0o500), "key": (UID, 0o400), "key.pub": (UID, 0o400), "known_hosts": (UID, 0o400),
        "passwd": (UID, 0o400),
    }  # fmt: skip
    master = place.root / "secrets" / "bot1" / "remote.key"
    assert (master.stat().st_uid, master.stat().st_mode & 0o777) == (os.geteuid(), 0o600)


def test_server_that_accepts_and_says_nothing_is_given_up(place, monkeypatch):
    """With the bounds of ssh itself, made small: git is not what ends it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        remote = place.settle(f"ssh://git@127.0.0.1:{port}/x", place.server.host_key, place.server.private)
        monkeypatch.setitem(ssh._OPTIONS, "ConnectTimeout", "1")
        with pytest.raises(CoreError, match=r"timed out|Timeout"):
            remotes.ask(place.repos.origin, remotes._call(remote, UID)[1], remote, "ls-remote", "--", remote.url)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("No user exists for uid 30977", "install the package libnss-wrapper"),
        ("fatal: Could not read from remote repository.", ""),
        ("remote: error: something of the server's own", ""),
    ],
)
def test_advice_is_given_for_what_is_known_alone(said, advice, tmp_path):
    found = ssh.explain("git@git.example:b", tmp_path, said)
    assert advice in found and bool(found) == bool(advice)


def test_git_alone_reaches_nothing_over_ssh(place):
    with pytest.raises(CoreError, match="transport 'ssh' not allowed"):
        remotes.call_git(place.repos.origin, GitCall(UID), "ls-remote", "--", place.remote.url)
