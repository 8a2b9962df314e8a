"""What a bot that is taken over can try with time, numbers and the file system, and what it can learn.

Attacker's code runs in the gateway and in sandboxes; what came of it is looked at from the machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.bots import Bot
from tests.support.broker_client import API, Client, Wire, http
from tests.support.broker_deployed import GATEWAY_SOCKET, Deployed, deployed
from tests.support.broker_policy import violations
from tests.support.polling import wait_for
from tests.support.scratch import open_to_all

STATE = "/home/node/.openclaw"
# Swaps a directory for a link and back as fast as it can, both by renaming, so that one of them is always there.
SWAPPER = """
const fs = require("fs");
const [place, target, until] = [process.argv[1], process.argv[2], Date.now() + Number(process.argv[3]) * 1000];
let swaps = 0;
console.log("begun");
while (Date.now() < until) {
  try {
    fs.rmSync(place + ".link", { force: true });
    fs.symlinkSync(target, place + ".link");
    fs.renameSync(place, place + ".real");
    fs.renameSync(place + ".link", place);
    fs.renameSync(place, place + ".link");
    fs.renameSync(place + ".real", place);
    swaps++;
  } catch (error) { if (!["ENOENT", "EEXIST", "ENOTEMPTY", "EISDIR", "ENOTDIR"].includes(error.code)) throw error; }
}
console.log(swaps);
"""


@pytest.fixture(scope="module")
def broker(bot: Bot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("broker")
    open_to_all(directory)
    with deployed(bot, directory) as found:
        yield found


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory of the machine that no sandbox may ever see, writable for everybody who gets there."""
    place = tmp_path / "canary"
    (place / "x").mkdir(parents=True)
    (place / "x" / "secret").write_text("of the machine")
    for each in (place, place / "x"):
        each.chmod(0o777)
    open_to_all(tmp_path)
    return place


@pytest.fixture
def own(broker: Deployed) -> Iterator[str]:
    """A running sandbox; gone afterwards, as are all that a test makes."""
    before = {*broker.stage.left()}
    yield broker.make("hostile")
    broker.remove(*({*broker.stage.left()} - before))


def mounted(broker: Deployed, sandbox: str) -> str:
    """The mount table of a sandbox, as its own processes see it."""
    return broker.machine.run("exec", sandbox, "cat", "/proc/self/mountinfo", check=False)


@pytest.fixture(scope="module")
def words_of_others(broker: Deployed) -> list[str]:
    """What is the machine's and others', none of which may be in any answer."""
    told: dict[str, Any] = broker.machine.raw.ask("GET", "/info").json()
    words = broker.stage.scene.words
    others = [words["other"], words["other_id"], words["lookalike"], words["forged"], words["unlabelled"]]
    secrets = Path(broker.bot.root, "secrets", broker.bot.name, "gateway.env").read_text().splitlines()
    machine = [told[key] for key in ("Name", "ID", "DockerRootDir", "KernelVersion", "OperatingSystem")]
    return [*others, *machine, *(line.split("=", 1)[1] for line in secrets if "=" in line), "/var/lib/docker"]


