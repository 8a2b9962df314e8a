"""The bot's skill and the loop that runs beside the gateway, together, as a bot uses them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_api import TOKEN, git
from tests.support.polling import wait_for

from .conftest import IMAGE, SOUL

OTHER_SECRET = "of-no-use-to-git"
#: As the controller does: what a later commit removes is still in the history.
FORBID = """read -r old new ref
for commit in $(git rev-list "$new" --not --all); do
    if git grep -q forbidden "$commit"; then echo "workspace/SOUL.md:1 is forbidden" >&2; exit 1; fi
done"""


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "gateway.env"
    path.write_text(f"OPENCLAW_GATEWAY_TOKEN={OTHER_SECRET}\nCLAWFACTORY_AGENT_TOKEN={TOKEN}\n")
    return path


@pytest.fixture
def loop(gateway, secrets):
    """The loop as the gateway's start command starts it."""
    command = [str(IMAGE / "bin" / "proposal-forwarder"), str(secrets)]
    with subprocess.Popen(command, env=gateway.environment(), stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def impatient(gateway):
    """The skill's script with shorter waits."""
    script = gateway.workspace / "skills" / "propose-change" / "propose.sh"
    script.write_text(script.read_text().replace("_WITHIN=90", "_WITHIN=1").replace("_WITHIN=20", "_WITHIN=1"))
    return script


def edit(gateway, name: str, content: str) -> None:
    (gateway.proposals / "work" / name / "workspace" / "SOUL.md").write_text(content)


def test_bot_proposes_corrects_and_sees_the_decision(gateway, api, loop):
    api.hook(FORBID)
    started = gateway.propose("start", "kinder")
    assert started.returncode == 0, started.stderr
    assert "proposals/work/kinder/workspace/" in started.stdout

    edit(gateway, "kinder", "forbidden\n")
    refused = gateway.propose("send", "kinder", "Be kinder")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "workspace/SOUL.md:1 is forbidden" in refused.stdout

    edit(gateway, "kinder", "kind\n")
    accepted = gateway.propose("send", "kinder", "Be kinder", "People asked for it")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert "accepted" in accepted.stdout
    assert "SOUL.md" in accepted.stdout
    assert api.show("refs/heads/proposal/kinder", "workspace/SOUL.md") == "kind"
    message = git(api.repository, "log", "-1", "--format=%an <%ae>|%B", "refs/heads/proposal/kinder")
    assert message == "bot1 <bot1@clawfactory.invalid>|Be kinder\n\nPeople asked for it"

    api.proposals = [{"name": "kinder", "commit": "a" * 40, "state": "denied", "reason": "too kind"}]
    status = gateway.propose("status")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["proposals"][0]["reason"] == "too kind"


def test_second_commit_of_a_proposal_is_sent_too(gateway, api, loop):
    gateway.propose("start", "more")
    edit(gateway, "more", "one\n")
    assert gateway.propose("send", "more", "One").returncode == 0
    edit(gateway, "more", "two\n")
    assert gateway.propose("send", "more", "Two").returncode == 0
    assert api.show("refs/heads/proposal/more", "workspace/SOUL.md") == "two"


def test_answer_that_came_late_is_built_upon(gateway, api, impatient):
    gateway.forward()
    gateway.propose("start", "late")
    edit(gateway, "late", "one\n")
    assert gateway.propose("send", "late", "One").returncode == 75
    gateway.forward()
    edit(gateway, "late", "two\n")
    gateway.propose("send", "late", "Two")
    gateway.forward()
    assert gateway.answer("late").startswith("accepted")
    assert git(api.repository, "log", "--format=%s", "main..proposal/late").splitlines() == ["Two", "One"]


def test_commits_the_bot_made_itself_are_one_in_the_end(gateway, api, impatient):
    gateway.forward()
    gateway.propose("start", "own")
    for content in ("forbidden\n", "fine\n"):
        edit(gateway, "own", content)
        git(gateway.proposals / "work" / "own", "commit", "--quiet", "--all", "--message", content)
    api.hook(FORBID)
    gateway.propose("send", "own", "Own")
    gateway.forward()
    assert gateway.answer("own").startswith("accepted")
    assert git(api.repository, "log", "--format=%s", "main..proposal/own") == "Own"


def test_change_taken_back_after_a_refusal_is_nothing_to_send(gateway, api, impatient):
    gateway.forward()
    gateway.propose("start", "back")
    edit(gateway, "back", "forbidden\n")
    api.hook(FORBID)
    gateway.propose("send", "back", "Back")
    gateway.forward()
    edit(gateway, "back", SOUL)
    assert "nothing is changed" in gateway.propose("send", "back", "Back").stderr


def test_sending_again_without_a_change_gets_the_same_answer(gateway, api, loop):
    gateway.propose("start", "same")
    edit(gateway, "same", "one\n")
    assert gateway.propose("send", "same", "One").returncode == 0
    assert gateway.propose("send", "same", "One").returncode == 0


def test_shell_in_titles_stays_text(gateway, api, loop, tmp_path):
    ran = tmp_path / "ran"
    gateway.propose("start", "odd")
    edit(gateway, "odd", "x\n")
    title = f"$(touch {ran}) `touch {ran}` \"; touch {ran}; '"
    assert gateway.propose("send", "odd", title, "--amend").returncode == 0
    assert git(api.repository, "log", "-1", "--format=%B", "refs/heads/proposal/odd") == f"{title}\n\n--amend"
    assert not ran.exists()


def test_hooks_of_a_working_copy_do_not_run(gateway, loop, tmp_path):
    gateway.propose("start", "hooked")
    hooks = gateway.proposals / "work" / "hooked" / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-commit", "commit-msg"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    edit(gateway, "hooked", "x\n")
    assert gateway.propose("send", "hooked", "Hooked").returncode == 0
    assert not (tmp_path / "ran").exists()


def test_without_the_gateway_it_says_so_and_ends(gateway, impatient):
    started = gateway.propose("start", "alone")
    assert started.returncode == 75
    assert "have not come yet" in started.stderr
    gateway.forward()
    assert gateway.propose("start", "alone").returncode == 0
    edit(gateway, "alone", "x\n")
    sent = gateway.propose("send", "alone", "Alone")
    assert sent.returncode == 75
    assert "no answer yet" in sent.stderr
    status = gateway.propose("status")
    assert status.returncode == 0
    assert "may be old" in status.stderr


def test_old_answer_is_not_taken_for_a_new_one(gateway, impatient):
    gateway.forward()
    gateway.propose("start", "again")
    edit(gateway, "again", "x\n")
    gateway.propose("send", "again", "One")
    gateway.forward()
    assert gateway.answer("again").startswith("accepted")
    edit(gateway, "again", "y\n")
    assert gateway.propose("send", "again", "Two").returncode == 75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "start NAME"), (["start"], "start NAME"), (["send", "x"], "start NAME"),
        (["start", "a", "b"], "start NAME"), (["send", "none", "Title"], "begin with"), (["send", "none", ""], "title"),
        (["start", "../x"], "lower-case"), (["start", "A"], "lower-case"), (["start", "-x"], "lower-case"),
        (["start", "a" * 65], "longer than 64"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_is_right(gateway, arguments, message):
    done = gateway.propose(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_unchanged_copy_and_second_start_are_refused(gateway, impatient):
    gateway.forward()
    gateway.propose("start", "same")
    assert "nothing is changed" in gateway.propose("send", "same", "Nothing").stderr
    assert "is there already" in gateway.propose("start", "same").stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a directory read-only")
def test_workspace_that_can_only_be_read_gives_way_to_the_tools_own(gateway):
    """As in a sandbox with workspace access ro: skills in /agent, and a workspace of its own at /workspace."""
    own = gateway.home / ".openclaw" / "sandboxes" / "one"
    (own / "proposals").mkdir(parents=True)
    gateway.forward()
    script = gateway.workspace / "skills" / "propose-change" / "propose.sh"
    text = script.read_text().replace("_WITHIN=20", "_WITHIN=1")
    script.write_text(text.replace(" /workspace;", " /mnt/workspace;"))
    mounts = """mount -t tmpfs none /mnt && mkdir /mnt/workspace && mount --bind "$1" /mnt/workspace &&
        mount --bind "$2" "$2" && mount -o remount,ro,bind "$2" && shift 2 && exec "$@\""""
    shell = ["unshare", "--mount", "sh", "-c", mounts, "sh", str(own), str(gateway.workspace)]
    command = [*shell, "sh", str(script), "start", "mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (own / "proposals" / "work" / "mine" / "workspace" / "SOUL.md").is_file()
    assert not (gateway.proposals / "work").exists()


class TestLoop:
    def test_it_hands_one_secret_on_and_waits_as_a_shell(self, gateway, api, loop):
        wait_for("the first run", (gateway.proposals / "status.json").exists, 30)
        wait_for("the end of node", lambda: children(loop.pid) in ([], ["sleep"]), 10)
        assert OTHER_SECRET.encode() not in Path(f"/proc/{loop.pid}/environ").read_bytes()

    def test_it_tries_again_when_the_controller_is_back(self, gateway, api, loop):
        api.broken = 503
        wait_for("a first try", lambda: api.requests, 30)
        api.broken = 0
        wait_for("the approved history", (gateway.proposals / "main.bundle").exists, 60)

    def test_without_secrets_it_keeps_trying(self, gateway, secrets):
        secrets.unlink()
        command = [str(IMAGE / "bin" / "proposal-forwarder"), str(secrets)]
        with subprocess.Popen(command, env=gateway.environment(), stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr
                assert str(secrets) in process.stderr.readline()
                assert process.poll() is None
            finally:
                process.kill()


def children(number: int) -> list[str]:
    """Names of the processes below one, without those that end meanwhile."""
    listed = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    return [Path(f"/proc/{each}/comm").read_text().strip() for each in listed if Path(f"/proc/{each}").exists()]
