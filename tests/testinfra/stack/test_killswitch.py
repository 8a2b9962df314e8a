"""The kill switch wins, by traffic and not by rules: light bots for what shakes the machine, then a real one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from clawfactory_core import names
from tests.support.killswitch_lab import ARRIVED, KINDS, Lab
from tests.support.machines import SSH_USER, docker, open_ssh, wait_until_up
from tests.support.playbooks import PlaybookRun
from tests.support.polling import wait_for

from .conftest import MACHINE, PARTS, Play
from .test_lifecycle import PORTS, ready, states

BOTS = ("lab1", "lab2")
REAL = "bot1"


@pytest.fixture(scope="module")
def lab(machine: Host) -> Iterator[Lab]:
    """Two light bots; the real ones are stopped meanwhile, so that the machine has time for these."""
    made = Lab(MACHINE, machine.check_output("docker inspect --format '{{.Config.Image}}' clawfactory-bot2-broker"))
    made.sh("docker ps -q --filter label=clawfactory.bot | xargs -r docker stop -t 1")
    try:
        made.open()
        for bot in BOTS:
            made.bot(bot)
        yield made
        made.unlock(*BOTS, "--machine")
    finally:
        made.close()


@pytest.fixture
def bot(lab: Lab) -> Iterator[str]:
    """A light bot whose traffic flows; its neighbour lab2 is never touched."""
    lab.flows(*lab.all_of("lab1"), *lab.all_of("lab2"))
    yield "lab1"
    lab.end_ghosts()
    lab.sh("pkill -CONT dockerd; systemctl start docker.socket docker")
    lab.unlock("lab1", "--machine")
    lab.start("lab1")


def operators_rules(lab: Lab) -> str:
    """Every rule of the machine that is not the kill switch's own, without counters."""
    text = lab.sh("nft --stateless list ruleset; iptables-save; ip6tables-save")
    text = re.sub(r"table (inet|bridge) clawfactory_lock \{.*?\n\}\n", "", text, flags=re.DOTALL)
    return re.sub(r"\[\d+:\d+\]|^#.*$", "", text, flags=re.MULTILINE)


def connection(lab: Lab, bot: str) -> str:
    """Both ends of the one connection outside that a bot's gateway keeps."""
    inside = f"nsenter --net=/proc/{lab.pid(bot, 'gateway')}/ns/net"
    # The columns before them say what is on its way at the moment; only that one is there again and again.
    look = f"{inside} ss -Htn4 state established dport = :9000 | awk '{{print $3, $4}}'"
    return lab.sh(f"for i in 1 2 3 4 5; do {look}; sleep 0.2; done | sort | uniq -c | awk '$1 == 5 {{print $2, $3}}'")


def policies_end(lab: Lab, bot: str) -> None:
    """Wait until no container of a bot starts by itself any more, and nobody still has to see to it."""
    lock = f"/srv/clawfactory/locks/{bot}"
    wait_for("restart policies off", lambda: json.loads(lab.sh(f"cat {lock}"))["pending"] == [], 60)
    ids = f"$(docker ps -aq -f label=clawfactory.bot={bot})"
    assert set(lab.sh(f"docker inspect --format '{{{{.HostConfig.RestartPolicy.Name}}}}' {ids}").split()) == {"no"}


def start_while_paused(lab: Lab, container: str, seconds: float) -> bool:
    """Pause a container so long after a command was begun in it; whether it was just being started."""
    lab.background(f"docker exec {container} python -c pass")
    time.sleep(seconds)
    lab.sh(f"docker pause {container}")
    time.sleep(0.3)
    return lab.sh("pgrep --full --exact 'runc init'", check=False) != ""


@pytest.mark.parametrize("asked_at_once", [False, True])
def test_command_that_starts_in_a_paused_container_keeps_it_paused_no_longer(
    lab: Lab, bot: str, asked_at_once: bool
) -> None:
    """As the broker pauses a gateway, whose health check is such a command; without a lock."""
    gateway, sender = names.container(bot, "gateway"), f"{bot}-gateway"
    for attempt in range(100):
        if start_while_paused(lab, gateway, attempt % 12 / 100):
            break
        lab.sh(f"docker unpause {gateway}")
    else:
        pytest.fail("no command was being started while the container was paused")
    paused = lab.now()
    if not asked_at_once:
        wait_for("the command's end", lambda: not lab.sh("pgrep --full --exact 'runc init'", check=False), 30)
        late = {tag for tag, at in lab.arrived(sender).items() if at > paused}
        assert late == set(), "it was held still for the whole time"
    lab.sh(f"timeout 30 docker unpause {gateway}")
    lab.flows(*lab.all_of(bot, "gateway"))
    lab.sh(f"timeout 30 docker exec {gateway} python -c pass")
    assert "ended a command" in lab.sh("journalctl --unit clawfactory-killswitch --lines 5 --output cat")