class TestNothingIsTold:
    @pytest.mark.parametrize(
        "path",
        ["/info", "/version", "/containers/json?all=1", "/containers/GATEWAY/json", "/containers/SANDBOX/json",
         "/images/IMAGE/json", "/networks/bridge"],
    )  # fmt: skip
    def test_answer_has_nothing_of_others(self, broker: Deployed, words_of_others: list[str], path: str) -> None:
        words = broker.stage.scene.words
        for name, key in (("GATEWAY", "gateway"), ("SANDBOX", "sandbox"), ("IMAGE", "image")):
            path = path.replace(name, words[key])
        reply = broker.client.ask("GET", path)
        assert reply.status in {200, 404}
        found = [word for word in words_of_others if word and word.encode() in reply.body]
        assert found == []

    def test_gateway_shows_no_environment(self, broker: Deployed) -> None:
        gateway = broker.client.ask("GET", f"/containers/{broker.bot.container('gateway')}/json").json()
        assert gateway["Config"]["Env"] == []
        assert broker.machine.inspect(broker.bot.container("gateway"))["Config"]["Env"] != []
        assert "Cmd" not in gateway["Config"] and "Path" not in gateway
        assert {"ExecIDs", "LogPath", "GraphDriver", "ResolvConfPath"} & {*gateway} == set()
        assert gateway["State"].get("Pid", 0) == 0
        assert not (gateway.get("NetworkSettings") or {}).get("Networks")

    def test_list_has_own_sandboxes_alone(self, broker: Deployed) -> None:
        words = broker.stage.scene.words
        own = {f"/{words['sandbox']}", f"/{words['stopped']}"}
        listed = broker.client.ask("GET", "/containers/json?all=1").json()
        names = {each["Names"][0] for each in listed}
        assert own <= names
        assert all(name.startswith(f"/clawfactory-{broker.bot.name}-sbx-") for name in names)
        assert not names & {
            f"/{words[key]}" for key in ("other_sandbox", "lookalike", "forged", "unlabelled", "gateway")
        }

    @pytest.mark.parametrize(
        "filters",
        [{"label": ["clawfactory.bot=victim"]}, {"label": {"clawfactory.service=gateway": True}},
         {"name": ["clawfactory-victim"]}, {"label": ["clawfactory.check=1"]}],
    )  # fmt: skip
    def test_filter_for_others_finds_nothing(self, broker: Deployed, filters: dict[str, Any]) -> None:
        text = json.dumps(filters).translate({ord(char): f"%{ord(char):02X}" for char in '{}[]":, '})
        reply = broker.client.ask("GET", f"/containers/json?all=1&filters={text}")
        assert (reply.status, reply.json()) == (200, [])

    def test_counts_are_the_bots_own(self, broker: Deployed) -> None:
        told = broker.client.ask("GET", "/info").json()
        own = broker.client.ask("GET", "/containers/json?all=1").json()
        assert told["Containers"] == len(own)
        assert told["Images"] in (0, len(broker.settings["sandbox"]["images"]))

    def test_foreign_and_missing_cannot_be_told_apart(self, broker: Deployed) -> None:
        foreign = broker.stage.scene.words["other"]
        missing = "".join(reversed(foreign))
        replies = broker.client.send_all([http("GET", f"{API}/containers/{name}/json") for name in (foreign, missing)])
        assert replies[0].raw.replace(foreign.encode(), b"X") == replies[1].raw.replace(missing.encode(), b"X")

    def test_start_of_an_id_does_not_tell_whether_others_have_it(self, broker: Deployed) -> None:
        """An ambiguous start of an id would otherwise tell the ids of others, digit by digit."""
        starts = (broker.stage.scene.words["ambiguous"], "0" * 12)
        replies = broker.client.send_all([http("GET", f"{API}/containers/{start}/json") for start in starts])
        assert [reply.status for reply in replies] == [404, 404]


