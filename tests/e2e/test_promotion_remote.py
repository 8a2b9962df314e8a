"""With a remote: proposals go to a repository elsewhere, its owner merges there, and a webhook or a playbook promotes.

A program in the machine's neighbourhood stands for GitHub: a bare repository over HTTP, and pull requests. It is
reached through egress by the controller, and by the machine itself; the bot reaches it in no way. The tests follow one
another.
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
from typing import Any

import pytest

from clawfactory_core import audit
from tests.support import ssh_server
from tests.support.bots import Answer, Bot, http
from tests.support.git_server import CLEAN
from tests.support.github_server import REPOSITORY as NAME
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook
from tests.support.polling import wait_for
from tests.support.ssh_server import SshServer

from .conftest import INVENTORY
from .proposing import approved_commit, git, history, play, propose, repository, seen

PORT, SSH_PORT = 8002, 2222
TOKEN = "the-remotes-own-token-0123456789"
SERVER = f"http://{LAN_IPV4}:{PORT}"
URL = f"{SERVER}/{NAME}.git"
VARIABLES: dict[str, object] = {
    "promotion_remote_url": URL,
    "controller_github_repository": NAME,
    "controller_github_actors": ["alice"],
    "controller_github_api_url": f"{SERVER}/api",
    "secrets_env": {"STANDIN_API_KEY": "only-the-stand-in-takes-this-one", "CONTROLLER_REMOTE_TOKEN": TOKEN},
    "egress_endpoints_extra": [{"host": "registry.npmjs.org", "port": 443, "private": True}],
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
    server = [
        sys.executable,
        "-m",
        "tests.support.github_server",
        "--repository",
        str(found.bare),
        "--listen",
        LAN_IPV4,
    ]
    lan.start(["env", f"--chdir={REPOSITORY}", *server, "--port", str(PORT)], {"STANDIN_TOKEN": TOKEN})
    wait_for("the remote", partial(_answers, lan), 20)
    deploy(bot, VARIABLES)
    yield found
    deploy(bot, {})
    if approved_commit(bot) != before:
        play(bot, "rollback", rollback_sha=before).succeeded()


def _answers(lan: LanHost) -> bool:
    return lan.run(["curl", "--silent", "--fail", f"{SERVER}/health"]).returncode == 0


def pulls(lan: LanHost, branch: str) -> list[dict[str, Any]]:
    """Pull requests for a branch, as GitHub lists them."""
    address = f"{SERVER}/api/repos/{NAME}/pulls?head=octo-org:{branch}&state=all"
    done = lan.run(["curl", "--silent", "--fail", "-H", f"Authorization: Bearer {TOKEN}", address])
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def deploy(bot: Bot, variables: dict[str, object], *options: str) -> PlaybookRun:
    extra = ("--extra-vars", json.dumps(variables))
    return ansible_playbook("site.yml", INVENTORY, "--limit", bot.name, *extra, *options).succeeded()


def event(commit: str, **changes: object) -> dict[str, object]:
    """What GitHub sends when a pull request was merged, as far as anybody looks at it."""
    repository = {"full_name": NAME}
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


def proposed(bot: Bot, remote: Remote, name: str, line: str, more: str = "true") -> None:
    """Have the bot propose, and wait until the branch is at the remote."""
    said = propose(bot, name, f"echo '{line}' >> workspace/SOUL.md; {more}")
    assert "accepted" in said, said
    branch = f"refs/heads/proposal/{name}"
    wait_for("the branch at the remote", lambda: branch in git(remote.bare, "for-each-ref", "--format=%(refname)"), 60)


def test_merged_at_the_remote_and_promoted_by_playbook(bot: Bot, remote: Remote, lan: LanHost) -> None:
    manifest = '{"name":"e2e-save","private":true,"dependencies":{"is-number":"7.0.0"}}'
    add = f"printf %s '{manifest}' > workspace/{bot.name}_save/package.json"
    proposed(bot, remote, "by-playbook", "Promoted by a playbook.", add)
    (pull,) = wait_for("the pull request", lambda: pulls(lan, "proposal/by-playbook"), 60)
    assert (pull["state"], pull["base"], pull["head"]["ref"]) == ("open", "main", "proposal/by-playbook")
    assert pull["title"] == "A change"
    assert f"Proposed by the bot **{bot.name}**" in pull["body"]
    commit = remote.merge("proposal/by-playbook")
    assert "Promoted by a playbook." not in seen(bot, "SOUL.md")
    play(bot, "promote").succeeded()
    assert approved_commit(bot) == commit
    assert "Promoted by a playbook." in seen(bot, "SOUL.md")


def test_packages_of_the_promotion_are_installed(bot: Bot, remote: Remote) -> None:
    installed = f"/home/node/.openclaw/installed/{bot.name}_save/node_modules/is-number/package.json"
    done = bot.run("cat", installed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "7.0.0"


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
         {"base": {"ref": "other", "repo": {"full_name": NAME}}},
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


def test_denied_proposal_is_closed_at_the_remote(bot: Bot, remote: Remote, lan: LanHost) -> None:
    assert [pull["state"] for pull in pulls(lan, "proposal/not-here")] == ["open"]
    play(bot, "deny", deny_branch="proposal/not-here", deny_reason="Not there either.").succeeded()
    proposed(bot, remote, "afterwards", "Whatever.")

    def states() -> list[str] | None:
        found = [pull["state"] for pull in pulls(lan, "proposal/not-here")]
        return found if "open" not in found else None

    assert wait_for("the end of the pull request", states, 60) == ["closed"]


def test_refusals_are_audited_by_the_machine(bot: Bot, remote: Remote) -> None:
    """What :class:`TestWebhook` was refused, as codes in the chain of decisions, and nothing that a stranger wrote."""
    log = bot.root / "audit" / f"{bot.name}.jsonl"

    def told() -> set[str]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {line["code"] for line in lines if line["event"] == "webhook.refused"}

    wait_for("the lines", lambda: {"signature", "merged", "actor", "branch", "replay"} <= told(), 30)
    assert "mallory" not in log.read_text()
    assert audit.verify(log).problems == ()


def test_memory_goes_to_its_branch_without_secrets(bot: Bot, remote: Remote) -> None:
    workspace = bot.root / "bot_repos" / bot.name / "state" / "workspace"
    secret = bot.secret("gateway.env", "OPENCLAW_GATEWAY_TOKEN")
    written = {"memory/2027-01-15.md": "It rained.\n", "memory/token.md": f"My token is {secret}.\n"}
    for name, text in written.items():
        assert (
            bot.sh(
                f"mkdir -p $HOME/.openclaw/workspace/memory; cat > $HOME/.openclaw/workspace/{name} <<'E'\n{text}E"
            ).returncode
            == 0
        )
    try:
        run = play(bot, "backup-memory").succeeded()
    finally:
        for name in written:
            (workspace / name).unlink()
    listed = git(remote.bare, "ls-tree", "-r", "--name-only", "memory-backup").splitlines()
    assert "memory/2027-01-15.md" in listed
    assert git(remote.bare, "show", "memory-backup:memory/2027-01-15.md") == "It rained."
    assert {Path(name).suffix for name in listed} == {".md"}
    assert "memory/token.md" not in listed
    assert run.changed
    said = json.dumps(run.report)
    assert "left out: memory/token.md" in said
    assert "vector store, never in it: " in said
    assert secret not in said


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
    assert TOKEN not in logs.stdout + logs.stderr
    assert TOKEN not in json.dumps(bot.inspect("controller"))
    assert TOKEN not in (bot.root / "promotion" / bot.name / "settings.json").read_text()


@pytest.fixture(scope="class")
def ssh(bot: Bot, remote: Remote, lan: LanHost, tmp_path_factory: pytest.TempPathFactory) -> SshServer:
    server = ssh_server.configure(tmp_path_factory.mktemp("ssh"), LAN_IPV4, SSH_PORT)
    lan.start(ssh_server.command(server))
    wait_for("the SSH server", lambda: ssh_server.answers(SSH_PORT, LAN_IPV4), 20)
    return server


@pytest.fixture(scope="class")
def variables(remote: Remote, ssh: SshServer) -> dict[str, object]:
    return {
        **VARIABLES,
        "promotion_remote_url": ssh.url(remote.bare),
        "promotion_remote_host_keys": [ssh.host_key],
        "controller_poll_seconds": 2,
    }


@pytest.fixture(scope="class")
def deployed(bot: Bot, variables: dict[str, object]) -> PlaybookRun:
    return deploy(bot, variables, "--diff", "-v")


class TestOverSsh:
    """The same repository over SSH, with a key that the machine makes, and where no webhook arrives."""

    def private(self, bot: Bot) -> list[str]:
        """Lines of the private key."""
        return (bot.root / "secrets" / bot.name / "remote.key").read_text().splitlines()

    def test_server_that_does_not_know_the_key_is_told_with_what_to_add(
        self, bot: Bot, deployed: PlaybookRun, ssh: SshServer
    ) -> None:
        run = play(bot, "promote")
        assert run.returncode == 2
        public = (bot.root / "secrets" / bot.name / "remote.pub").read_text().strip()
        assert "does not accept the bot's key; add this one there" in run.failures[bot.name]
        assert public in run.failures[bot.name]
        ssh.let_in(public)

    def test_proposal_is_mirrored_and_its_merge_found_by_polling(
        self, bot: Bot, remote: Remote, lan: LanHost, deployed: PlaybookRun
    ) -> None:
        proposed(bot, remote, "by-polling", "Found by polling.")
        (pull,) = wait_for("the pull request", lambda: pulls(lan, "proposal/by-polling"), 60)
        assert pull["state"] == "open"
        commit = remote.merge("proposal/by-polling")
        wait_for("the promotion", lambda: [line for line in history(bot) if line["to_commit"] == commit], 240, every=1)
        last = history(bot)[-1]
        assert (last["result"], last["source"], last["actor"]) == ("promoted", "polling", "polling")
        assert "Found by polling." in seen(bot, "SOUL.md")

    def test_memory_goes_to_its_branch(self, bot: Bot, remote: Remote, deployed: PlaybookRun) -> None:
        name = "memory/2027-01-16.md"
        written = bot.sh(f"cd $HOME/.openclaw/workspace && mkdir -p memory && echo 'It snowed.' > {name}")
        assert written.returncode == 0, written.stderr
        try:
            play(bot, "backup-memory").succeeded()
        finally:
            (bot.root / "bot_repos" / bot.name / "state" / "workspace" / name).unlink()
        assert git(remote.bare, "show", f"memory-backup:{name}") == "It snowed."

    def test_other_server_is_refused(
        self, bot: Bot, remote: Remote, ssh: SshServer, variables: dict[str, object], tmp_path: Path
    ) -> None:
        ssh_server.make_key(tmp_path / "other")
        other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
        deploy(bot, {**variables, "promotion_remote_host_keys": [other]})
        before = ssh.log.count("Accepted publickey")
        run = play(bot, "promote")
        assert run.returncode == 2
        assert "is not the server that promotion_remote_host_keys names" in run.failures[bot.name]
        said = partial(self._logged, bot, "is not the server that promotion_remote_host_keys names")
        wait_for("the controller's refusal", said, 30)
        assert ssh.log.count("Accepted publickey") == before

    def _logged(self, bot: Bot, text: str) -> bool:
        logs = ["docker", "logs", bot.container("controller")]
        done = subprocess.run(logs, capture_output=True, text=True, check=True)
        return text in done.stdout + done.stderr

    def test_key_is_out_of_the_bots_reach_and_shown_nowhere(self, bot: Bot, deployed: PlaybookRun) -> None:
        lines = [line for line in self.private(bot) if line]
        assert "PRIVATE KEY" in lines[0]
        shown = [json.dumps(deployed.report), deployed.stderr, (bot.root / "allocations.json").read_text()]
        shown += [path.read_text() for path in (bot.root / "promotion" / bot.name).glob("*.json*")]
        shown.append((bot.root / "audit" / f"{bot.name}.jsonl").read_text())
        for part in ("gateway", "broker", "egress", "proxy", "controller"):
            logs = subprocess.run(["docker", "logs", bot.container(part)], capture_output=True, text=True, check=True)
            shown += [json.dumps(bot.inspect(part)), logs.stdout, logs.stderr]
        assert not [text[:200] for text in shown for line in lines if line in text]
        mounted = {part: [mount["Source"] for mount in bot.inspect(part)["Mounts"] if "remote" in mount["Source"]]
                   for part in ("gateway", "broker", "egress", "proxy", "controller")}  # fmt: skip
        assert {part for part, found in mounted.items() if found} == {"controller"}
        found = bot.sh(f"grep -rls -e '{lines[1]}' / --exclude-dir=proc --exclude-dir=sys 2>/dev/null", timeout=120)
        assert found.stdout == ""

    def test_gateway_reaches_the_server_in_no_way(self, bot: Bot, deployed: PlaybookRun) -> None:
        for proxy in ("--proxytunnel -x http://egress:3128", "--noproxy '*'"):
            url = f"telnet://{LAN_IPV4}:{SSH_PORT}"
            said = bot.sh(f"curl -s -m 5 {proxy} -w '[%{{http_connect}}]' {url} </dev/null").stdout
            assert "SSH-" not in said and ("[000]" in said or "[403]" in said), said

    def test_push_with_the_key_in_it_is_refused(self, bot: Bot, deployed: PlaybookRun) -> None:
        line = self.private(bot)[2]
        said = propose(bot, "with-a-key", f"echo '{line}' >> workspace/SOUL.md")
        assert "refused" in said and "a value from the bot's own secrets" in said, said
        assert line not in said
