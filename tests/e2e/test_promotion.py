"""The real OpenClaw proposes, an attacker with a shell in its gateway pushes, and the operator decides by playbooks.

The tests of a class follow one another. At the end the bot is what it was before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.bots import Bot, http
from tests.support.playbooks import ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY
from .proposing import SKILL, agent_call, approved_commit, git, history, play, propose, refs, repository, seen, tool
from .push_attacks import ATTACKS, PREPARE, RAW


@pytest.fixture(scope="module", autouse=True)
def _as_before(bot: Bot) -> Iterator[None]:
    """Other tests know the template's files only."""
    before = approved_commit(bot)
    yield
    if approved_commit(bot) != before:
        play(bot, "rollback", rollback_sha=before).succeeded()


class TestFromProposalToRollback:
    def test_bot_proposes_by_its_own_tools(self, bot: Bot) -> None:
        said = propose(bot, "kinder", "echo 'Be kind.' >> workspace/SOUL.md", "Be kinder")
        assert "accepted" in said, said
        assert said.endswith("status=0\n"), said
        commit = refs(bot)["proposals.git refs/heads/proposal/kinder"]
        shown = git(repository(bot, "proposals.git"), "log", "-1", "--format=%an: %s", commit)
        assert shown == f"{bot.name}: Be kinder"
        assert "Be kind." not in seen(bot, "SOUL.md"), "a proposal is live"

    def test_operator_sees_it_in_the_list(self, bot: Bot) -> None:
        run = play(bot, "proposals").succeeded()
        assert "proposal/kinder" in json.dumps(run.report)
        assert run.changed == []

    def test_check_mode_shows_the_change_and_makes_none(self, bot: Bot) -> None:
        before = approved_commit(bot), bot.inspect("gateway")["State"]["StartedAt"]
        run = play(bot, "promote", "--check", "--diff", promote_branch="proposal/kinder").succeeded()
        assert "+Be kind." in json.dumps(run.report)
        assert (approved_commit(bot), bot.inspect("gateway")["State"]["StartedAt"]) == before
        assert refs(bot)["origin.git refs/heads/main"] == before[0]

    def test_promotion_is_live_in_the_running_gateway(self, bot: Bot) -> None:
        before = approved_commit(bot), bot.inspect("gateway")
        play(bot, "promote", promote_branch="proposal/kinder").succeeded()
        after = bot.inspect("gateway")
        assert "Be kind." in seen(bot, "SOUL.md")
        assert after["Id"] == before[1]["Id"], "nothing asked for another container"
        assert after["State"]["StartedAt"] != before[1]["State"]["StartedAt"]
        assert http(f"{bot.gateway_url}/readyz").status == 200
        assert "Be kind." in bot.chat("RUN: cat /workspace/SOUL.md")
        last = history(bot)[-1]
        assert (last["result"], last["source"], last["from_commit"]) == ("promoted", "playbook", before[0])
        assert last["to_commit"] == approved_commit(bot) == refs(bot)["origin.git refs/heads/main"]
        assert last["snapshot"], "no snapshot was made first"

    def test_bot_reads_that_it_was_merged(self, bot: Bot) -> None:
        status = tool(bot, f"{SKILL} status")
        assert '"state": "merged"' in status, status
        assert approved_commit(bot) in status

    def test_new_entry_is_promoted_into_another_container_and_is_read_only(self, bot: Bot) -> None:
        said = propose(bot, "notes", "echo approved > workspace/NOTES.md")
        assert "accepted" in said, said
        before = bot.inspect("gateway")["Id"]
        play(bot, "promote", promote_branch="proposal/notes").succeeded()
        assert bot.inspect("gateway")["Id"] != before
        assert seen(bot, "NOTES.md") == "approved\n"
        workspace = "/home/node/.openclaw/workspace"
        for attack in (f"echo x > {workspace}/NOTES.md", f"rm {workspace}/NOTES.md", f"mv {workspace}/NOTES.md /tmp"):
            assert bot.sh(attack).returncode != 0, attack
        assert "[refused]" in bot.chat("RUN: rm /workspace/NOTES.md || echo '[refused]'")

    def test_site_finds_nothing_to_do_after_both(self, bot: Bot) -> None:
        started = bot.inspect("gateway")["State"]["StartedAt"]
        run = ansible_playbook("site.yml", INVENTORY, "--limit", bot.name).succeeded()
        assert run.changed == []
        assert bot.inspect("gateway")["State"]["StartedAt"] == started

    def test_rollback_takes_it_away_again(self, bot: Bot) -> None:
        back_to = history(bot)[-1]["from_commit"]
        play(bot, "rollback").succeeded()
        assert approved_commit(bot) == back_to
        assert bot.run("test", "-s", "/home/node/.openclaw/workspace/NOTES.md").returncode != 0
        assert history(bot)[-1]["rollback"] is True
        assert http(f"{bot.gateway_url}/readyz").status == 200

    def test_packages_that_cannot_be_installed_bring_the_old_commit_back(self, bot: Bot) -> None:
        """Nobody allowed the registry, so npm fails and the gateway does not start."""
        manifest = '{"name":"e2e-save","private":true,"dependencies":{"is-number":"7.0.0"}}'
        said = propose(bot, "packages", f"printf %s '{manifest}' > workspace/{bot.name}_save/package.json")
        assert "accepted" in said, said
        before = approved_commit(bot)
        run = play(bot, "promote", promote_branch="proposal/packages")
        assert run.returncode == 2
        assert before in run.failures[bot.name], run.failures
        assert approved_commit(bot) == before
        assert "is-number" not in seen(bot, f"{bot.name}_save/package.json")
        assert http(f"{bot.gateway_url}/readyz").status == 200
        last = history(bot)[-1]
        assert last["result"] == "restored"
        assert last["reason"]

    def test_commit_of_nowhere_is_refused(self, bot: Bot) -> None:
        before = approved_commit(bot)
        run = play(bot, "promote", promote_sha="0123456789" * 4)
        assert run.returncode == 2
        assert "0123456789" in run.failures[bot.name]
        assert approved_commit(bot) == before

    def test_lock_that_is_thrown_in_the_middle_wins(self, bot: Bot) -> None:
        lock, journal = bot.root / "locks" / bot.name, bot.root / "promotion" / bot.name / "journal.json"
        before, started = approved_commit(bot), bot.inspect("gateway")["State"]["StartedAt"]
        assert before != refs(bot)["origin.git refs/heads/main"], "there is nothing to promote"
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(play, bot, "promote")
            wait_for("its journal", journal.exists, 60, every=0.01)
            lock.touch()
            run = running.result()
        try:
            assert run.returncode == 2
            assert "locked" in run.failures[bot.name]
            assert history(bot)[-1]["result"] == "failed"
            assert not journal.exists()
            again = play(bot, "promote")
            assert again.returncode == 2
            assert "locked" in again.failures[bot.name]
            assert (approved_commit(bot), bot.inspect("gateway")["State"]["StartedAt"]) == (before, started)
            assert bot.inspect("gateway")["State"]["Running"] is False, "the guard kills what is locked, by whomever"
        finally:
            play(bot, "unlock").succeeded()
        assert http(f"{bot.gateway_url}/readyz").status == 200

    def test_operators_own_commit_goes_live_while_the_bot_pushes(self, bot: Bot, tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        play(bot, "clone", clone_to=str(clone)).succeeded()
        assert git(clone, "rev-parse", "HEAD") == refs(bot)["origin.git refs/heads/main"]
        with (clone / "workspace" / "SOUL.md").open("a") as soul:
            soul.write("By the operator.\n")
        git(clone, "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "--all", "-m", "Mine")
        commit = git(clone, "rev-parse", "HEAD")
        accepted = []
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(play, bot, "promote", promote_from=str(clone))
            while not running.done():
                name = f"race-{len(accepted)}"
                change = f"echo {name} > workspace/race.md; git add .; change"
                # While the gateway restarts, nothing can be run in it.
                if bot.sh(f'{PREPARE}{change}; push "$url" HEAD:refs/heads/proposal/{name}').returncode == 0:
                    accepted.append(f"proposals.git refs/heads/proposal/{name}")
            running.result().succeeded()
        assert accepted, "nothing was pushed meanwhile"
        assert set(accepted) <= set(refs(bot))
        assert approved_commit(bot) == refs(bot)["origin.git refs/heads/main"] == commit
        assert "By the operator." in seen(bot, "SOUL.md")
        assert bot.run("test", "-e", "/home/node/.openclaw/workspace/race.md").returncode != 0


class TestDenial:
    def test_reason_reaches_the_bot_and_the_branch_is_closed(self, bot: Bot) -> None:
        said = propose(bot, "louder", "echo 'SHOUT.' >> workspace/SOUL.md")
        assert "accepted" in said, said
        play(bot, "deny", deny_branch="proposal/louder", deny_reason="People sleep here.").succeeded()
        status = tool(bot, f"{SKILL} status")
        assert '"state": "denied"' in status
        assert "People sleep here." in status
        again = tool(bot, "echo MORE >> proposals/work/louder/workspace/SOUL.md; " + f"{SKILL} send louder 'Louder'")
        assert "refused" in again, again
        assert "status=1" in again
        assert "People sleep here." in again

    def test_denied_proposal_cannot_be_promoted(self, bot: Bot) -> None:
        before = approved_commit(bot)
        assert play(bot, "promote", promote_branch="proposal/louder").returncode == 2
        assert approved_commit(bot) == before


class TestSecrets:
    @pytest.mark.parametrize("name", ["OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN", "STANDIN_API_KEY"])
    def test_bots_own_secret_stays_with_it(self, bot: Bot, name: str) -> None:
        value = bot.secret("gateway.env", name)
        short = name.lower().replace("_", "-")
        said = propose(bot, short, f"echo 'see {value}' > workspace/tools/notes.txt")
        assert "refused" in said, said
        assert "workspace/tools/notes.txt" in said
        answer = bot.root / "bot_repos" / bot.name / "state/workspace/proposals/answers" / f"{short}.txt"
        assert value not in answer.read_text()
        assert f"proposals.git refs/heads/proposal/{short}" not in refs(bot)

    def test_corrected_proposal_is_accepted(self, bot: Bot) -> None:
        """The commit with the secret is not below the correction."""
        tools = "proposals/work/standin-api-key/workspace/tools"
        corrected = f"rm {tools}/notes.txt; echo '# Tools' > {tools}/more.md"
        said = tool(bot, f"{corrected}; {SKILL} send standin-api-key 'Tools'")
        assert "accepted" in said, said


@pytest.fixture(scope="class")
def main_of_now(bot: Bot) -> None:
    """A clone has the controller show it; no attack after that may find another."""
    prepared = bot.sh(PREPARE)
    assert prepared.returncode == 0, prepared.stderr


class TestPushesFromTheGateway:
    def test_plain_git_may_propose(self, bot: Bot) -> None:
        """Without this, the refusals below would prove nothing."""
        done = bot.sh(
            f'{PREPARE}echo x >> workspace/SOUL.md; git add .; change; push "$url" HEAD:refs/heads/proposal/by-hand'
        )
        assert done.returncode == 0, done.stderr
        assert "proposals.git refs/heads/proposal/by-hand" in refs(bot)

    def test_a_pack_sent_by_hand_is_taken_if_it_is_sound(self, bot: Bot) -> None:
        """So that a bent one is refused for that."""
        done = bot.sh(f"{PREPARE}{RAW}raw whole sent-by-hand")
        assert done.returncode == 0, done.stderr
        assert "proposals.git refs/heads/proposal/sent-by-hand" in refs(bot)

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_push_is_refused_and_changes_nothing(self, bot: Bot, main_of_now: None, attack: str) -> None:
        before, commit = refs(bot), approved_commit(bot)
        done = bot.sh(PREPARE + ATTACKS[attack], timeout=180)
        assert done.returncode != 0, f"it succeeded: {done.stdout}"
        assert done.stderr.strip(), "nobody said why"
        assert "too many pushes" not in done.stderr, "refused for another reason; allow more pushes in the inventory"
        assert (refs(bot), approved_commit(bot)) == (before, commit)

    def test_tools_cannot_reach_the_agent_api_at_all(self, bot: Bot) -> None:
        url = bot.run("printenv", "CLAWFACTORY_AGENT_URL").stdout.strip()
        assert "[000]" in bot.chat(f"RUN: curl -s -m 5 -o /dev/null -w '[%{{http_code}}]' {url}/status; true")


class TestAgentApi:
    def test_bot_reads_what_it_is(self, bot: Bot) -> None:
        status, body = agent_call(bot, "GET", "/status")
        assert status == 200
        assert (json.loads(body)["bot"], json.loads(body)["approved"]) == (bot.name, approved_commit(bot))

    def test_bot_asks_for_a_snapshot(self, bot: Bot) -> None:
        status, body = agent_call(bot, "POST", "/snapshot", "--json", '{"label": "by the bot"}')
        assert status == 202, body
        job = json.loads(body)["id"]

        def ended() -> str | None:
            state: str = json.loads(agent_call(bot, "GET", f"/jobs/{job}")[1])["state"]
            return state if state in ("done", "failed") else None

        assert wait_for("the snapshot", ended, 180, every=1) == "done"
        status, body = agent_call(bot, "GET", "/snapshot")
        assert "by-the-bot" in [entry["label"] for entry in json.loads(body)]
        assert str(bot.root) not in body

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/branches"), ("POST", "/branches/kinder/merge"), ("POST", "/controller"), ("GET", "/health"),
         ("POST", "/controller/promote-main"), ("POST", "/webhook/github"), ("GET", "/login"), ("GET", "/")],
    )  # fmt: skip
    def test_operators_routes_are_not_there(self, bot: Bot, method: str, path: str) -> None:
        """Neither below the agent API, nor beside it, where curl goes when it may shorten the path."""
        for place, *options in ((path,), (f"/..{path}",), (f"/..{path}", "--path-as-is"), (f"/%2e%2e{path}",)):
            status, _ = agent_call(bot, method, place, *options)
            assert status in (401, 404, 405), (place, options)

    def test_each_token_opens_one_door_only(self, bot: Bot) -> None:
        operator = bot.secret("controller.env", "CONTROLLER_TOKEN")
        url = bot.run("printenv", "CLAWFACTORY_AGENT_URL").stdout.strip()
        header = f"Authorization: Bearer {operator}"
        done = bot.run(
            "curl", "-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "-H", header, f"{url}/status"
        )
        assert done.stdout == "401"
        agent = bot.secret("gateway.env", "CLAWFACTORY_AGENT_TOKEN")
        for path in ("/branches", "/status", "/snapshot"):
            assert http(f"{bot.controller_url}{path}", headers={"authorization": f"Bearer {agent}"}).status == 401, path

    def test_decisions_are_audited_in_a_chain(self, bot: Bot) -> None:
        lines = (bot.root / "audit" / f"{bot.name}.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        assert any("promotion" in event for event in events), events
        assert any("den" in event for event in events), events
        # What TestPushesFromTheGateway was refused, told by the controller; a few lines in an hour.
        refused = [json.loads(line)["code"] for line in lines if json.loads(line)["event"] == "push.refused"]
        assert {"reference", "content"} <= set(refused), refused
        assert all(bot.token not in line for line in lines)