def test_no_packet_and_no_process_is_left_of_a_bot_under_load(lab: Lab, bot: str) -> None:
    done = lab.lock(bot)
    assert (done["network"], done["engine"], done["left"]) == ("nft", "answers", [])
    assert done["killed"] >= 3
    lab.stays_dead(bot, done["over"])
    policies_end(lab, bot)
    lab.flows(*lab.all_of("lab2"))


def test_surviving_senders_and_a_hung_engine(lab: Lab, bot: str) -> None:
    """With the engine stopped in its tracks networks stay, and so does who sends from within: the cut alone ends it."""
    lab.haunt(bot, "gateway")
    ghosts = [f"{bot}-ghost.{kind}" for kind in KINDS]
    lab.flows(*ghosts)
    wait_for("frames", lambda: len(lab.arrived(f"{bot}-frames", inside=True)) == 3, 10)
    lab.sh("pkill -STOP dockerd")
    done = lab.lock(bot)
    assert done["engine"] == "hangs" and done["left"] == []
    assert "does not answer" in " ".join(done["problems"])
    assert int(lab.sh("pgrep -fc '[t]raffic.py send lab1-ghost'")) >= 1, "who sends must be alive to show the cut"
    lab.stays_dead(bot, done["over"])
    frames = {tag: at - done["over"] for tag, at in lab.arrived(f"{bot}-frames", inside=True).items()}
    assert len(frames) == 3 and max(frames.values()) < 0, frames
    lab.sh("pkill -CONT dockerd")
    policies_end(lab, bot)
    lab.stays_dead(bot, done["over"])


def test_crashed_engine_starts_nothing_when_it_comes_back(lab: Lab, bot: str) -> None:
    lab.sh("systemctl kill --signal KILL docker.service")
    done = lab.lock(bot)
    assert done["left"] == [] and done["network"] == "nft"
    wait_for("the engine", lambda: lab.sh("docker version --format '{{.Server.Version}}'", check=False), 60)
    lab.stays_dead(bot, done["over"])
    # The engine takes those that a crash left behind for stopped by hand; the neighbour comes back when it is told to.
    lab.start("lab2")
    lab.flows(*lab.all_of("lab2"))


def test_stopped_engine_is_left_alone_and_starts_nothing(lab: Lab, bot: str) -> None:
    lab.sh("systemctl stop docker.service")  # and not its socket: a question to it would start the engine
    done = lab.lock(bot)
    assert done["engine"] == "stopped"
    assert lab.sh("systemctl is-active docker.service", check=False) == "inactive"
    lab.sh("systemctl start docker.service")
    lab.stays_dead(bot, done["over"])
    lab.flows(*lab.all_of("lab2"))


def test_what_is_started_by_hand_or_with_the_engine_dies(lab: Lab, bot: str) -> None:
    done = lab.lock(bot)
    lab.start(bot, check=False)
    wait_for("its end", lambda: lab.status(bot)["processes"] == 0, 10)
    lab.sh(f"docker update --restart always clawfactory-{bot}-gateway && systemctl restart docker")
    wait_for("its end", lambda: lab.status(bot)["processes"] == 0, 10)
    lab.stays_dead(bot, done["over"])
    lab.flows(*lab.all_of("lab2"))


def test_rules_that_somebody_flushed_are_back(lab: Lab, bot: str) -> None:
    lab.lock(bot)
    lab.sh("nft delete table inet clawfactory_lock")
    wait_for("the cut", lambda: lab.status(bot)["cut"], 10)


