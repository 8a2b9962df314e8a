"""The proposal forwarder against real Git over HTTP, and a bot's tools that try to turn it against the gateway."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.agent_api import TOKEN, git

SECRET = "for nobody's eyes"
_A, _B = b"a" * 40, b"b" * 40
NO_BUNDLES = [
    b"",
    b"not a bundle",
    b"# v2 git bundle\n",
    b"# v2 git bundle\n" + b"x" * 200_000,
    b"# v3 git bundle\n\nPACK",
    b"# v2 git bundle\n" + _A + b" refs/heads/proposal/name5\n\nPACKgarbage",
    b"# v2 git bundle\n-" + _B + b"\n" + _A + b" refs/heads/proposal/name6\n\nPACK",
    b"# v2 git bundle\n" + _A + b" refs/heads/proposal/name7\x00--upload-pack=x\n\nPACK",
]
ODD_NAMES = ["..", ".hidden", "UPPER", "a b", "-x", "x-", "a" * 65, "$(id)", "é", "a\nb", "--mirror"]


@pytest.fixture
def exchange(gateway):
    """The exchange directory after a first run, with the approved history in it."""
    assert gateway.forward().returncode == 0
    return gateway.proposals


def bundle(exchange: Path, name: str, *, ref: str | None = None, whole: bool = False, content: str = "new\n") -> str:
    """Leave a proposal in the outbox without the skill; its commit."""
    work = exchange / "work" / name
    if not work.exists():
        work.parent.mkdir(exist_ok=True)
        git(exchange, "clone", "--quiet", "--branch", "main", "main.bundle", str(work))
    branch = ref or f"proposal/{name}"
    git(work, "checkout", "--quiet", "-B", branch)
    (work / "workspace" / "SOUL.md").write_text(content)
    git(work, "commit", "--quiet", "--all", "--message", "change")
    span = branch if whole else f"origin/main..{branch}"
    git(work, "bundle", "create", "--quiet", str(exchange / "outbox" / f".{name}"), span)
    (exchange / "outbox" / f".{name}").rename(exchange / "outbox" / f"{name}.bundle")
    return git(work, "rev-parse", "HEAD")


class TestPassing:
    def test_first_run_brings_history_and_status(self, gateway, api):
        assert gateway.forward().returncode == 0
        assert git(gateway.proposals, "bundle", "list-heads", "main.bundle") == f"{api.main} refs/heads/main"
        status = json.loads((gateway.proposals / "status.json").read_text())
        assert (status["bot"], status["approved"], status["main"], status["proposals"]) == (
            "bot1",
            api.main,
            api.main,
            [],
        )

    def test_proposal_arrives_as_a_branch_and_is_answered(self, gateway, api, exchange):
        commit = bundle(exchange, "kinder")
        done = gateway.forward()
        assert done.returncode == 0, done.stderr
        assert api.refs() == {"refs/heads/main": api.main, "refs/heads/proposal/kinder": commit}
        assert gateway.answer("kinder").startswith(f"accepted {commit}\n")
        assert list((exchange / "outbox").iterdir()) == []

    def test_whole_history_is_as_good_as_its_end(self, gateway, api, exchange):
        commit = bundle(exchange, "whole", whole=True)
        assert gateway.forward().returncode == 0
        assert api.refs()["refs/heads/proposal/whole"] == commit

    def test_second_commit_goes_on_top_of_the_first(self, gateway, api, exchange):
        bundle(exchange, "kinder")
        gateway.forward()
        second = bundle(exchange, "kinder", content="newer\n")
        assert gateway.forward().returncode == 0
        assert api.refs()["refs/heads/proposal/kinder"] == second

    def test_proposal_made_before_main_moved_still_arrives(self, gateway, api, exchange):
        commit = bundle(exchange, "old")
        api.commit({"workspace/TOOLS.md": "later\n"})
        assert gateway.forward().returncode == 0
        assert api.refs()["refs/heads/proposal/old"] == commit

    def test_history_follows_main(self, gateway, api, exchange):
        first = (exchange / "main.bundle").stat().st_ino
        assert gateway.forward().returncode == 0
        assert (exchange / "main.bundle").stat().st_ino == first, "unchanged history was written again"
        newer = api.commit({"workspace/TOOLS.md": "later\n"})
        assert gateway.forward().returncode == 0
        assert git(exchange, "bundle", "list-heads", "main.bundle").split()[0] == newer

    def test_denial_is_told_with_its_reason(self, gateway, api, exchange):
        api.proposals = [{"name": "kinder", "commit": "a" * 40, "state": "denied", "reason": "not\x1b[31m now"}]
        gateway.forward()
        told = json.loads((exchange / "status.json").read_text())["proposals"]
        assert told == [{"name": "kinder", "commit": "a" * 40, "state": "denied", "reason": "not [31m now"}]

    def test_sandbox_with_a_workspace_of_its_own_is_served_too(self, gateway, api):
        own = gateway.home / ".openclaw" / "sandboxes" / "agent-main" / "proposals"
        own.mkdir(parents=True)
        assert gateway.forward().returncode == 0
        commit = bundle(own, "mine")
        assert gateway.forward().returncode == 0
        assert api.refs()["refs/heads/proposal/mine"] == commit
        assert (own / "answers" / "mine.txt").read_text().startswith("accepted")


class TestRefusals:
    def test_words_of_the_controller_reach_the_bot(self, gateway, api, exchange):
        api.hook('echo "workspace/SOUL.md, line 3, holds a GitHub token; remove it" >&2; exit 1')
        commit = bundle(exchange, "leak")
        assert gateway.forward().returncode == 0
        answer = gateway.answer("leak")
        assert answer.startswith(f"refused {commit}\n")
        assert "workspace/SOUL.md, line 3, holds a GitHub token; remove it" in answer
        assert list(api.refs()) == ["refs/heads/main"]
        assert list((exchange / "outbox").iterdir()) == []

    def test_name_taken_by_other_work_is_refused_with_advice(self, gateway, api, exchange):
        bundle(exchange, "same")
        gateway.forward()
        git(exchange, "clone", "--quiet", "--branch", "main", "main.bundle", "work/again")
        (exchange / "work" / "same").rename(exchange / "work" / "gone")
        (exchange / "work" / "again").rename(exchange / "work" / "same")
        bundle(exchange, "same", content="other work\n")
        gateway.forward()
        assert gateway.answer("same").startswith("refused")
        assert "choose another name" in gateway.answer("same")

    @pytest.mark.parametrize("ref", ["main", "proposal/other", "master", "refs/heads/proposal/x/y"])
    def test_bundle_of_another_branch_is_refused(self, gateway, api, exchange, ref):
        bundle(exchange, "name", ref=ref, whole=True)
        gateway.forward()
        assert gateway.answer("name").startswith("refused")
        assert "it may hold refs/heads/proposal/name and nothing else" in gateway.answer("name")
        assert list(api.refs()) == ["refs/heads/main"]

    def test_bundle_with_a_tag_beside_is_refused(self, gateway, api, exchange):
        bundle(exchange, "name")
        work = exchange / "work" / "name"
        git(work, "tag", "evil")
        git(work, "bundle", "create", "--quiet", str(exchange / "outbox" / "name.bundle"), "proposal/name", "evil")
        gateway.forward()
        assert "refs/tags/evil" in gateway.answer("name")
        assert list(api.refs()) == ["refs/heads/main"]

    def test_what_is_no_bundle_is_refused(self, gateway, api, exchange):
        for number, content in enumerate(NO_BUNDLES):
            (exchange / "outbox" / f"name{number}.bundle").write_bytes(content)
        assert gateway.forward().returncode == 0
        for number, content in enumerate(NO_BUNDLES):
            assert gateway.answer(f"name{number}").startswith("refused"), content
        assert list(api.refs()) == ["refs/heads/main"]
        assert list((exchange / "outbox").iterdir()) == []

    def test_foreign_history_is_refused_with_advice(self, gateway, exchange, tmp_path):
        git(tmp_path, "init", "--quiet", "foreign")
        foreign = tmp_path / "foreign"
        git(foreign, "commit", "--quiet", "--allow-empty", "--message", "root")
        git(foreign, "checkout", "--quiet", "-b", "proposal/name")
        git(foreign, "commit", "--quiet", "--allow-empty", "--message", "next")
        git(foreign, "bundle", "create", str(exchange / "outbox" / "name.bundle"), "HEAD~1..proposal/name")
        gateway.forward()
        assert "start a new proposal" in gateway.answer("name")

    def test_huge_file_is_refused_without_being_read_whole(self, gateway, exchange):
        with (exchange / "outbox" / "name.bundle").open("wb") as file:
            file.truncate(2**40)
        started = time.monotonic()
        gateway.forward()
        assert time.monotonic() - started < 20
        assert "make the proposal smaller" in gateway.answer("name")

    def test_odd_names_are_dropped(self, gateway, api, exchange):
        bundle(exchange, "good")
        good = exchange / "outbox" / "good.bundle"
        for name in ODD_NAMES:
            (exchange / "outbox" / f"{name}.bundle").write_bytes(good.read_bytes())
        good.unlink()
        done = gateway.forward()
        assert done.returncode == 0, done.stderr
        gateway.forward()
        assert list(api.refs()) == ["refs/heads/main"]
        assert list((exchange / "outbox").iterdir()) == []
        assert list((exchange / "answers").iterdir()) == []


class TestSandboxAgainstGateway:
    """The tools can write the exchange; the gateway's files beside it are what they would like to have."""

    @pytest.fixture
    def secret(self, gateway):
        path = gateway.home / "secret"
        path.write_text(SECRET)
        return path

    def test_link_in_the_outbox_is_not_followed(self, gateway, exchange, secret):
        (exchange / "outbox" / "name.bundle").symlink_to(secret)
        gateway.forward()
        assert gateway.answer("name").startswith("refused")
        assert SECRET not in gateway.answer("name")
        assert secret.read_text() == SECRET
        assert list((exchange / "outbox").iterdir()) == []

    def test_link_as_answer_is_replaced_and_not_written_through(self, gateway, exchange, secret):
        (exchange / "answers" / "name.txt").symlink_to(secret)
        bundle(exchange, "name")
        gateway.forward()
        assert gateway.answer("name").startswith("accepted")
        assert not (exchange / "answers" / "name.txt").is_symlink()
        assert secret.read_text() == SECRET

    @pytest.mark.parametrize("part", ["outbox", "answers"])
    def test_directory_swapped_for_a_link_is_replaced(self, gateway, exchange, secret, part):
        elsewhere = gateway.home / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "name.bundle").write_text("bait")
        (exchange / part).rename(exchange / "moved")
        (exchange / part).symlink_to(elsewhere)
        assert gateway.forward().returncode == 0
        assert [path.name for path in elsewhere.iterdir()] == ["name.bundle"]
        assert (exchange / part).is_dir() and not (exchange / part).is_symlink()

    def test_exchange_swapped_for_a_link_is_replaced(self, gateway, exchange):
        elsewhere = gateway.home / "elsewhere"
        elsewhere.mkdir()
        exchange.rename(gateway.workspace / "moved")
        exchange.symlink_to(elsewhere)
        assert gateway.forward().returncode == 0
        assert list(elsewhere.iterdir()) == []
        assert not exchange.is_symlink()

    @pytest.mark.parametrize("name", ["status.json", "main.bundle"])
    def test_links_in_place_of_our_files_are_replaced(self, gateway, exchange, secret, name):
        (exchange / name).unlink()
        (exchange / name).symlink_to(secret)
        assert gateway.forward().returncode == 0
        assert secret.read_text() == SECRET
        assert not (exchange / name).is_symlink()

    @pytest.mark.parametrize("name", ["status.json", "main.bundle"])
    def test_directories_in_place_of_our_files_are_moved(self, gateway, exchange, name):
        (exchange / name).unlink()
        (exchange / name / "full").mkdir(parents=True)
        assert gateway.forward().returncode == 0
        assert (exchange / name).is_file()

    @pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "device"])
    def test_special_files_hold_nobody_up(self, gateway, api, exchange, kind, monkeypatch):
        path = exchange / "outbox" / "a.bundle"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            (path / "full").mkdir(parents=True)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as listening:
                monkeypatch.chdir(path.parent)  # a socket's path is short
                listening.bind(path.name)
        os.mkfifo(exchange / "answers" / "b.txt")
        (exchange / "main.bundle").unlink()
        os.mkfifo(exchange / "main.bundle")
        commit = bundle_from(api, exchange, "b")
        done = gateway.forward()
        assert done.returncode == 0, done.stderr
        assert gateway.answer("a").startswith("refused")
        assert gateway.answer("b").startswith(f"accepted {commit}")
        assert not path.exists()

    def test_settings_in_a_working_copy_run_nothing_in_the_gateway(self, gateway, exchange, tmp_path):
        ran = tmp_path / "ran"
        bundle(exchange, "name")
        work = exchange / "work" / "name"
        command = f"touch {ran}; false"
        for key in (
            "core.sshCommand",
            "core.fsmonitor",
            "core.gitProxy",
            "credential.helper",
            "uploadpack.packObjectsHook",
        ):
            git(work, "config", key, f"!{command}" if key == "credential.helper" else f"sh -c '{command}'")
        for hook in ("pre-push", "reference-transaction", "post-checkout"):
            (work / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\n{command}\n")
            (work / ".git" / "hooks" / hook).chmod(0o755)
        for place in (exchange, exchange / "outbox", gateway.workspace):
            (place / ".git").mkdir()
            (place / ".git" / "config").write_text(f"[core]\nfsmonitor = sh -c '{command}'\n")
        (gateway.home / ".gitconfig").write_text(
            f"[core]\nsshCommand = sh -c '{command}'\nhooksPath = {work}/.git/hooks\n"
        )
        assert gateway.forward().returncode == 0
        assert not ran.exists()
        assert gateway.answer("name").startswith("accepted")

    @pytest.mark.parametrize("part", ["answers", "outbox"])
    def test_swapping_while_it_runs_gains_nothing(self, gateway, api, exchange, part):
        """A thread exchanges a directory and a link as fast as it can, while proposals are carried."""
        stop = threading.Event()
        elsewhere = gateway.home / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "bait.bundle").write_text(SECRET)
        path, aside = exchange / part, exchange / "aside"
        swapped = 0

        def swap() -> None:
            nonlocal swapped
            while not stop.is_set():
                try:
                    path.rename(aside)
                    path.symlink_to(elsewhere)
                    path.unlink()
                    aside.rename(path)
                    swapped += 1
                except OSError:
                    # The forwarder was in between and has put a new one there, which is as good.
                    continue

        bundle(exchange, "name")
        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(6):
                gateway.forward()
        finally:
            stop.set()
            thread.join()
        assert swapped > 100
        assert {each.name: each.read_text() for each in elsewhere.iterdir()} == {"bait.bundle": SECRET}
        assert "refs/heads/proposal/bait" not in api.refs()

    def test_token_is_in_no_argument_and_no_file(self, gateway, api, exchange):
        """A slow hook holds the push open, while the processes are looked at."""
        api.hook("sleep 2")
        bundle(exchange, "name")
        seen: list[bytes] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.extend(_arguments())
                time.sleep(0.05)

        thread = threading.Thread(target=look)
        thread.start()
        result = gateway.forward()
        done.set()
        thread.join()
        assert any(b"push\0" in each for each in seen), "the push was not seen"
        assert not any(TOKEN.encode() in each for each in seen)
        assert TOKEN not in result.stdout + result.stderr
        grep = ["grep", "--recursive", "--binary-files=text", "--files-with-matches", TOKEN, str(gateway.home)]
        assert subprocess.run(grep, capture_output=True, text=True, check=False).stdout == ""
        assert list(gateway.scratch.iterdir()) == []