class TestLinks:
    @pytest.mark.parametrize("target", ["CANARY", "/etc", "../agents", "/", "/proc/self/root", "../../approved"])
    def test_source_that_is_a_link_never_runs(self, broker: Deployed, canary: Path, own: str, target: str) -> None:
        place, name = f"{STATE}/sandboxes/link", f"clawfactory-{broker.bot.name}-sbx-link"
        aim = target.replace("CANARY", str(canary))
        broker.bot.sh(f"rm -rf {place}; ln -sT {aim} {place}")
        patch = {"HostConfig": {"Binds": ["$state/sandboxes/link:/workspace"]}}
        self._starts_and_ends(broker, patch, name, canary)
        broker.bot.sh(f"rm -f {place}")

    def test_link_on_the_way_to_the_source_never_runs(self, broker: Deployed, canary: Path, own: str) -> None:
        place, name = f"{STATE}/sandboxes/link", f"clawfactory-{broker.bot.name}-sbx-link"
        broker.bot.sh(f"rm -rf {place}; ln -sT {canary} {place}")
        patch = {"HostConfig": {"Binds": ["$state/sandboxes/link/x:/workspace"]}}
        self._starts_and_ends(broker, patch, name, canary)
        broker.bot.sh(f"rm -f {place}")

    def test_directory_that_becomes_a_link_before_the_start_never_runs(
        self, broker: Deployed, canary: Path, own: str
    ) -> None:
        place = f"{STATE}/sandboxes/later"
        broker.bot.sh(f"rm -rf {place}; mkdir -p {place}")
        name = broker.make("link", {"HostConfig": {"Binds": ["$state/sandboxes/later:/workspace"]}}, start=False)
        broker.bot.sh(f"rmdir {place}; ln -sT {canary} {place}")
        assert broker.client.ask("POST", f"/containers/{name}/start").status == 403
        self._is_gone(broker, name, canary)
        broker.bot.sh(f"rm -f {place}")

    def test_stopped_sandbox_is_looked_at_again(self, broker: Deployed, canary: Path, own: str) -> None:
        place = f"{STATE}/sandboxes/again"
        broker.bot.sh(f"rm -rf {place}; mkdir -p {place}")
        name = broker.make("link", {"HostConfig": {"Binds": ["$state/sandboxes/again:/workspace"]}})
        assert broker.client.ask("POST", f"/containers/{name}/stop?t=0").status == 204
        broker.bot.sh(f"rmdir {place}; ln -sT {canary} {place}")
        assert broker.client.ask("POST", f"/containers/{name}/start").status == 403
        self._is_gone(broker, name, canary)
        broker.bot.sh(f"rm -f {place}")

    def test_missing_source_is_not_made_on_the_machine(self, broker: Deployed, own: str) -> None:
        scene = broker.stage.scene
        place = Path(scene.words["state"], "sandboxes", "not-there")
        reply = broker.client.send(scene.creation({"HostConfig": {"Binds": [f"{place}:/workspace"]}}, "$new"))
        if reply.status == 201:
            assert broker.client.ask("POST", f"/containers/{scene.words['new']}/start").status == 403
        assert not place.exists()

    @pytest.mark.parametrize("way", ["the directory", "the one above"])
    def test_swap_during_the_start_never_wins(self, broker: Deployed, canary: Path, own: str, way: str) -> None:
        """A loop in the gateway against many starts. A frozen gateway cannot swap; whatever starts has the real one."""
        before = _tree(canary)
        top = f"{STATE}/sandboxes/race"
        broker.bot.sh(f"rm -rf {top}*; mkdir -p {top}/x; touch {top}/x/mine")
        place, aim = (f"{top}/x", canary / "x") if way == "the directory" else (top, canary)
        prefix = f"{broker.stage.scene.words['state']}/sandboxes/race"
        scene, name = broker.stage.scene, f"clawfactory-{broker.bot.name}-sbx-race"
        node = ["docker", "exec", broker.bot.container("gateway"), "node", "-e", SWAPPER, place, str(aim), "20"]
        started = refused = 0
        with subprocess.Popen(node, stdout=subprocess.PIPE, text=True) as swapper:
            # Docker 20.10 can hang for ever if a container is paused while an exec in it begins.
            assert swapper.stdout is not None and swapper.stdout.readline() == "begun\n"
            while swapper.poll() is None:
                body = scene.create({"HostConfig": {"Binds": [f"{prefix}/x:/workspace"]}})
                if broker.client.ask("POST", f"/containers/create?name={name}", body).status == 201:
                    status = broker.client.ask("POST", f"/containers/{name}/start").status
                    started, refused = started + (status == 204), refused + (status == 403)
                    if status == 204:
                        root = next(line.split()[3] for line in mounted(broker, name).splitlines()
                                    if line.split()[4] == "/workspace")  # fmt: skip
                        assert root.endswith(("/race/x", "/race/x.real", "/race.real/x")), root
                        broker.machine.run("exec", name, "touch", "/workspace/was-here", check=False)
                    else:
                        assert status in {403, 404}
                broker.remove(name)
            swaps = int(swapper.stdout.read())
        assert swaps > 1000, "the attacker was too slow to prove anything"
        assert refused > 0, f"no start met the link: {started} started"
        assert started > 0, f"all {refused} starts were refused, also where there was no link"
        assert _tree(canary) == before
        broker.bot.sh(f"rm -rf {top}*")

    def _starts_and_ends(self, broker: Deployed, patch: dict[str, Any], name: str, canary: Path) -> None:
        made = broker.client.ask("POST", f"/containers/create?name={name}", broker.stage.scene.create(patch))
        if made.status == 201:
            assert broker.client.ask("POST", f"/containers/{name}/start").status == 403
        else:
            assert made.status in {400, 403}
        self._is_gone(broker, name, canary)

    def _is_gone(self, broker: Deployed, name: str, canary: Path) -> None:
        assert broker.machine.run("ps", "--all", "--quiet", "--filter", f"name=^/{name}$") == ""
        assert _tree(canary) == {"x": "", "x/secret": "of the machine"}
        state = broker.machine.inspect(broker.bot.container("gateway"))["State"]
        assert (state["Running"], state["Paused"]) == (True, False)


@pytest.fixture(scope="module")
def bound(broker: Deployed) -> Iterator[str]:
    """A sandbox with the bot's workspace, as OpenClaw makes it."""
    name = broker.make("approved", broker.stage.scene.workspace())
    yield name
    broker.remove(name)