def test_fork_bomb(lab: Lab, bot: str) -> None:
    bomb = "import os,time\nwhile 1:\n try: os.fork()\n except OSError: time.sleep(0.001)"
    lab.run(bot, "sbx-bomb", f"python -c {shlex.quote(bomb)}", "--pids-limit", "600", "--cpus", "1")
    wait_for("many processes", lambda: lab.status(bot)["processes"] > 400, 30)
    done = lab.lock(bot)
    assert done["left"] == [] and done["killed"] > 400
    lab.stays_dead(bot, done["over"])
    lab.sh(f"docker rm -f clawfactory-{bot}-sbx-bomb")


def test_full_memory_and_full_disk(lab: Lab, bot: str) -> None:
    """The lock is there also where not a byte can be written: its root lies on a full file system."""
    eat = "x=[]\nwhile 1: x.append(bytes(1<<20))"
    lab.run(bot, "sbx-eater", f"python -c {shlex.quote(eat)}", "--memory", "64m", "--memory-swap", "64m")
    lab.sh("mkdir -p /root/full && mount -t tmpfs -o size=64k,nr_inodes=64 full /root/full && mkdir /root/full/locks")
    try:
        lab.sh("dd if=/dev/zero of=/root/full/filler bs=4k count=64 2>/dev/null; true")
        done = lab.lock(bot, "--root", "/root/full")
        assert done["network"] == "nft" and done["left"] == []
        assert any("No space left" in problem for problem in done["problems"])
        assert lab.sh("ls /root/full/locks") == bot
        assert lab.status(bot)["cut"]
    finally:
        lab.sh("umount /root/full")
        lab.lock(bot)
        lab.sh(f"docker rm -f clawfactory-{bot}-sbx-eater")


def test_second_lock_is_a_no_op_and_unlock_gives_everything_back(lab: Lab, bot: str) -> None:
    before, kept = operators_rules(lab), connection(lab, "lab2")
    lab.lock(bot)
    policies_end(lab, bot)  # an engine that is busy is seen to later, and the lock says so
    file = lab.sh(f"cat /srv/clawfactory/locks/{bot}")
    assert not lab.lock(bot)["changed"]
    assert lab.sh(f"cat /srv/clawfactory/locks/{bot}") == file
    lab.unlock(bot)
    assert lab.status(bot)["processes"] == 0, "unlocking starts nothing"
    lab.start(bot)
    lab.flows(*lab.all_of(bot))
    assert lab.sh("nft list tables | grep lock; ls /srv/clawfactory/locks") == ""
    assert operators_rules(lab) == before
    assert kept and connection(lab, "lab2") == kept, "the neighbour's connection is the same"


def test_no_name_that_a_process_gives_itself_saves_it(lab: Lab, bot: str) -> None:
    """``stat``, ``status`` and ``comm`` of the kernel show it as it is."""
    rename = r"import ctypes, time; ctypes.CDLL(None).prctl(15, b'\xff\x1cUid:\t0'); time.sleep(600)"
    lab.run(bot, "sbx-odd", f'python -c "{rename}"')
    try:
        wait_for("the name", lambda: lab.sh("grep -lP '\\x1cUid' /proc/[0-9]*/comm", check=False), 30)
        time.sleep(3)  # the guard looks at every process of the machine
        assert lab.sh("systemctl show --property NRestarts --value clawfactory-killswitch") == "0"
        done = lab.lock(bot)
        assert done["left"] == [] and not [problem for problem in done["problems"] if "evidence" in problem]
        lab.stays_dead(bot, done["over"])
    finally:
        lab.sh(f"docker rm -f clawfactory-{bot}-sbx-odd")


def test_foreign_rules_stay_byte_for_byte(lab: Lab, bot: str) -> None:
    lab.sh(
        "nft 'add table inet mine; add chain inet mine c { type filter hook input priority 0; policy accept; };"
        " add rule inet mine c tcp dport 4444 counter drop' && iptables -I INPUT -p tcp --dport 4445 -j DROP"
    )
    try:
        before = operators_rules(lab)
        lab.lock(bot, "--machine", "--allow", "192.0.2.7")
        assert "4444" in before and "4445" in before
        during = operators_rules(lab)
        lab.unlock(bot, "--machine")
        assert before == during == operators_rules(lab)
    finally:
        lab.sh("nft delete table inet mine; iptables -D INPUT -p tcp --dport 4445 -j DROP")


