"""What OpenClaw needs works through the broker: the docker CLI of the gateway, and streams with all they can carry."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.bots import Bot
from tests.support.broker_attacks.calls import upgraded
from tests.support.broker_attacks.scene import NODE, PROBE
from tests.support.broker_client import Wire
from tests.support.broker_deployed import Deployed, deployed
from tests.support.polling import wait_for

MIB = 2**20


@pytest.fixture(scope="module")
def broker(bot: Bot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed(bot, tmp_path_factory.mktemp("broker")) as found:
        yield found


@pytest.fixture(scope="module")
def sandbox(broker: Deployed) -> Iterator[str]:
    name = broker.make("allowed")
    yield name
    broker.remove(name)


def printed(broker: Deployed, *arguments: str) -> str:
    done = broker.docker(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestCommands:
    def test_life_of_a_sandbox(self, broker: Deployed) -> None:
        """With the arguments that OpenClaw gives to ``docker create``."""
        words = broker.stage.scene.words
        name = f"clawfactory-{broker.bot.name}-sbx-cli"
        made = printed(
            broker,
            "create",
            "--name",
            name,
            "--label",
            "openclaw.sandbox=1",
            "--label",
            "openclaw.sessionKey=agent:main",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/var/tmp",
            "--tmpfs",
            "/run",
            "--network",
            "none",
            "--user",
            f"{broker.bot.uid}:{broker.bot.uid}",
            "--env",
            "LANG=C.UTF-8",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--pids-limit",
            "64",
            "--memory",
            "256m",
            "--cpus",
            "0.5",
            "--init",
            "--workdir",
            "/workspace",
            "-v",
            f"{words['source']}:/workspace:z",
            words["image"],
            "sleep",
            "infinity",
        )
        assert re.fullmatch("[0-9a-f]{64}", made)
        try:
            printed(broker, "start", name)
            assert printed(broker, "inspect", "-f", "{{.State.Running}}", name) == "true"
            assert printed(broker, "exec", name, "sh", "-c", "echo $LANG; id -u; pwd").split() == [
                "C.UTF-8",
                str(broker.bot.uid),
                "/workspace",
            ]
            assert (
                printed(broker, "ps", "--filter", "label=openclaw.sandbox=1", "--format", "{{.Names}}")
                .split()
                .count(name)
                == 1
            )
            inspect = broker.machine.inspect(name)["HostConfig"]
            assert (inspect["Memory"], inspect["PidsLimit"], inspect["NanoCpus"]) == (256 * MIB, 64, 500000000)
            printed(broker, "pause", name)
            printed(broker, "unpause", name)
            printed(broker, "stop", "-t", "1", name)
            assert printed(broker, "inspect", "-f", "{{.State.Status}}", name) == "exited"
            printed(broker, "start", name)
            assert printed(broker, "exec", made[:12], "echo", "again") == "again"
        finally:
            printed(broker, "rm", "-f", name)
        assert broker.docker("inspect", name).returncode == 1

    def test_what_the_client_asks_about_the_engine(self, broker: Deployed) -> None:
        assert printed(broker, "version", "--format", "{{.Server.APIVersion}}") == "1.41"
        told = json.loads(printed(broker, "info", "--format", "{{json .}}"))
        assert told["OSType"] == "linux" and told["ServerVersion"]
        assert not told.get("ServerErrors"), told
        image = broker.stage.scene.words["image"]
        assert (
            printed(broker, "image", "inspect", "-f", "{{.Id}}", image) == broker.settings["sandbox"]["images"][image]
        )

    def test_what_is_not_there_is_said_in_dockers_words(self, broker: Deployed) -> None:
        assert "No such container: nothing" in broker.docker("start", "nothing").stderr
        assert "No such object: nothing" in broker.docker("inspect", "nothing").stderr
        assert "No such image: nothing" in broker.docker("image", "inspect", "nothing").stderr
        assert "No such container: nothing" in broker.docker("rm", "-f", "nothing").stderr

    def test_gateway_finds_itself_as_openclaw_does(self, broker: Deployed) -> None:
        name = broker.bot.container("gateway")
        mounts = json.loads(printed(broker, "inspect", "--type", "container", "--format", "{{json .Mounts}}", name))
        assert {mount["Source"] for mount in mounts} >= {*broker.approved}
        identity = printed(broker, "inspect", "--format", "{{.ID}}", name)
        assert printed(broker, "exec", identity, NODE, "-e", PROBE) == broker.bot.run("node", "-e", PROBE).stdout

    def test_name_in_use_is_a_conflict(self, broker: Deployed, sandbox: str) -> None:
        made = broker.client.ask("POST", f"/containers/create?name={sandbox}", broker.stage.scene.create())
        assert made.status == 409


class TestStreams:
    def test_exit_code_and_both_outputs(self, broker: Deployed, sandbox: str) -> None:
        done = broker.docker("exec", sandbox, "sh", "-c", "echo out; echo err >&2; exit 37")
        assert (done.returncode, done.stdout, done.stderr) == (37, "out\n", "err\n")

    def test_command_that_does_not_exist(self, broker: Deployed, sandbox: str) -> None:
        assert broker.docker("exec", sandbox, "/no/such/program").returncode in {126, 127}

    @pytest.mark.parametrize("size", [0, 1, 65536, 8 * MIB])
    def test_binary_data_both_ways(self, broker: Deployed, sandbox: str, size: int) -> None:
        script = (
            f"head -c {size} /dev/urandom > /tmp/sent; docker exec -i {sandbox} cat < /tmp/sent > /tmp/got;"
            " echo $?; sha256sum < /tmp/sent; sha256sum < /tmp/got; rm /tmp/sent /tmp/got"
        )
        code, sent, got = broker.bot.sh(script).stdout.splitlines()
        assert (code, sent) == ("0", got)

    def test_only_in_and_only_out(self, broker: Deployed, sandbox: str) -> None:
        took = broker.bot.sh(f"head -c {8 * MIB} /dev/zero | docker exec -i {sandbox} sh -c 'wc -c; exit 3'; echo $?")
        assert took.stdout.split() == [str(8 * MIB), "3"]
        gave = broker.bot.sh(f"docker exec {sandbox} head -c {8 * MIB} /dev/zero | sha256sum")
        assert gave.stdout.split()[0] == hashlib.sha256(bytes(8 * MIB)).hexdigest()

    def test_half_close_ends_the_input_and_not_the_output(self, broker: Deployed, sandbox: str) -> None:
        done = broker.bot.sh(f"printf in | docker exec -i {sandbox} sh -c 'cat; sleep 1; echo after; exit 5'; echo $?")
        assert done.stdout == "inafter\n5\n"

    def test_output_that_ends_early_does_not_hang(self, broker: Deployed, sandbox: str) -> None:
        done = broker.bot.sh(f"timeout 20 docker exec {sandbox} yes | head -n 3; echo done")
        assert done.stdout.split() == ["y", "y", "y", "done"]

    def test_terminal(self, broker: Deployed, sandbox: str) -> None:
        done = broker.docker("exec", "-t", sandbox, "sh", "-c", "tty; stty size > /dev/null && echo terminal; exit 4")
        assert done.returncode == 4
        assert "/dev/pts/" in done.stdout and "terminal" in done.stdout

    def test_many_at_once(self, broker: Deployed, sandbox: str) -> None:
        def run(number: int) -> bool:
            return (
                broker.docker("exec", sandbox, "sh", "-c", f"sleep 1; echo {number}; exit {number}").returncode
                == number
            )

        with ThreadPoolExecutor(16) as crowd:
            assert all(crowd.map(run, range(1, 17)))

    def test_client_that_does_not_read_stops_the_writer(self, broker: Deployed, sandbox: str) -> None:
        """Back-pressure: what nobody reads is not kept in the broker, and the program in the sandbox waits."""
        identity = broker.stage.scene.fresh_exec("sh", "-c", "exec cat /dev/zero")
        with ThreadPoolExecutor(1) as aside:
            hanging = aside.submit(broker.client.send, Wire(((upgraded(identity), 0),), seconds=10, read=False))
            process = wait_for(
                "the exec", lambda: broker.machine.raw.ask("GET", f"/exec/{identity}/json").json()["Pid"], 10
            )
            time.sleep(3)
            first = _written(process)
            time.sleep(2)
            assert _written(process) == first, "the writer goes on although nobody reads"
            assert first < 32 * MIB
            assert _memory(broker.broker_process()) < 80 * MIB
            assert broker.docker("exec", sandbox, "echo", "others are served").returncode == 0
            hanging.result()

    def test_client_that_leaves_takes_its_stream_with_it(self, broker: Deployed, sandbox: str) -> None:
        descriptors = Path(f"/proc/{broker.broker_process()}/fd")
        before = len(os.listdir(descriptors))
        orders = [Wire(((upgraded(broker.stage.scene.fresh_exec("sleep", "2")), 0),), seconds=0.5) for _ in range(20)]
        assert {reply.status for reply in broker.client.send_all(orders)} == {101}
        wait_for("streams that are over", lambda: len(os.listdir(descriptors)) <= before + 2, 20)


def _written(process: int) -> int:
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def _memory(process: int) -> int:
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
