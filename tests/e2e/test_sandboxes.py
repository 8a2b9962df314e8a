"""The real OpenClaw runs its tools in sandboxes, through the broker: turns, cron jobs, sub-agents, scopes, pruning."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.bots import Bot, engine
from tests.support.model_server import GIVEN
from tests.support.playbooks import ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY

# gateway_stop_timeout, and what Ansible takes around it.
STOP_SECONDS, ANSIBLE_SECONDS = 20, 20
# The shortest idle time that can be configured is an hour: let it have passed (prune.ts, state/openclaw.sqlite).
AGE_SANDBOXES = """
const { DatabaseSync } = require("node:sqlite");
new DatabaseSync("/home/node/.openclaw/state/openclaw.sqlite").exec(
  "UPDATE sandbox_registry_entries SET last_used_at_ms = 1, created_at_ms = 1," +
  " entry_json = json_set(entry_json, '$.lastUsedAtMs', 1, '$.createdAtMs', 1)");
"""


def list_ids(bot: Bot) -> list[str]:
    """The first 12 digits of the ids of the bot's sandboxes, which are their host names."""
    return list_names(bot, "--all", show="{{.ID}}")


def list_names(bot: Bot, *options: str, show: str = "{{.Names}}") -> list[str]:
    """Names of the bot's sandboxes; with ``--all`` also of those that do not run."""
    filters = (f"label=clawfactory.bot={bot.name}", "label=clawfactory.service=sandbox")
    chosen = [part for each in filters for part in ("--filter", each)]
    command = ["docker", "ps", *options, *chosen, "--format", show]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def sandboxes(bot: Bot) -> dict[str, dict[str, str]]:
    """Labels of the running sandboxes of a bot by name, as the engine itself has them."""
    names = list_names(bot)
    if not names:
        return {}
    listed = subprocess.run(["docker", "inspect", *names], check=False, capture_output=True, text=True)
    return {c["Name"].removeprefix("/"): c["Config"]["Labels"] for c in json.loads(listed.stdout)}


def hostname_of(said: str) -> str:
    """The short container id that a command printed as its host name."""
    found = re.search(r"\b[0-9a-f]{12}\b", said)
    assert found, f"no host name of a container in: {said}"
    return found[0]


def owner(said: str) -> dict[str, str]:
    """Labels of the container whose host name a tool printed; its name OpenClaw shortens for long names of bots."""
    command = ["docker", "inspect", "--format", "{{json .Config.Labels}}", hostname_of(said)]
    labels: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {key.removeprefix("clawfactory."): value for key, value in labels.items()}


def is_sandbox_of(bot: Bot, said: str) -> bool:
    """Whether the command that printed its host name ran in a sandbox of the bot."""
    labels = owner(said)
    return (labels.get("bot"), labels.get("service")) == (bot.name, "sandbox")


def turn(bot: Bot, session: str, command: str) -> str:
    """What a command said that the model asked for in a session of this id."""
    asked = ("openclaw", "agent", "--agent", "main", "--session-id", session, "--message", f"RUN: {command}", "--json")
    done = bot.run(*asked, timeout=180)
    assert done.returncode == 0, done.stderr
    text: str = json.loads(done.stdout)["result"]["payloads"][0]["text"]
    return text