def test_cut_of_the_machine_keeps_the_operators_ssh_and_nobody_elses(lab: Lab, bot: str, tmp_path: Path) -> None:
    open_ssh(MACHINE, tmp_path)
    address = (tmp_path / "address").read_text()
    ssh = [
        "ssh", "-i", str(tmp_path / "key"), "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", "-o",
        "ConnectTimeout=5",
        f"{SSH_USER}@{address}",
    ]  # fmt: skip
    script = "sudo clawfactory-killswitch lock lab1 --machine --json >/dev/null; sleep 1; echo still here"
    try:
        session = subprocess.run([*ssh, script], capture_output=True, text=True, timeout=60, check=False)
        assert session.stdout.strip() == "still here", session.stderr
        again = subprocess.run(
            [*ssh, "sudo clawfactory-killswitch status"], capture_output=True, text=True, timeout=60, check=False
        )
        assert "cut off as a whole" in again.stdout, again.stderr
        # lab2 is not locked, but goes nowhere; and another address than ours gets no answer from the machine's SSH.
        over = lab.now()
        time.sleep(1)
        assert [tag for tag, at in lab.arrived("lab2-").items() if at > over] == []
        knock = "import socket; socket.create_connection(('10.99.0.1', 22), 2)"
        refused = lab.sh(f'ip netns exec outside python3 -c "{knock}" 2>&1; true')
        assert "timed out" in refused, refused
    finally:
        lab.unlock("lab1", "--machine")
        lab.sh(f"userdel -r {SSH_USER}; rm -f /etc/sudoers.d/{SSH_USER}", check=False)
    lab.flows(*lab.all_of("lab2"))


def test_reboot(lab: Lab, bot: str, machine: Host) -> None:
    lab.sh(f"docker update --restart always clawfactory-{bot}-gateway")
    done = lab.lock(bot)
    # As if it had been undone while the machine was off: the lock is what counts.
    lab.sh(f"docker update --restart always $(docker ps -aq -f label=clawfactory.bot={bot})", check=False)
    docker("restart", "--time", "60", MACHINE)
    wait_until_up(MACHINE)
    lab.sh(f"cp {ARRIVED} {ARRIVED}.before")
    lab.connect()
    wait_for("the neighbour", lambda: lab.status("lab2")["processes"] >= 3, 60)
    lab.flows(*lab.all_of("lab2"))
    lab.stays_dead(bot, done["over"])
    started = {
        unit: int(machine.service(unit).systemd_properties["ActiveEnterTimestampMonotonic"])
        for unit in ("clawfactory-killswitch", "docker")
    }
    assert 0 < started["clawfactory-killswitch"] < started["docker"]
    assert names.bridge(bot, "edge") in lab.sh("nft list set inet clawfactory_lock bridges")


class Poll:
    """Asks a real bot's published port every 10 ms, also over one connection that stays."""

    def __init__(self, machine: str, port: int) -> None:
        self.port = port
        self.command = (
            "import http.client,time\n"
            f"c=http.client.HTTPConnection('127.0.0.1',{port},timeout=1)\n"
            "while 1:\n"
            " try:\n"
            "  c.request('GET','/readyz'); r=c.getresponse(); r.read(); print(time.monotonic(),r.status,flush=True)\n"
            " except OSError: c.close()\n"
            " except Exception: c.close()\n"
            " time.sleep(0.01)\n"
        )
        self.process = subprocess.Popen(
            ["docker", "exec", machine, "python3", "-c", self.command], stdout=subprocess.PIPE, text=True
        )
        self.answers: list[float] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.answers.append(float(line.split()[0]))

    def end(self) -> None:
        docker("exec", MACHINE, "pkill", "-f", rf"HTTPConnection\('127.0.0.1',{self.port},")
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def real(lab: Lab, play: Play, machine: Host) -> Iterator[str]:
    """Both real bots, after the light ones are done."""
    lab.unlock(*BOTS, "--machine")
    lab.sh("docker stop -t 1 $(docker ps -q -f label=lab)", check=False)
    play("playbooks/start.yml").succeeded()
    yield REAL
    play("playbooks/unlock.yml", "--limit", REAL).succeeded()


