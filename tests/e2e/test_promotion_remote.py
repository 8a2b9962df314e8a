"""With a remote: proposals go to a repository elsewhere, its owner merges there, and a webhook or a playbook promotes.

A bare repository over HTTP in the machine's neighbourhood stands for the remote. It is reached through egress by the
controller, and by the machine itself; the bot reaches it in no way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.bots import Answer, Bot, http
from tests.support.git_server import CLEAN
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.playbooks import REPOSITORY, ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY
from .proposing import approved_commit, git, history, play, propose, repository, seen

PORT = 8002
LOGIN = ("x-access-token", "the-remotes-own-token-0123456789")
URL = f"http://{LAN_IPV4}:{PORT}/bot.git"
VARIABLES = {
    "promotion_remote_url": URL,
    "controller_github_repository": "owner/bot",
    "controller_github_actors": ["alice"],
    # Pull requests are refused there; the branches arrive all the same.
    "controller_github_api_url": f"http://{LAN_IPV4}:{PORT}/api",
    "secrets_env": {"STANDIN_API_KEY": "only-the-stand-in-takes-this-one", "CONTROLLER_REMOTE_TOKEN": LOGIN[1]},
}


class Remote:
    """The remote, and what its owner does to it.

    :param directory: an empty one.
    """

    def __init__(self, directory: Path) -> None:
        self.bare = directory / "bot.git"
        self._work = directory / "work"

    def fill(self, bot: Bot) -> None:
        """Begin with the history of the bot so far."""
        # Copied, because git does not clone what belongs to another user.
        shutil.copytree(repository(bot, "origin.git"), self.bare)
        git(self.bare, "config", "http.receivepack", "true")
        git(self.bare.parent, "clone", "--quiet", "--branch", "main", str(self.bare), str(self._work))

    def merge(self, branch: str) -> str:
        """Merge as the button does; the merge commit."""
        self._git("fetch", "--quiet", "origin")
        self._git("checkout", "--quiet", "-B", "main", "origin/main")
        self._git("merge", "--quiet", "--no-ff", "--message", f"Merge {branch}", f"origin/{branch}")
        self._git("push", "--quiet", "origin", "main")
        return self._git("rev-parse", "HEAD")

    def rewrite(self) -> str:
        """Put another history in the place of main; the commit that was there."""
        before = git(self.bare, "rev-parse", "main")
        self._git("checkout", "--quiet", "--orphan", f"other-{uuid.uuid4().hex[:6]}")
        self._git("commit", "--quiet", "--message", "another history")
        self._git("push", "--quiet", "--force", "origin", "HEAD:main")
        return before

    def restore(self, commit: str) -> None:
        git(self.bare, "update-ref", "refs/heads/main", commit)

    def _git(self, *arguments: str) -> str:
        who = {
            f"GIT_{role}_{what}": "owner@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        command = ["git", "-C", str(self._work), *arguments]
        return subprocess.run(command, env={**CLEAN, **who}, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def remote(bot: Bot, lan: LanHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """The bot with a remote; without it again afterwards, and what it was before."""
    before = approved_commit(bot)
    found = Remote(tmp_path_factory.mktemp("remote"))
    found.fill(bot)
    server = [sys.executable, "-m", "tests.support.git_server", "--root", str(found.bare.parent), "--listen", LAN_IPV4]
    lan.start(["env", f"--chdir={REPOSITORY}", *server, "--port", str(PORT)], {"STANDIN_LOGIN": ":".join(LOGIN)})
    wait_for("the remote", partial(_answers, lan), 20)
    deploy(bot, VARIABLES)
    yield found
    deploy(bot, {})
    if approved_commit(bot) != before:
        play(bot, "rollback", rollback_sha=before).succeeded()


def _answers(lan: LanHost) -> bool:
    return lan.run(["curl", "--silent", "--fail", f"http://{LAN_IPV4}:{PORT}/health"]).returncode == 0


def deploy(bot: Bot, variables: dict[str, object]) -> None:
    extra = ("--extra-vars", json.dumps(variables))
    ansible_playbook("site.yml", INVENTORY, "--limit", bot.name, *extra).succeeded()


def event(commit: str, **changes: object) -> dict[str, object]:
    """What GitHub sends when a pull request was merged, as far as anybody looks at it."""
    repository = {"full_name": "owner/bot"}
    pull_request = {
        "merged": True,
        "merged_by": {"login": "alice"},
        "merge_commit_sha": commit,
        "base": {"ref": "main", "repo": repository},
        **changes,
    }
    return {"action": "closed", "pull_request": pull_request, "repository": repository}


def deliver(bot: Bot, content: dict[str, object], delivery: str = "", secret: str = "") -> Answer:
    """Deliver an event as GitHub does, by the published port."""
    body = json.dumps(content).encode()
    key = secret or bot.secret("controller.env", "CONTROLLER_WEBHOOK_SECRET")
    headers = {
        "content-type": "application/json",
        "x-github-event": "pull_request",
        "x-github-delivery": delivery or str(uuid.uuid4()),
        "x-hub-signature-256": f"sha256={hmac.digest(key.encode(), body, hashlib.sha256).hex()}",
    }
    return http(f"{bot.controller_url}/webhook/github", headers=headers, body=body)


def proposed(bot: Bot, remote: Remote, name: str, line: str) -> None:
    """Have the bot propose, and wait until the branch is at the remote."""
    said = propose(bot, name, f"echo '{line}' >> workspace/SOUL.md")
    assert "accepted" in said, said
    branch = f"refs/heads/proposal/{name}"
    wait_for("the branch at the remote", lambda: branch in git(remote.bare, "for-each-ref", "--format=%(refname)"), 60)


def test_merged_at_the_remote_and_promoted_by_playbook(bot: Bot, remote: Remote) -> None:
    proposed(bot, remote, "by-playbook", "Promoted by a playbook.")
    commit = remote.merge("proposal/by-playbook")
    assert "Promoted by a playbook." not in seen(bot, "SOUL.md")
    play(bot, "promote").succeeded()
    assert approved_commit(bot) == commit
    assert "Promoted by a playbook." in seen(bot, "SOUL.md")


def test_operator_does_not_merge_where_the_remote_decides(bot: Bot, remote: Remote) -> None:
    proposed(bot, remote, "not-here", "Never.")
    before = approved_commit(bot)
    run = play(bot, "promote", promote_branch="proposal/not-here")
    assert run.returncode == 2
    assert "remote" in run.failures[bot.name]
    assert approved_commit(bot) == before


class TestWebhook:
    def test_merge_is_promoted_in_the_background(self, bot: Bot, remote: Remote) -> None:
        proposed(bot, remote, "by-webhook", "Promoted by a webhook.")
        commit = remote.merge("proposal/by-webhook")
        delivery = str(uuid.uuid4())
        answer = deliver(bot, event(commit), delivery)
        assert answer.status == 202, answer.body
        wait_for("the promotion", lambda: history(bot)[-1]["to_commit"] == commit, 240, every=1)
        last = history(bot)[-1]
        assert (last["result"], last["source"], last["actor"]) == ("promoted", "webhook", "alice")
        assert approved_commit(bot) == commit
        assert deliver(bot, event(commit), delivery).status == 409, "the same delivery promoted twice"

    @pytest.mark.parametrize(
        "changes",
        [{"merged": False}, {"merged": "true"}, {"merged_by": None}, {"merged_by": {"login": ""}},
         {"merged_by": {"login": "mallory"}}, {"merge_commit_sha": None}, {"merge_commit_sha": "main"},
         {"base": {"ref": "other", "repo": {"full_name": "owner/bot"}}},
         {"base": {"ref": "main", "repo": {"full_name": "mallory/bot"}}}],
    )  # fmt: skip
    def test_bent_event_changes_nothing(self, bot: Bot, remote: Remote, changes: dict[str, object]) -> None:
        before = approved_commit(bot), len(history(bot))
        assert 400 <= deliver(bot, event(before[0], **changes)).status < 500
        assert (approved_commit(bot), len(history(bot))) == before

    def test_forged_signature_changes_nothing(self, bot: Bot, remote: Remote) -> None:
        assert deliver(bot, event(approved_commit(bot)), secret="0" * 32).status == 401

    def test_commit_that_is_not_on_the_branch_is_not_promoted(self, bot: Bot, remote: Remote) -> None:
        """Signed and all: what the event names is looked up, not believed."""
        proposed(bot, remote, "unmerged", "Not merged.")
        commit = git(remote.bare, "rev-parse", "proposal/unmerged")
        before = approved_commit(bot)
        answer = deliver(bot, event(commit))
        if answer.status == 202:
            token = bot.secret("controller.env", "CONTROLLER_TOKEN")
            job = f"{bot.controller_url}/jobs/{answer.json()['job']}"

            def failed() -> bool:
                state: str = http(job, headers={"authorization": f"Bearer {token}"}).json()["state"]
                assert state != "done"
                return state == "failed"

            wait_for("the job's failure", failed, 120, every=1)
        assert approved_commit(bot) == before


def test_rewritten_history_is_refused(bot: Bot, remote: Remote) -> None:
    before = approved_commit(bot)
    commit = remote.rewrite()
    try:
        run = play(bot, "promote")
        assert run.returncode == 2
        assert approved_commit(bot) == before
    finally:
        remote.restore(commit)


def test_gateway_reaches_the_remote_in_no_way(bot: Bot, remote: Remote) -> None:
    for proxy in ("-x http://egress:3128", "--noproxy '*'"):
        said = bot.sh(f"curl -s -m 5 {proxy} -o /dev/null -w '[%{{http_code}}]' {URL}/info/refs").stdout
        assert "[000]" in said or "[403]" in said, said


def test_remotes_token_is_in_no_output_and_no_argument(bot: Bot, remote: Remote) -> None:
    logs = subprocess.run(["docker", "logs", bot.container("controller")], capture_output=True, text=True, check=True)
    assert LOGIN[1] not in logs.stdout + logs.stderr
    assert LOGIN[1] not in json.dumps(bot.inspect("controller"))
    assert LOGIN[1] not in (bot.root / "promotion" / bot.name / "settings.json").read_text()
