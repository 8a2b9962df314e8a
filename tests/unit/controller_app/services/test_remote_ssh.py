"""Mirroring and polling over SSH: to a real server, through a proxy that connects, as egress does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawfactory_core.files import apply_files, plan_files
from clawfactory_core.remote_key import RemoteKeyRequest, no_new_key, plan_remote_key, remote_directory
from controller_app import tunnel
from controller_app.main import create_app
from controller_app.services.git_process import GitFailed
from controller_app.services.git_remote import GitRemote
from controller_app.services.jobs import JobsClient
from controller_app.services.polling import Poller
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.git_repositories import commit, git
from tests.support.ssh_server import SshServer, make_key, ssh_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with tempfile.TemporaryDirectory() as directory, ssh_server(Path(directory)) as found:
        yield found


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with connect_proxy() as found:
        yield found


@pytest.fixture
def keys(server, remote_repository, tmp_path, settings):
    """Writes what the role writes; the directory that is mounted."""

    def write(host_key: str = server.host_key, private: str = server.private) -> Path:
        root = tmp_path / "root"
        for name in ("secrets", "run"):
            (root / name / "bot1").mkdir(parents=True, exist_ok=True)
        wanted = RemoteKeyRequest(server.url(remote_repository), (host_key,), private)
        apply_files(plan_files(plan_remote_key(root, "bot1", os.geteuid(), wanted, no_new_key)[0]))
        return remote_directory(root, "bot1")

    return write


@pytest.fixture
def remote(server, remote_repository, proxy, settings, keys):
    return GitRemote(
        url=server.url(remote_repository), user="", token="", proxy=proxy.url, directory=settings.proposals, keys=keys()
    )


async def test_application_mirrors_by_the_proxy(
    server, remote_repository, proxy, settings, repositories, propose, gateway, keys
):
    changed = {"remote_url": server.url(remote_repository), "remote_keys_dir": keys(), "proxy_url": proxy.url}
    app = create_app(settings.model_copy(update=changed), gateway_transport=gateway)
    async with app.router.lifespan_context(app):
        sha = propose("kinder", "I am a kind bot")
        app.state.services.mirror.wake()
        async with asyncio.timeout(60):
            while repositories.refs(remote_repository).get("refs/heads/proposal/kinder") != sha:
                await asyncio.sleep(0.1)
    assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{server.port}"}


async def test_polling_asks_for_what_is_new(remote, repositories, remote_repository, settings, jobs, proxy):
    poller = Poller(
        remote=remote, branch="main", approved_dir=settings.approved_dir, promotion=settings.promotion_dir,
        jobs=JobsClient(settings.jobs_socket), seconds=1,
    )  # fmt: skip
    work = repositories.directory / "work"
    sha = commit(work, "Merged", {"merged.md": "x\n"})
    git(work, "push", "--quiet", str(remote_repository), "HEAD:main")
    assert await poller.look() == next(iter(jobs.jobs))
    assert jobs.asked("promotion") == [{"actor": "polling", "source": "polling", "sha": sha}]
    assert await remote.read_branch("nothing") is None
    assert len(proxy.asked) == 2


async def test_nothing_goes_past_a_proxy_that_refuses(remote, proxy, server):
    before = server.log
    proxy.answer = "HTTP/1.1 403 Forbidden"
    with pytest.raises(GitFailed, match=rf"egress does not connect to 127.0.0.1:{server.port} \(403\)"):
        await remote.read_branch("main")
    assert server.log == before


async def test_other_server_is_refused_with_the_way_out(remote, keys, tmp_path):
    make_key(tmp_path / "other")
    keys(host_key=" ".join((tmp_path / "other.pub").read_text().split()[:2]))
    with pytest.raises(GitFailed, match="is not the server that promotion_remote_host_keys names"):
        await remote.read_branch("main")


async def test_refused_key_is_told_with_the_public_one(remote, keys, tmp_path, propose):
    private = make_key(tmp_path / "other")
    keys(private=private)
    with pytest.raises(GitFailed, match="does not accept the bot's key") as caught:
        await remote.push(propose("x", "A change"), "proposal/x")
    assert (tmp_path / "other.pub").read_text().split()[1] in str(caught.value)
    assert not any(line in str(caught.value) for line in private.splitlines() if line)


async def test_key_is_in_no_argument_and_no_variable(remote, server, propose, monkeypatch):
    seen = []
    start = asyncio.create_subprocess_exec

    async def note(*arguments, **options):
        seen.append((arguments, options["env"]))
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    await remote.push(propose("kinder", "I am a kind bot"), "proposal/kinder")
    lines = server.private.splitlines()
    assert any("IdentityFile=" in value for _, environment in seen for value in environment.values())
    assert not [line for line in lines for said in seen if line and line in repr(said)]


@pytest.mark.parametrize(
    "answer", ["HTTP/1.1 407 Proxy Authentication Required", "HTTP/1.1 2000 x", "HTTP/2 200 x", "SSH-2.0-x", "200", " "]
)
async def test_only_a_connection_is_handed_over(proxy, server, answer):
    proxy.answer = answer
    for proxy.cut in (False, True):
        with pytest.raises(tunnel.Refused, match="egress does not connect to "):
            await asyncio.to_thread(tunnel.connect, proxy.url, "127.0.0.1", server.port)


async def test_cut_answer_is_no_connection(proxy, server):
    proxy.answer, proxy.cut = "HTTP/1.1 200 Connection established", True
    with pytest.raises(tunnel.Refused):
        await asyncio.to_thread(tunnel.connect, proxy.url, "127.0.0.1", server.port)


async def test_proxy_that_is_not_there_is_said(server):
    command = [sys.executable, "-I", tunnel.__file__, "http://127.0.0.1:1", "127.0.0.1", str(server.port)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("tunnel: ") and "Traceback" not in done.stderr
