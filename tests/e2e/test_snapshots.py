"""Snapshots of the real bot by the operator's playbooks: while it works, restored, and opened without us."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bots import Bot, http
from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY


def play(playbook: str, bot: str = "e2e", **variables: object) -> PlaybookRun:
    return ansible_playbook(
        f"playbooks/{playbook}.yml", INVENTORY, "--limit", bot, "--extra-vars", json.dumps(variables)
    )


def snapshot(label: str, **variables: object) -> str:
    """Make one; its id."""
    run = play("snapshot", snapshot_label=label, **variables).succeeded()
    made = [result for host, task, result in run._results() if task.endswith("Create | Snapshot")]
    return str(made[0]["snapshot"]["id"])


def full_snapshot(bot: Bot) -> str:
    """Make one by the core, as the schedule does, without Ansible around it; its id."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/lib'); from pathlib import Path\n"
        "from clawfactory_core.snapshots.create import apply_snapshot\n"
        "from clawfactory_core.snapshots.settings import snapshot_request\n"
        "done = apply_snapshot(snapshot_request(Path(sys.argv[1]), sys.argv[2], kind='full'))\n"
        "print(done.record.id); print(*done.warnings, sep='\\n', file=sys.stderr)"
    )
    command = [str(bot.root / "venv/bin/python"), "-B", "-c", code, str(bot.root), bot.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    sys.stderr.write(done.stderr)  # its warnings, for a failure
    return done.stdout.strip()


def state(bot: Bot) -> Path:
    return bot.root / "bot_repos" / bot.name / "state"


def directory(bot: Bot) -> Path:
    return bot.root / "snapshots" / bot.name


def note(bot: Bot, name: str, text: str) -> Path:
    """A file that the bot itself writes."""
    written = bot.sh(
        f"mkdir -p ~/.openclaw/workspace/memory && printf %s '{text}' > ~/.openclaw/workspace/memory/{name}"
    )
    assert written.returncode == 0, written.stderr
    return state(bot) / "workspace" / "memory" / name


def restore_step(bot: Bot, **options: str) -> None:
    """One step of a restore by itself, as if its playbook ended after it."""
    arguments = json.dumps({"root": str(bot.root), "bot": bot.name, **options})
    python = f"ansible_python_interpreter={bot.root}/venv/bin/python"
    command = [str(Path(sys.executable).with_name("ansible")), "-i", str(INVENTORY), bot.name, "-e", python]
    command += ["-m", "clawfactory_restore", "-a", arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def open_plainly(bot: Bot, archive: Path, target: Path) -> None:
    """With the commands of the documentation, and nothing of ours."""
    key = bot.root / "secrets" / bot.name / "snapshot.key"
    target.mkdir()
    script = (
        f"set -o pipefail; age -d -i {key} {archive} | zstd -dc | tar -x -p -C {target} && rm -r {target}/.clawfactory"
    )
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def identities(path: Path) -> set[str]:
    """Device identities in OpenClaw's database."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as database:
        return {str(row) for row in database.execute("SELECT * FROM device_identities")}


def committed(path: Path) -> dict[str, int]:
    """Rows of the tables that OpenClaw adds to, as a reader beside it sees them."""
    counts = {table: f"SELECT count(*) FROM {table}" for table in ("audit_events", "task_runs")}  # noqa: S608 - names of ours
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as database:
        return {table: database.execute(query).fetchone()[0] for table, query in counts.items()}


@pytest.fixture(scope="module", autouse=True)
def _few_snapshots(bot: Bot) -> Iterator[None]:
    yield
    shutil.rmtree(directory(bot))
    directory(bot).mkdir(mode=0o700)


class TestWhileItWorks:
    def test_databases_are_intact_and_nothing_committed_before_is_lost(self, bot: Bot, tmp_path: Path) -> None:
        ending = threading.Event()
        answers: list[str] = []

        def talk() -> None:
            while not ending.is_set():
                answers.append(bot.chat(f"turn {len(answers)}"))

        talking = threading.Thread(target=talk)
        talking.start()
        try:
            wait_for("a first turn", lambda: len(answers) > 0, 120)
            for number in range(20):
                before = committed(state(bot) / "state" / "openclaw.sqlite")
                made = full_snapshot(bot)
                target = tmp_path / str(number)
                open_plainly(bot, directory(bot) / f"{made}.full.tar.zst.age", target)
                assert list(target.rglob("*-wal")) == []
                databases = sorted(target.rglob("*.sqlite"))
                assert target / "state" / "openclaw.sqlite" in databases
                for path in databases:
                    with sqlite3.connect(path) as database:
                        # In CHECK constraints of OpenClaw; SQLite has it since 3.43.
                        database.create_function("octet_length", 1, lambda text: len(text.encode()))
                        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
                after = committed(target / "state" / "openclaw.sqlite")
                assert all(after[table] >= count for table, count in before.items()), (before, after)
        finally:
            ending.set()
            talking.join()
        assert len(answers) > 1
        assert all("turn" in answer for answer in answers)

    def test_what_is_left_out_and_what_is_in(self, bot: Bot, tmp_path: Path) -> None:
        out = "installed/x workspace/p/node_modules"
        bot.sh(f"cd ~/.openclaw && mkdir -p {out} && touch installed/x/y workspace/p/node_modules/z")
        note(bot, "in.md", "in")
        made = snapshot("content", snapshot_full=True)
        open_plainly(bot, directory(bot) / f"{made}.full.tar.zst.age", tmp_path / "out")
        assert (tmp_path / "out/workspace/memory/in.md").read_text() == "in"
        assert not (tmp_path / "out/installed").exists()
        assert (tmp_path / "out/workspace/p").is_dir()
        assert not (tmp_path / "out/workspace/p/node_modules").exists()

    def test_archives_tell_nothing_and_nothing_in_plaintext_is_left(self, bot: Bot) -> None:
        note(bot, "secret.md", "a-very-special-secret")
        snapshot("sealed")
        for place in (directory(bot), bot.root / "secrets" / bot.name, bot.root / "bot_repos" / bot.name):
            found = subprocess.run(
                ["grep", "-rla", "--exclude-dir=state", "a-very-special-secret", str(place)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (found.returncode, found.stdout) == (1, "")
        assert {path.stat().st_mode & 0o077 for path in directory(bot).glob("*.age")} == {0}

    def test_check_mode_makes_nothing(self, bot: Bot) -> None:
        before = sorted(directory(bot).iterdir())
        run = ansible_playbook("playbooks/snapshot.yml", INVENTORY, "--limit", "e2e", "--check", "--diff").succeeded()
        assert run.changed == ["e2e: snapshots : Create | Snapshot"]
        assert sorted(directory(bot).iterdir()) == before


class TestRestore:
    def test_running_bot_is_refused(self, bot: Bot) -> None:
        snapshot("first")
        started = bot.inspect("gateway")["State"]["StartedAt"]
        run = play("restore")
        assert "restore_stop=true" in run.failures["e2e"]
        assert bot.inspect("gateway")["State"]["StartedAt"] == started

    def test_state_comes_back_and_the_bot_with_it(self, bot: Bot) -> None:
        kept, gone = note(bot, "kept.md", "before"), state(bot) / "workspace" / "memory" / "later.md"
        made = snapshot("good")
        note(bot, "kept.md", "after")
        note(bot, "later.md", "after")
        snapshot("later")
        token = bot.token
        play("restore", restore_name=made, restore_stop=True, restore_rotate_token=True).succeeded()
        assert kept.read_text() == "before"
        assert not gone.exists()
        assert bot.token != token
        assert http(f"{bot.gateway_url}/readyz").status == 200
        assert "still me" in bot.chat("still me")
        assert [path.name for path in state(bot).parent.iterdir() if path.name.startswith(".")] == []

    def test_state_with_which_the_bot_does_not_start_is_taken_back(self, bot: Bot) -> None:
        database = state(bot) / "state" / "openclaw.sqlite"
        ansible_playbook("playbooks/stop.yml", INVENTORY, "--limit", "e2e").succeeded()
        good = {path: path.read_bytes() for path in database.parent.glob("openclaw.sqlite*")}
        for path in good:
            path.unlink()
        # A directory where OpenClaw's database has to be: no gateway starts with that.
        database.mkdir()
        made = snapshot("broken")
        database.rmdir()
        for path, data in good.items():
            path.write_bytes(data)
            shutil.chown(path, bot.uid, bot.uid)
        ansible_playbook("playbooks/start.yml", INVENTORY, "--limit", "e2e").succeeded()
        note(bot, "precious.md", "precious")
        run = play("restore", restore_name=made, restore_stop=True, gateway_ready_timeout=45)
        assert "has its old one back" in run.failures["e2e"], run.failures
        assert (state(bot) / "workspace" / "memory" / "precious.md").read_text() == "precious"
        assert database.is_file()
        wait_for("a ready gateway", lambda: http(f"{bot.gateway_url}/readyz", timeout=10).status == 200, 90, every=1)

    def test_restore_that_was_killed_after_the_swap_is_decided_by_the_operator(self, bot: Bot) -> None:
        made = snapshot("decide")
        later = note(bot, "later.md", "later")
        ansible_playbook("playbooks/stop.yml", INVENTORY, "--limit", "e2e").succeeded()
        for options in ({"state": "staged", "name": made}, {"state": "swapped"}):
            restore_step(bot, **options)
        # The playbook would start it and decide; here somebody else starts it.
        ansible_playbook("playbooks/start.yml", INVENTORY, "--limit", "e2e").succeeded()
        assert "restored" in bot.chat("restored")
        assert not later.exists()
        run = play("restore", restore_stop=True)
        assert "restore_decide" in run.failures["e2e"], run.failures
        assert not later.exists()
        play("restore", restore_decide="put_back", restore_stop=True).succeeded()
        assert later.read_text() == "later"
        assert "still me" in bot.chat("still me")

    def test_another_bot_takes_it_on_with_an_identity_and_a_token_of_its_own(self, bot: Bot, second: Bot) -> None:
        note(bot, "inherited.md", "inherited")
        made = snapshot("for-another")
        before = second.token
        play("restore", second.name, restore_from=bot.name, restore_name=made, restore_stop=True).succeeded()
        assert (state(second) / "workspace" / "memory" / "inherited.md").read_text() == "inherited"
        assert (state(second) / "workspace" / "memory" / "inherited.md").stat().st_uid == second.uid
        assert second.token not in (before, bot.token)
        assert "at home" in second.chat("at home")
        databases = [state(each) / "state" / "openclaw.sqlite" for each in (bot, second)]
        wait_for("an identity of its own", lambda: identities(databases[1]), 60)
        assert not identities(databases[0]) & identities(databases[1])
        assert "still me" in bot.chat("still me")

    def test_single_files_go_to_a_directory(self, bot: Bot, tmp_path: Path) -> None:
        note(bot, "wanted.md", "wanted")
        snapshot("files")
        target = tmp_path / "found"
        play("restore", restore_paths=["workspace/memory/wanted.md"], restore_destination=str(target)).succeeded()
        assert [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()] == [
            "workspace/memory/wanted.md"
        ]


class TestKeyOnTheControlNode:
    def test_machine_without_the_key_makes_them_and_reads_none(self, bot: Bot, tmp_path: Path) -> None:
        key = bot.root / "secrets" / bot.name / "snapshot.key"
        away = tmp_path / "bot.key"
        shutil.copy2(key, away)
        key.unlink()
        try:
            snapshot("sealed-from-us")
            refused = play("snapshots", snapshots_verify="content")
            assert "snapshots_key_file" in refused.failures["e2e"]
            verified = play("snapshots", snapshots_verify="content", snapshots_key_file=str(away)).succeeded()
            assert away.read_text().splitlines()[-1] not in json.dumps(verified.report)
            assert not key.exists()
        finally:
            shutil.copy2(away, key)

    def test_rotation_keeps_what_the_old_key_opens(self, bot: Bot) -> None:
        before = snapshot("old-key")
        play("rotate-snapshot-key").succeeded()
        after = snapshot("new-key")
        assert (directory(bot) / f"{after}.full.tar.zst.age").exists(), "for another recipient a chain begins anew"
        for name in (before, after):
            play("snapshots", snapshots_verify="content", snapshots_name=name).succeeded()


class TestBadInput:
    def test_unknown_snapshot_is_named(self, bot: Bot) -> None:
        run = play("restore", restore_name="never-made", restore_stop=True)
        assert "never-made" in run.failures["e2e"]

    def test_damaged_archive_is_named_and_the_bot_goes_on(self, bot: Bot) -> None:
        made = snapshot("damaged", snapshot_full=True)
        archive = directory(bot) / f"{made}.full.tar.zst.age"
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 1
        archive.write_bytes(bytes(data))
        started = bot.inspect("gateway")["State"]["StartedAt"]
        run = play("restore", restore_name=made, restore_stop=True)
        assert made in run.failures["e2e"]
        assert bot.inspect("gateway")["State"]["StartedAt"] == started
        archive.unlink()
        (directory(bot) / f"{made}.full.json").unlink()
