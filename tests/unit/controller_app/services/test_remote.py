"""Mirroring to a real repository over HTTP, and pull requests at a stand-in for GitHub."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from clawfactory_core.errors import InvalidInput
from controller_app.main import create_app
from controller_app.services.git_process import GitFailed
from controller_app.services.git_remote import GitRemote
from controller_app.services.github import GitHub, make_github_client
from controller_app.services.jobs import JobsClient
from controller_app.services.polling import Poller
from controller_app.services.proposals import ProposalService
from controller_app.services.remote import RemoteMirror
from tests.support.git_repositories import commit, git
from tests.support.github_server import REPOSITORY, github

pytestmark = pytest.mark.anyio

TOKEN = "ghp_hunter2hunter2hunter2hunter2hunter2"


@pytest.fixture
def hub(remote_repository):
    with github(remote_repository, TOKEN) as server:
        yield server


@pytest.fixture
def deny(settings):
    def deny(name: str, reason: str) -> None:
        (settings.promotion_dir / "denied").mkdir(parents=True, exist_ok=True)
        (settings.promotion_dir / "denied" / f"{name}.json").write_text(json.dumps({"reason": reason}))

    return deny


@pytest.fixture
def remote(hub, settings):
    return GitRemote(url=hub.remote, user="bot", token=TOKEN, proxy="", directory=settings.proposals)


@pytest.fixture
async def make_mirror(hub, settings, remote, repositories):
    client = make_github_client(hub.api, token=TOKEN, proxy="")

    def make(*, pull_requests: bool = True) -> RemoteMirror:
        return RemoteMirror(
            bot="bot1",
            proposals=ProposalService(
                origin=settings.origin, proposals=settings.proposals, promotion=settings.promotion_dir
            ),
            remote=remote,
            github=GitHub(client, repository=REPOSITORY, branch="main") if pull_requests else None,
        )

    yield make
    await client.aclose()


async def test_proposal_is_mirrored_and_offered(make_mirror, hub, repositories, propose):
    sha = propose("kinder", "I am a kind bot")
    assert await make_mirror().mirror()
    assert repositories.refs(hub.repository)["refs/heads/proposal/kinder"] == sha
    (pull,) = hub.pulls
    assert (pull["head"]["ref"], pull["base"], pull["state"]) == ("proposal/kinder", "main", "open")
    assert pull["title"] == "Propose I am a kind bot"
    assert "1 files, +1 −1 lines" in pull["body"]


async def test_a_restart_repeats_nothing(make_mirror, hub, propose):
    propose("kinder", "I am a kind bot")
    for _ in range(3):
        assert await make_mirror().mirror()
    assert len(hub.pulls) == 1


async def test_what_is_done_is_not_asked_for_again(make_mirror, hub, propose):
    propose("kinder", "I am a kind bot")
    mirror = make_mirror()
    await mirror.mirror()
    before = len(hub.requests)
    assert await mirror.mirror()
    assert len(hub.requests) == before


async def test_later_commit_goes_to_the_same_pull_request(make_mirror, hub, repositories, propose):
    mirror = make_mirror()
    propose("kinder", "I am a kind bot")
    await mirror.mirror()
    sha = propose("kinder", "I am a very kind bot")
    await mirror.mirror()
    assert repositories.refs(hub.repository)["refs/heads/proposal/kinder"] == sha
    assert len(hub.pulls) == 1


async def test_pull_request_that_the_operator_closed_stays_closed(make_mirror, hub, propose):
    propose("kinder", "I am a kind bot")
    await make_mirror().mirror()
    hub.pulls[0]["state"] = "closed"
    await make_mirror().mirror()
    assert [pull["state"] for pull in hub.pulls] == ["closed"]


async def test_denied_proposal_is_closed_with_the_reason(make_mirror, hub, propose, deny):
    propose("kinder", "I am a kind bot")
    mirror = make_mirror()
    await mirror.mirror()
    deny("kinder", "Too kind.\nReally.")
    assert await mirror.mirror()
    assert hub.pulls[0]["state"] == "closed"
    assert hub.comments == [(1, "Denied by the operator:\n\n> Too kind.\n> Really.")]


async def test_denied_proposal_is_not_mirrored(make_mirror, hub, repositories, propose, deny):
    propose("kinder", "I am a kind bot")
    deny("kinder", "Too kind.")
    assert await make_mirror().mirror()
    assert "refs/heads/proposal/kinder" not in repositories.refs(hub.repository)
    assert hub.pulls == []


async def test_repository_without_pull_requests(make_mirror, hub, repositories, propose):
    sha = propose("kinder", "I am a kind bot")
    assert await make_mirror(pull_requests=False).mirror()
    assert repositories.refs(hub.repository)["refs/heads/proposal/kinder"] == sha
    assert not [request for request in hub.requests if "/api/" in request]


async def test_failure_is_tried_again(make_mirror, hub, propose, caplog):
    propose("kinder", "I am a kind bot")
    mirror = make_mirror()
    hub.failures = [500]
    assert not await mirror.mirror()
    assert "proposal/kinder is not at the remote yet" in caplog.text
    assert await mirror.mirror()
    assert len(hub.pulls) == 1


async def test_failing_api_is_tried_again(make_mirror, hub, propose, caplog):
    propose("kinder", "I am a kind bot")
    mirror = make_mirror()
    token, hub.token = hub.token, "another"
    assert not await mirror.mirror()
    hub.token = token
    assert await mirror.mirror()
    assert TOKEN not in caplog.text


async def test_one_that_fails_does_not_hold_up_the_others(make_mirror, hub, repositories, propose, remote_repository):
    propose("first", "First")
    propose("second", "Second")
    # Somebody else has pushed to the first branch: it cannot be moved forward.
    tree = git(remote_repository, "rev-parse", "main^{tree}")
    other = git(
        remote_repository, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", tree, "-m", "other"
    )
    git(remote_repository, "update-ref", "refs/heads/proposal/first", other)
    assert not await make_mirror().mirror()
    assert repositories.refs(hub.repository)["refs/heads/proposal/first"] == other
    assert "refs/heads/proposal/second" in repositories.refs(hub.repository)


async def test_main_and_tags_of_the_bot_never_reach_the_remote(make_mirror, hub, repositories, propose):
    sha = propose("kinder", "I am a kind bot")
    git(repositories.proposals, "update-ref", "refs/heads/main", sha)
    git(repositories.proposals, "update-ref", "refs/tags/v1", sha)
    await make_mirror().mirror()
    assert set(repositories.refs(hub.repository)) == {"refs/heads/main", "refs/heads/proposal/kinder"}
    assert repositories.refs(hub.repository)["refs/heads/main"] == repositories.main


async def test_token_is_in_no_argument(make_mirror, hub, propose, monkeypatch):
    seen = []
    start = asyncio.create_subprocess_exec

    async def note(*arguments, **options):
        seen.append((arguments, options["env"]))
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    propose("kinder", "I am a kind bot")
    await make_mirror().mirror()
    assert seen
    assert all(TOKEN not in argument for arguments, _ in seen for argument in arguments)
    assert all(set(environment) & {"HTTP_PROXY", "SSH_AUTH_SOCK", *os.environ} <= {"PATH", "HOME", "LC_ALL", "TZ"}
               for _, environment in seen)  # fmt: skip


async def test_wrong_token_is_said_without_it(hub, settings, repositories):
    remote = GitRemote(url=hub.remote, user="bot", token="wrong-token", proxy="", directory=settings.proposals)
    with pytest.raises(GitFailed) as failure:
        await remote.read_branch("main")
    assert "wrong-token" not in str(failure.value)


async def test_remote_is_reached_through_the_proxy_alone(hub, settings, repositories):
    remote = GitRemote(
        url=hub.remote, user="bot", token=TOKEN, proxy="http://127.0.0.1:1", directory=settings.proposals
    )
    with pytest.raises(GitFailed):
        await remote.read_branch("main")
    assert hub.requests == []


async def test_application_mirrors_while_it_runs(hub, settings, repositories, propose, gateway):
    secrets = settings.secrets.model_copy(update={"remote_token": type(settings.secrets.token)(TOKEN)})
    changed = {"remote_url": hub.remote, "github_repository": REPOSITORY, "github_api_url": hub.api, "secrets": secrets}
    app = create_app(settings.model_copy(update=changed), gateway_transport=gateway)
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.1)
        propose("kinder", "I am a kind bot")
        app.state.services.mirror.wake()
        async with asyncio.timeout(20):
            while not hub.pulls:
                await asyncio.sleep(0.05)


async def test_newest_main_is_that_of_the_remote(settings, remote, repositories, remote_repository):
    places = {"origin": settings.origin, "proposals": settings.proposals, "promotion": settings.promotion_dir}
    sha = commit(repositories.directory / "work", "Merged", {"merged.md": "x\n"})
    git(repositories.directory / "work", "push", "--quiet", str(remote_repository), "HEAD:main")
    assert await ProposalService(**places, remote=remote).read_main() == sha
    assert await ProposalService(**places).read_main() == repositories.main != sha
    with pytest.raises(InvalidInput, match="no branch stable"):
        await ProposalService(**places, remote=remote, branch="stable").read_main()


async def test_offline_nothing_is_mirrored(app):
    assert app.state.services.mirror is None


class TestPolling:
    @pytest.fixture
    def poller(self, remote, settings, jobs):
        return Poller(
            remote=remote,
            branch="main",
            approved_dir=settings.approved_dir,
            promotion=settings.promotion_dir,
            jobs=JobsClient(settings.jobs_socket),
            seconds=0.05,
        )

    @pytest.fixture
    def advance(self, repositories, remote_repository):
        def advance() -> str:
            sha = commit(repositories.directory / "work", "Merged", {"merged.md": "x\n"})
            git(repositories.directory / "work", "push", "--quiet", str(remote_repository), "HEAD:main")
            return sha

        return advance

    async def test_new_commit_is_asked_for_once(self, poller, jobs, advance):
        sha = advance()
        assert await poller.look() == next(iter(jobs.jobs))
        assert await poller.look() is None
        assert jobs.asked("promotion") == [{"actor": "polling", "source": "polling", "sha": sha}]

    async def test_approved_commit_is_left_alone(self, poller, jobs, advance, approved_dir):
        (approved_dir / ".git" / "HEAD").write_text(f"{advance()}\n")
        assert await poller.look() is None
        assert jobs.requests == []

    @pytest.mark.parametrize("result", ["promoted", "restored", "failed"])
    async def test_what_was_tried_or_rolled_back_is_not_asked_for_again(self, poller, jobs, advance, settings, result):
        sha = advance()
        settings.promotion_dir.mkdir(exist_ok=True)
        lines = [
            {"from_commit": "1" * 40, "to_commit": sha, "result": result},
            {"from_commit": sha, "to_commit": "1" * 40, "result": "promoted"},
        ]
        history = "".join(json.dumps(line) + "\n" for line in lines)
        (settings.promotion_dir / "history.jsonl").write_text(history)
        assert await poller.look() is None
        assert jobs.requests == []

    async def test_branch_that_is_not_there(self, poller, jobs, remote_repository, caplog):
        git(remote_repository, "update-ref", "-d", "refs/heads/main")
        assert await poller.look() is None
        assert "no branch main" in caplog.text

    async def test_failures_do_not_end_it(self, poller, jobs, hub, advance):
        sha = advance()
        hub.failures = [500, 500]
        task = asyncio.create_task(poller.run())
        try:
            async with asyncio.timeout(20):
                while not jobs.requests:
                    await asyncio.sleep(0.05)
        finally:
            task.cancel()
        assert jobs.asked("promotion")[0]["sha"] == sha