def test_real_bot_is_cut_off_dead_and_refused_by_everything(lab: Lab, real: str, machine: Host, play: Play) -> None:
    mine, other = Poll(MACHINE, PORTS[real]), Poll(MACHINE, PORTS["bot2"])
    try:
        wait_for("answers", lambda: len(mine.answers) > 5 and len(other.answers) > 5, 30)
        run = play("playbooks/lockdown.yml", "--limit", real, "--extra-vars", "lockdown_reason=test").succeeded()
        over = lab.now()
        assert run.changed
        time.sleep(1)
        assert mine.answers[-1] < over
        assert other.answers[-1] > over + 0.5
    finally:
        mine.end()
        other.end()
    assert set(states(machine, real).values()) == {"exited"}
    assert play("playbooks/lockdown.yml", "--limit", real).succeeded().changed == []
    for playbook in (
        "site",
        "playbooks/start",
        "playbooks/restart",
        "playbooks/promote",
        "playbooks/snapshot",
        "playbooks/remove",
    ):
        refused = play(f"{playbook}.yml", "--limit", real)
        assert refused.returncode != 0
        assert f"playbooks/unlock.yml -l {real}" in refused.failures[real], (playbook, refused.failures)
    assert "locked" in json.dumps(play("playbooks/status.yml").succeeded().report)
    machine.run("systemctl restart clawfactory-jobs")
    assert lab.status(real)["processes"] == 0 and set(states(machine, real).values()) == {"exited"}
    evidence = json.loads(
        machine.check_output("sh -c 'cat /srv/clawfactory/audit/incidents.d/bot1/*.json | head -c 1000000'")
    )
    assert {each["service"] for each in evidence["containers"]} >= set(PARTS)


def test_locked_bot_has_its_snapshot_and_unlock_brings_it_back(real: str, machine: Host, play: Play, lab: Lab) -> None:
    before = machine.check_output("sha256sum /srv/clawfactory/secrets/bot1/gateway.env")
    unlock = ("playbooks/unlock.yml", "--limit", real, "--extra-vars")
    wanted = "lockdown_snapshot=true lockdown_reason=strange"
    play("playbooks/lockdown.yml", "--limit", real, "--extra-vars", wanted).succeeded()
    reason = lab.status(real)["lock"]["reason"]  # of the first lock, if the test before has left one
    assert "locked" in machine.check_output("sh -c 'ls /srv/clawfactory/snapshots/bot1'")
    later = "/srv/clawfactory/bot_repos/bot1/state/later"
    machine.check_output("touch %s", later)

    refused = play(*unlock, "unlock_snapshot=no-such-snapshot")
    assert refused.returncode != 0
    assert "locked again" in str(refused.failures[real]) and "no-such-snapshot" in str(refused.failures[real])
    found = lab.status(real)
    assert (found["cut"], found["processes"]) == (True, 0)
    assert found["lock"]["reason"] == f"unlocking failed; before: {reason}"

    run = play(*unlock, "unlock_rotate=true unlock_snapshot=latest").succeeded()
    assert run.changed
    assert ready(machine, PORTS[real])
    assert states(machine, real) == dict.fromkeys(PARTS, "running")
    assert machine.run("test -e %s", later).rc == 1
    assert machine.check_output("sha256sum /srv/clawfactory/secrets/bot1/gateway.env") != before
    assert machine.check_output("ls -A /srv/clawfactory/locks") == ""
    policies = machine.check_output(
        "docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' clawfactory-bot1-gateway"
    )
    assert policies == "unless-stopped"


def test_lock_wins_over_a_running_converge(real: str, machine: Host, play: Play, lab: Lab) -> None:
    """Its containers are being made anew while it is locked."""
    show = "docker inspect --format '{{.HostConfig.PidsLimit}}' clawfactory-bot1-gateway"
    wanted = int(machine.check_output(show)) + 1
    results: list[PlaybookRun] = []
    extra = f"proxy_memory_mb=111 gateway_pids={wanted}"
    converge = threading.Thread(target=lambda: results.append(play("site.yml", "--limit", real, "--extra-vars", extra)))
    converge.start()
    wait_for("the new gateway", lambda: machine.run(show).stdout.strip() == str(wanted), 240)
    done = lab.lock(real)
    converge.join()
    assert results[0].returncode != 0
    wait_for("its end", lambda: lab.status(real)["processes"] == 0, 10)
    time.sleep(2)
    assert lab.status(real)["processes"] == 0 and lab.status(real)["cut"]
    assert done["network"] == "nft"