def remove_all(bot: Bot) -> None:
    done = bot.run("openclaw", "sandbox", "recreate", "--all", "--force", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def start_background(bot: Bot, token: str) -> None:
    """A cron job that is due in a moment, and a sub-agent; both leave the host name of where they ran."""
    done = bot.run(
        "openclaw", "cron", "add", "--name", token, "--at", "5s", "--session", "isolated", "--no-deliver",
        "--message", f"RUN: hostname > /workspace/cron-{token}", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    bot.chat(f"SPAWN: hostname > /workspace/spawned-{token}")


def proofs(bot: Bot, name: str) -> list[str]:
    """What tools wrote to a file of this name, in whatever workspace they had."""
    state = bot.root / "bot_repos" / bot.name / "state"
    found = [state / "workspace" / name, *state.glob(f"sandboxes/*/{name}")]
    return [text for path in found if path.exists() and (text := path.read_text()).strip()]


def nft(*arguments: str, text: str | None = None) -> str:
    """What ``nft`` prints."""
    return subprocess.run(["nft", *arguments], input=text, check=True, capture_output=True, text=True).stdout


class TestTurn:
    def test_tool_runs_in_a_sandbox_of_the_bot(self, bot: Bot) -> None:
        assert is_sandbox_of(bot, bot.chat("RUN: hostname"))
        assert all(name.startswith(f"clawfactory-{bot.name}-sbx-") for name in sandboxes(bot))

    def test_all_sessions_of_an_agent_share_its_sandbox(self, bot: Bot) -> None:
        assert turn(bot, "first", "hostname") == turn(bot, "another", "hostname")

    def test_tool_sees_the_workspace_and_writes_to_it(self, bot: Bot) -> None:
        token = uuid.uuid4().hex
        bot.chat(f"RUN: echo {token} > /workspace/from-a-tool && cat /workspace/from-a-tool")
        assert (bot.root / "bot_repos" / bot.name / "state/workspace/from-a-tool").read_text().strip() == token

    def test_tool_has_no_network_and_none_of_the_gateways_secrets(self, bot: Bot) -> None:
        said = bot.chat(
            "RUN: cat /proc/net/route | wc -l; env; ls /run/secrets /home/node/.openclaw /etc/openclaw 2>&1"
        )
        assert said.lstrip().startswith("1\n"), "the sandbox has a route"
        assert bot.token not in said
        assert said.count("No such file") == 3

    def test_sandbox_is_as_hard_as_the_policy_says(self, bot: Bot) -> None:
        bot.chat("RUN: true")
        for name in sandboxes(bot):
            (container,) = json.loads(subprocess.run(["docker", "inspect", name], capture_output=True).stdout)
            host = container["HostConfig"]
            assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False)
            assert (host["CapDrop"], host["CapAdd"] or []) == (["ALL"], [])
            assert host["SecurityOpt"] == ["no-new-privileges:true"]
            assert 0 < host["PidsLimit"] <= 1024
            assert 0 < host["Memory"] == host["MemorySwap"]
            assert container["Config"]["User"] == f"{bot.uid}:{bot.uid}"
            own = f"{bot.root}/bot_repos/{bot.name}/"
            assert all(m["Type"] == "bind" and m["Source"].startswith(own) for m in container["Mounts"])

    @pytest.mark.parametrize(
        "attempt",
        [
            "echo x > /workspace/SOUL.md",
            "rm -f /workspace/SOUL.md",
            "mv /workspace/SOUL.md /workspace/old.md",
            "ln -sf /etc/passwd /workspace/SOUL.md",
            "mv /workspace /workspace2",
            "chmod 777 /workspace/SOUL.md",
        ],
    )
    def test_approved_file_is_out_of_reach(self, bot: Bot, attempt: str) -> None:
        approved = bot.root / "bot_repos" / bot.name / "approved/workspace/SOUL.md"
        before = approved.read_bytes()
        assert "[refused]" in bot.chat(f"RUN: {attempt} 2>&1 || echo '[refused]'")
        assert approved.read_bytes() == before
        assert bot.run("cat", "/home/node/.openclaw/workspace/SOUL.md").stdout.encode() == before
        assert bot.chat("RUN: cat /workspace/SOUL.md").strip() == before.decode().strip()


class TestTwoBotsAtOnce:
    """The first has one sandbox for all its sessions, the second one for each."""

    def test_cron_jobs_and_sub_agents_of_both_run_in_their_own(self, bot: Bot, second: Bot) -> None:
        both, token = (bot, second), uuid.uuid4().hex
        with ThreadPoolExecutor(2) as at_once:
            list(at_once.map(lambda each: start_background(each, token), both))
        for each in both:
            for kind in ("cron", "spawned"):
                name = f"{kind}-{token}"
                wait_for(f"{name} of {each.name}", lambda each=each, name=name: proofs(each, name) != [], 120)
                said = proofs(each, name)
                assert all(is_sandbox_of(each, one) for one in said), said

    def test_old_sandboxes_of_both_are_pruned(self, bot: Bot, second: Bot) -> None:
        both = (bot, second)
        old = {each.name: hostname_of(turn(each, "first", "hostname")) for each in both}

        def prune(each: Bot) -> None:
            aged = each.run("/opt/node/bin/node", "-e", AGE_SANDBOXES)
            assert aged.returncode == 0, aged.stderr
            # OpenClaw looks at the first turn after its start, then at most every five minutes.
            engine("restart", each.container("gateway"))
            wait_for(f"a turn of {each.name}", lambda: each.ask("RUN: true").status == 200, 120)

        with ThreadPoolExecutor(2) as at_once:
            list(at_once.map(prune, both))
        for each in both:
            # One for the whole agent comes back under the same name: its id tells.
            assert old[each.name] not in list_ids(each)
            assert is_sandbox_of(each, turn(each, "first", "hostname"))


class TestOpenClawsOwnCommands:
    def test_list_shows_the_sandbox_with_its_image(self, bot: Bot) -> None:
        bot.chat("RUN: true")
        listed = json.loads(bot.run("openclaw", "sandbox", "list", "--json", timeout=60).stdout)
        mine = {entry["containerName"]: entry for entry in listed["containers"]}
        for name in sandboxes(bot):
            assert mine[name]["running"]
            assert mine[name]["imageMatch"], mine[name]

    def test_explain_says_that_the_sandbox_is_on(self, bot: Bot) -> None:
        explained = json.loads(bot.run("openclaw", "sandbox", "explain", "--json", timeout=60).stdout)
        assert explained["sandbox"]["mode"] == "all"

    def test_recreate_removes_and_the_next_turn_makes_a_new_one(self, bot: Bot) -> None:
        first = hostname_of(bot.chat("RUN: hostname"))
        remove_all(bot)
        assert not sandboxes(bot)
        assert hostname_of(bot.chat("RUN: hostname")) != first


class TestScopes:
    """Scope session without access to the workspace; then, on the same bot, one shared sandbox that may only read."""

    def test_two_bots_at_the_same_time_do_not_clash(self, bot: Bot, second: Bot) -> None:
        with ThreadPoolExecutor(2) as both:
            said = list(both.map(lambda each: each.chat("RUN: hostname"), (bot, second)))
        assert is_sandbox_of(bot, said[0])
        assert is_sandbox_of(second, said[1])

    def test_each_session_has_a_sandbox_of_its_own(self, second: Bot) -> None:
        assert turn(second, "one", "hostname") != turn(second, "two", "hostname")

    def test_sub_agent_runs_its_tool_in_its_own_sandbox(self, second: Bot) -> None:
        second.chat("SPAWN: hostname | tee /workspace/by-a-sub-agent")
        directory = second.root / "bot_repos" / second.name / "state/sandboxes"

        def keys() -> list[str]:
            written = [proof.read_text() for proof in directory.glob("*/by-a-sub-agent")]
            return [owner(said)["openclaw.sessionKey"] for said in written if said.strip()]

        # Its parent hears of it and may run the same; what counts is that the child had a sandbox to itself.
        wait_for("the sub-agent's proof", lambda: any(":subagent:" in key for key in keys()), 120)
        assert len(keys()) == len(set(keys()))

    def test_sub_agent_reads_what_it_was_given_and_cannot_change_it(self, second: Bot) -> None:
        there = "/openclaw/attachments/*"
        second.chat(
            f"SPAWN with a file: {{ cat {there}/given.txt; touch {there}/x && echo written; }} > /workspace/given"
        )
        directory = second.root / "bot_repos" / second.name / "state/sandboxes"

        def proofs() -> list[str]:
            return [proof.read_text() for proof in directory.glob("*/given")]

        # Its parent hears of it and may run the same, without the file.
        wait_for("what it was given", lambda: GIVEN["content"] in proofs(), 120)
        assert "written" not in "".join(proofs())

    def test_without_access_the_workspace_is_not_there(self, second: Bot) -> None:
        (second.root / "bot_repos" / second.name / "state/workspace/only-the-gateways").write_text("x")
        assert "[none]" in second.chat("RUN: ls /workspace/only-the-gateways /agent 2>/dev/null || echo '[none]'")

    def test_shared_scope_with_a_workspace_that_can_only_be_read(self, second: Bot) -> None:
        settings = {"gateway_sandbox_scope": "shared", "gateway_sandbox_workspace_access": "ro"}
        ansible_playbook(
            "site.yml", INVENTORY, "--limit", second.name, "--extra-vars", json.dumps(settings)
        ).succeeded()
        first = hostname_of(second.chat("RUN: hostname"))
        assert hostname_of(turn(second, "other", "hostname")) == first
        assert list(sandboxes(second)) == ["clawfactory-e2e-sessions-sbx-shared"]
        said = second.chat("RUN: cat /agent/SOUL.md && (touch /agent/x 2>&1 || echo '[refused]')")
        assert "[refused]" in said
        soul = second.root / "bot_repos" / second.name / "approved/workspace/SOUL.md"
        assert soul.read_text().strip() in said


class TestVerification:
    def test_bot_as_it_is_deployed_is_isolated(self, bot: Bot) -> None:
        ansible_playbook("playbooks/verify.yml", INVENTORY, "--limit", bot.name).succeeded()

    def test_bot_that_reaches_the_machine_fails_it(self, bot: Bot) -> None:
        """A machine without the firewall: Docker's own rules let a container reach it."""
        rules = nft("list", "table", "inet", "clawfactory")
        nft("delete", "table", "inet", "clawfactory")
        try:
            run = ansible_playbook("playbooks/verify.yml", INVENTORY, "--limit", bot.name)
        finally:
            nft("-f", "-", text=rules)
        assert run.returncode == 2
        assert run.failures[bot.name].endswith(
            "is not isolated as it should be: the gateway reaches nobody past its proxy"
        )

    def test_bot_that_could_change_an_approved_file_fails_it(self, bot: Bot) -> None:
        mounts = ("nsenter", "--mount", "--target", str(bot.inspect("gateway")["State"]["Pid"]), "mount", "-o")
        soul = "/home/node/.openclaw/workspace/SOUL.md"
        subprocess.run([*mounts, "remount,bind,rw", soul], check=True, capture_output=True)
        try:
            run = ansible_playbook("playbooks/verify.yml", INVENTORY, "--limit", bot.name)
        finally:
            subprocess.run([*mounts, "remount,bind,ro", soul], check=True, capture_output=True)
        assert run.returncode == 2
        assert "approved files are read-only in the gateway" in run.failures[bot.name]

    def test_bot_whose_tools_run_in_the_gateway_fails_it(self, second: Bot) -> None:
        off = ("--extra-vars", json.dumps({"gateway_sandbox_mode": "off"}))
        ansible_playbook("site.yml", INVENTORY, "--limit", second.name, *off).succeeded()
        run = ansible_playbook("playbooks/verify.yml", INVENTORY, "--limit", second.name, *off)
        assert run.returncode == 2
        assert "is not isolated as it should be" in run.failures[second.name], run.failures


class TestEnd:
    def test_stop_ends_a_turn_that_goes_on_within_its_bound(self, bot: Bot) -> None:
        """OpenClaw itself would wait for the turn for minutes."""
        with ThreadPoolExecutor(1) as aside:
            asked = aside.submit(bot.ask, "RUN: touch /workspace/began && sleep 300")
            began = bot.root / "bot_repos" / bot.name / "state/workspace/began"
            wait_for("the tool", began.exists, 60)
            started = time.monotonic()
            try:
                ansible_playbook("playbooks/stop.yml", INVENTORY, "--limit", bot.name).succeeded()
                assert time.monotonic() - started < STOP_SECONDS + ANSIBLE_SECONDS
                assert asked.exception(timeout=10) is not None or asked.result().status != 200
                assert list_names(bot, "--all") == []
            finally:
                ansible_playbook("playbooks/start.yml", INVENTORY, "--limit", bot.name).succeeded()

    def test_stop_ends_the_sandboxes_also_after_the_broker_was_killed(self, bot: Bot) -> None:
        bot.chat("RUN: true")
        assert sandboxes(bot)
        subprocess.run(["docker", "kill", "--signal", "KILL", bot.container("broker")], check=True, capture_output=True)
        try:
            ansible_playbook("playbooks/stop.yml", INVENTORY, "--limit", bot.name).succeeded()
            assert list_names(bot, "--all") == []
        finally:
            ansible_playbook("playbooks/start.yml", INVENTORY, "--limit", bot.name).succeeded()
        assert is_sandbox_of(bot, bot.chat("RUN: hostname"))

    # A lock keeps what it killed, to be looked at.
    @pytest.mark.parametrize(("end", "undo", "all_of"), [("lockdown", "unlock", ()), ("remove", "deploy", ("--all",))])
    def test_lock_and_remove_end_tools_that_run_also_after_the_broker_was_killed(
        self, second: Bot, end: str, undo: str, all_of: tuple[str, ...]
    ) -> None:
        ansible_playbook("site.yml", INVENTORY, "--limit", second.name).succeeded()
        token = uuid.uuid4().hex
        with ThreadPoolExecutor(1) as aside:
            aside.submit(second.ask, f"RUN: hostname > /workspace/began-{token} && sleep 300")
            wait_for("the tool", lambda: proofs(second, f"began-{token}") != [], 60)
            assert is_sandbox_of(second, *proofs(second, f"began-{token}"))
            engine("kill", second.container("broker"))
            try:
                ansible_playbook(f"playbooks/{end}.yml", INVENTORY, "--limit", second.name).succeeded()
                assert list_names(second, *all_of) == []
            finally:
                ansible_playbook(f"playbooks/{undo}.yml", INVENTORY, "--limit", second.name).succeeded()
        ansible_playbook("site.yml", INVENTORY, "--limit", second.name).succeeded()
        assert is_sandbox_of(second, second.chat("RUN: hostname"))