class TestWithoutController:
    def test_proposal_waits_and_arrives_when_it_is_back(self, gateway, api, exchange):
        commit = bundle(exchange, "name")
        api.broken = 503
        assert gateway.forward().returncode == 3
        assert gateway.answer("name").startswith(f"waiting {commit}\n")
        assert json.loads((exchange / "status.json").read_text())["error"].startswith("the controller answers 503")
        api.broken = 0
        assert gateway.forward().returncode == 0
        assert gateway.answer("name").startswith(f"accepted {commit}\n")

    def test_nobody_listens(self, gateway, exchange):
        bundle(exchange, "name")
        assert gateway.forward(CLAWFACTORY_AGENT_URL="http://127.0.0.1:1/agent").returncode == 3
        assert gateway.answer("name").startswith("waiting")

    def test_proxies_of_the_environment_are_not_asked(self, gateway, api, exchange):
        commit = bundle(exchange, "name")
        proxies = dict.fromkeys(
            ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:1"
        )
        assert gateway.forward(**proxies).returncode == 0
        assert api.refs()["refs/heads/proposal/name"] == commit

    @pytest.mark.parametrize("changes", [{"CLAWFACTORY_AGENT_TOKEN": ""}, {"CLAWFACTORY_AGENT_URL": "ext::sh -c id"}])
    def test_without_its_settings_it_refuses(self, gateway, changes):
        done = gateway.forward(**changes)
        assert done.returncode == 78
        assert "Run site.yml" in done.stderr

    def test_wrong_token_is_told(self, gateway, api, exchange):
        bundle(exchange, "name")
        assert gateway.forward(CLAWFACTORY_AGENT_TOKEN="f" * 32).returncode == 3
        assert gateway.answer("name").startswith("waiting")
        assert list(api.refs()) == ["refs/heads/main"]


def bundle_from(api, exchange: Path, name: str) -> str:
    """Leave a proposal that was made from the repository itself; its commit."""
    work = exchange / "work" / name
    work.parent.mkdir(exist_ok=True)
    git(exchange, "clone", "--quiet", "--branch", "main", str(api.repository), str(work))
    return bundle(exchange, name)


def _arguments() -> list[bytes]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes())
            except OSError:
                continue  # it ended meanwhile
    return found