class TestApprovedFiles:
    ATTACKS = (
        "echo evil > /workspace/SOUL.md", "rm -f /workspace/SOUL.md", "mv /workspace/SOUL.md /workspace/SOUL.old",
        "ln -sf /tmp/x /workspace/SOUL.md", "echo evil > /workspace/evil && mv -f /workspace/evil /workspace/SOUL.md",
        "python3 -c 'import os; os.unlink(\"/workspace/SOUL.md\")'", "umount /workspace/SOUL.md",
        "unshare -Urm sh -c 'umount -l /workspace/SOUL.md'", "chmod 666 /workspace/SOUL.md",
        "ln /workspace/SOUL.md /workspace/SOUL2.md", "rmdir /workspace/skills", "mv /workspace/skills /workspace/s2",
        "mkdir -p /workspace/skills/evil", "mount --bind /tmp /workspace/skills",
    )  # fmt: skip

    def test_workspace_itself_is_writable(self, broker: Deployed, bound: str) -> None:
        """Else the refusals below would prove nothing."""
        done = broker.docker(
            "exec", bound, "sh", "-c", "echo memory > /workspace/of-the-test.md; rm /workspace/of-the-test.md"
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_approved_files_stay_in_gateway_and_sandbox(self, broker: Deployed, bound: str, attack: str) -> None:
        before = self._seen(broker, bound)
        assert broker.docker("exec", bound, "sh", "-c", attack).returncode != 0
        assert self._seen(broker, bound) == before

    def _seen(self, broker: Deployed, bound: str) -> list[str]:
        look = "sha256sum SOUL.md TOOLS.md; find skills -type f | sort | xargs sha256sum; ls -d SOUL* TOOLS* skills"
        inside = broker.machine.run("exec", "--workdir", "/workspace", bound, "sh", "-c", look)
        gateway = broker.bot.sh(f"cd {STATE}/workspace; {look}; grep -c {STATE}/workspace/ /proc/self/mountinfo").stdout
        return [inside, gateway]


class TestLimits:
    def test_fork_bomb_ends_at_the_limit(self, broker: Deployed, own: str) -> None:
        bomb = ("import os,time\nn=0\ntry:\n while n<4000:\n  if os.fork()==0: time.sleep(8); os._exit(0)\n  n+=1\n"
                "except OSError: pass\nprint(n)")  # fmt: skip
        done = broker.docker("exec", own, "python3", "-c", bomb)
        assert 0 < int(done.stdout) < broker.settings["sandbox"]["pids"]
        assert broker.client.ask("GET", "/version").status == 200

    def test_memory_bomb_ends_at_the_limit(self, broker: Deployed, own: str) -> None:
        done = broker.docker("exec", own, "python3", "-c", "x = []\nwhile True: x.append(b'x' * 2**24)")
        assert done.returncode == 137
        wait_for("a sandbox that still answers", lambda: broker.docker("exec", own, "true").returncode == 0, 20)

    def test_memory_file_system_has_its_limit(self, broker: Deployed, own: str) -> None:
        done = broker.docker("exec", own, "sh", "-c", "head -c 2G /dev/zero > /tmp/x; wc -c < /tmp/x; rm /tmp/x")
        assert int(done.stdout) <= broker.settings["sandbox"]["tmpfs_bytes"]

    def test_count_is_capped_also_for_many_at_once(self, broker: Deployed, own: str) -> None:
        scene, most = broker.stage.scene, broker.settings["sandbox"]["max_count"]
        replies = broker.client.send_all([scene.creation(None, f"${{new}}{number}") for number in range(most + 6)])
        made = [reply for reply in replies if reply.status == 201]
        listed = broker.client.ask("GET", "/containers/json?all=1").json()
        assert {reply.status for reply in replies} == {201, 429}
        assert len(made) < most and len(listed) <= most

    def test_sandbox_is_within_the_policy_as_the_engine_has_it(self, broker: Deployed, own: str) -> None:
        assert violations(broker.machine.inspect(own), broker.settings, broker.approved) == []


class TestCrash:
    def test_killed_broker_leaves_sandboxes_running_and_usable(self, broker: Deployed, own: str) -> None:
        before = broker.machine.inspect(own)["State"]
        self._kill(broker)
        after = broker.machine.inspect(own)["State"]
        assert (after["Running"], after["Pid"], after["StartedAt"]) == (True, before["Pid"], before["StartedAt"])
        assert broker.docker("exec", own, "echo", "there").stdout == "there\n"
        assert broker.docker("rm", "--force", own).returncode == 0

    def test_kill_while_a_sandbox_starts_leaves_nothing_frozen(self, broker: Deployed, own: str) -> None:
        """The start freezes the bot; a broker that dies then has to thaw it when it comes back."""
        frozen = 0
        for number in range(4):
            name = broker.make(f"crash{number}", start=False)
            client = Client.in_container(broker.bot.container("gateway"), GATEWAY_SOCKET)
            with ThreadPoolExecutor(1) as aside, client:
                aside.submit(client.send, Wire(((http("POST", f"{API}/containers/{name}/start", ""), 0),), seconds=8))
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline and not self._paused(broker):
                    time.sleep(0.005)
                frozen += self._paused(broker)
                self._kill(broker)
            wait_for("a thawed gateway", lambda: not self._paused(broker), 30)
            checks = broker.machine.run("ps", "--all", "--quiet", "--filter", "label=clawfactory.check",
                                        "--filter", f"label=clawfactory.bot={broker.bot.name}")  # fmt: skip
            assert checks == ""
            broker.remove(name)
        assert frozen, "no kill hit a frozen bot"

    def _paused(self, broker: Deployed) -> bool:
        return bool(broker.machine.inspect(broker.bot.container("gateway"))["State"]["Paused"])

    def _kill(self, broker: Deployed) -> None:
        name = broker.bot.container("broker")
        before = broker.machine.inspect(name)["State"]
        os.kill(before["Pid"], signal.SIGKILL)
        wait_for("a new broker", lambda: broker.machine.inspect(name)["State"]["StartedAt"] != before["StartedAt"], 60)
        broker.wait_until_it_answers()


class TestFlood:
    def test_refused_calls_do_not_fill_the_audit_nor_keep_others_out(self, broker: Deployed, own: str) -> None:
        size = broker.audit.path.stat().st_size
        broker.audit.mark()
        seconds, stop = 8.0, threading.Event()
        waits: list[float] = []

        def ask() -> None:
            while not stop.is_set():
                begin = time.monotonic()
                assert broker.client.ask("GET", f"/containers/{own}/json").status == 200
                waits.append(time.monotonic() - begin)
                time.sleep(0.2)

        with ThreadPoolExecutor(1) as aside:
            asking = aside.submit(ask)
            begin = time.monotonic()
            while time.monotonic() - begin < seconds:
                broker.client.send_all([http("GET", f"{API}/swarm")] * 40)
            took = time.monotonic() - begin
            stop.set()
            asking.result()
        lines = broker.audit.fresh()
        assert len(lines) / took < 25, f"{len(lines)} lines in {took:.0f} s"
        assert broker.audit.path.stat().st_size - size < 512 * len(lines) + 4096
        assert sorted(waits)[len(waits) // 2] < 2

    def test_many_connections_do_not_exhaust_the_broker(self, broker: Deployed, own: str) -> None:
        """A hundred silent ones of the gateway: the controller is served at once, the gateway when they are over."""
        uid = broker.settings["clients"]["controller"]["uid"]
        with ThreadPoolExecutor(1) as aside, broker.calling_as(uid, "controller") as controller:
            hanging = aside.submit(broker.client.send_all, [Wire(((b"GET /", 0),), seconds=6)] * 100)
            time.sleep(1)
            assert controller.ask("GET", "/version", seconds=5).status == 200
            descriptors = len(os.listdir(f"/proc/{broker.broker_process()}/fd"))
            assert descriptors < 200
            hanging.result()
        broker.wait_until_it_answers()


class TestWhoCalls:
    @pytest.mark.parametrize("who", ["root", "the other client", "a stranger"])
    @pytest.mark.parametrize("client", ["gateway", "controller"])
    def test_socket_is_for_its_client_alone(self, broker: Deployed, client: str, who: str) -> None:
        clients = broker.settings["clients"]
        other = clients["controller" if client == "gateway" else "gateway"]["uid"]
        uid = {"root": 0, "the other client": other, "a stranger": 65534}[who]
        with broker.calling_as(uid, client) as caller:
            reply = caller.ask("GET", "/version")
        assert reply.status in {0, 403}, reply.raw

    CONTROLLER = (
        ("POST", "/containers/create?name=clawfactory-BOT-sbx-c", {"Image": "IMAGE"}, 403),
        ("DELETE", "/containers/GATEWAY?force=1", None, 403),
        ("POST", "/containers/GATEWAY/exec", {"AttachStdout": True, "Cmd": ["sh", "-c", "id"]}, 403),
        (
            "POST",
            "/containers/GATEWAY/exec",
            {"AttachStdout": True, "Cmd": ["openclaw", "agent", "--message", "x"]},
            403,
        ),
        ("POST", "/containers/GATEWAY/exec", {"Cmd": ["openclaw", "devices", "approve", "x; id"]}, 403),
        ("POST", "/containers/GATEWAY/exec", {"Cmd": ["openclaw", "devices", "approve", "--help"]}, 403),
        ("POST", "/containers/GATEWAY/exec", {"Cmd": ["openclaw", "devices", "list", "--json"], "User": "0"}, 403),
        ("POST", "/containers/EGRESS/exec", {"AttachStdout": True, "Cmd": ["openclaw", "status", "--json"]}, 404),
        ("POST", "/containers/BROKER/stop", None, 404),
        ("POST", "/containers/CONTROLLER/restart", None, 404),
        ("POST", "/containers/OTHER/restart", None, 404),
        ("POST", "/containers/SANDBOX/stop", None, 404),
        ("GET", "/containers/OTHER/logs?stdout=1", None, 404),
        ("GET", "/containers/SANDBOX/json", None, 404),
        ("GET", "/containers/GATEWAY/logs?stdout=1&tail=999999", None, 400),
        ("GET", "/containers/GATEWAY/archive?path=/run/secrets", None, 403),
        ("POST", "/containers/GATEWAY/update", {"Memory": 1}, 403),
        ("GET", "/info", None, 403),
        ("GET", "/images/IMAGE/json", None, 403),
    )

    @pytest.mark.parametrize(("method", "path", "body", "status"), CONTROLLER)
    def test_controller_may_not(
        self, broker: Deployed, method: str, path: str, body: dict[str, Any] | None, status: int
    ) -> None:
        words = broker.stage.scene.words
        for key in ("gateway", "egress", "broker", "controller", "sandbox", "other", "image", "bot"):
            path = path.replace(key.upper(), words[key])
        if body and "Image" in body:
            body = broker.stage.scene.create()
        before = broker.machine.inspect(words["gateway"])["State"]["StartedAt"]
        with broker.calling_as(broker.settings["clients"]["controller"]["uid"], "controller") as controller:
            reply = controller.ask(method, path, body)
        assert reply.status in {status, 403 if status == 404 else status}, reply.raw
        assert broker.machine.inspect(words["gateway"])["State"]["StartedAt"] == before

    def test_controller_may_look_after_its_bot(self, broker: Deployed) -> None:
        gateway, proxy = broker.bot.container("gateway"), broker.bot.container("proxy")
        before = broker.machine.inspect(proxy)["State"]["StartedAt"]
        with broker.calling_as(broker.settings["clients"]["controller"]["uid"], "controller") as controller:
            logs = controller.ask("GET", f"/containers/{gateway}/logs?stdout=1&stderr=1&tail=500")
            restarted = controller.ask("POST", f"/containers/{proxy}/restart?t=2")
            asked = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["openclaw", "devices", "list", "--json"]}
            made = controller.ask("POST", f"/containers/{gateway}/exec", asked)
        assert logs.status == 200, logs.raw
        assert b"gateway" in logs.raw
        assert restarted.status == 204, restarted.raw
        assert broker.machine.inspect(proxy)["State"]["StartedAt"] != before
        assert made.status == 201, made.raw

    def test_refusal_of_the_controller_is_audited_as_its_own(self, broker: Deployed) -> None:
        with broker.calling_as(broker.settings["clients"]["controller"]["uid"], "controller") as controller:
            assert controller.ask("GET", "/info").status == 403
        last = json.loads(broker.audit.path.read_text().splitlines()[-1])
        assert (last["client"], last["path"].split("?")[0].endswith("/info")) == ("controller", True)

    def test_controller_sees_no_environment(self, broker: Deployed) -> None:
        secret = broker.bot.token.encode()
        with broker.calling_as(broker.settings["clients"]["controller"]["uid"], "controller") as controller:
            for part in ("gateway", "proxy", "egress", "controller", "broker"):
                reply = controller.ask("GET", f"/containers/{broker.bot.container(part)}/json")
                assert (reply.status, reply.json()["Config"]["Env"]) == (200, [])
                assert secret not in reply.body


def _tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else "" for path in directory.rglob("*")
    }
