from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clawfactory_core import machine
from clawfactory_core.adapters.engine_socket import EngineSocket
from clawfactory_core.allocation import AllocationRequest, describe, read_allocations
from clawfactory_core.checkout import commit
from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.layout import apply_layout
from clawfactory_core.listening import check_ports_free, listening_ports
from clawfactory_core.machine import check_machine
from tests.support.engine import container_inspection, engine_server

POOL = "10.213.0.0/16"
GOOD = {"os": "debian", "os_like": [], "architecture": "x86_64", "python": "3.11.2", "memory_mb": 4000,
        "disk_free_mb": 9000}  # fmt: skip
SHA = "0123456789abcdef0123456789abcdef01234567"
BOT = describe(Path("/srv"), "bot1", POOL, {"slot": 0, "gateway_port": 18789, "controller_port": 8080})


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Path:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    return tmp_path


def test_os_release_is_read_with_and_without_quotes(tmp_path):
    path = tmp_path / "os-release"
    path.write_text("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='A = B'\nID_LIKE=\n\nnonsense\n")
    assert machine.read_os_release(path) == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "A = B", "ID_LIKE": ""}
    assert machine.read_os_release(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    "change",
    [{}, {"os": "ubuntu"}, {"os": "linuxmint", "os_like": ["ubuntu", "debian"]}, {"architecture": "aarch64"},
     {"python": "3.10.0"}, {"python": "3.14.0rc1"}, {"memory_mb": 2000}, {"disk_free_mb": 5000}],
)  # fmt: skip
def test_good_machine_is_accepted(change):
    check_machine({**GOOD, **change}, 2000, 5000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"os": "fedora"}, ["'fedora'", "Debian"]),
        ({"os": "", "os_like": []}, ["'unknown'"]),
        ({"os": "rocky", "os_like": ["rhel", "centos"]}, ["'rocky'"]),
        ({"architecture": "armv7l"}, ["'armv7l'", "aarch64"]),
        ({"python": "3.9.18"}, ["3.9.18", "ansible_python_interpreter"]),
        ({"memory_mb": 1999}, ["1999", "2000", "host_minimum_memory_mb"]),
        ({"disk_free_mb": 4999}, ["4999", "5000", "host_minimum_disk_mb"]),
    ],
)
def test_unfit_machine_is_refused_with_value_and_way_out(change, words):
    with pytest.raises(InvalidInput) as caught:
        check_machine({**GOOD, **change}, 2000, 5000)
    assert [word for word in words if word not in str(caught.value)] == []


def test_listening_port_names_its_process():
    lines = (
        "import socket, sys",
        "s = socket.create_server(('127.0.0.1', 0))",
        "print(s.getsockname()[1], flush=True)",
    )
    program = "\n".join((*lines, "sys.stdin.read()"))
    with subprocess.Popen(
        [sys.executable, "-c", program, "mark"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        port = child.stdout.readline().strip()
        assert listening_ports()[port].endswith(" mark")
        child.stdin.close()
    assert port not in listening_ports()


def test_listening_ports_see_ipv6_and_not_connections():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("::1", port)) as client:
            listening = listening_ports()
            assert sys.executable.split("/")[-1][:6] in listening[str(port)]
            assert str(client.getsockname()[1]) not in listening


@pytest.mark.parametrize("variable", ["gateway_port", "controller_port"])
@pytest.mark.parametrize(("owner", "said"), [("/usr/sbin/nginx -g x", "/usr/sbin/nginx"), ("", "another process")])
def test_port_in_use_is_refused_with_its_owner(variable, owner, said):
    with pytest.raises(Conflict) as caught:
        check_ports_free(BOT, None, {str(BOT[variable]): owner})
    for word in ("bot1", variable, str(BOT[variable]), said, "inventory"):
        assert word in str(caught.value)


def test_forwarder_of_another_bot_is_refused():
    with pytest.raises(Conflict, match="docker-proxy"):
        check_ports_free(
            BOT, None, {"18789": "docker-proxy -host-port 18789 -container-ip 10.213.0.201 -container-port 1"}
        )


@pytest.mark.parametrize("end", [" -container-port 18789", ""])
def test_own_forwarder_is_no_conflict(end):
    own = BOT["addresses"]["proxy_edge"]
    check_ports_free(BOT, None, {"18789": f"docker-proxy -container-ip {own}{end}", "22": "sshd"})


def test_port_that_the_bot_already_has_is_no_conflict():
    check_ports_free(BOT, {"gateway_port": 18789, "controller_port": 8080}, {"18789": "x", "8080": "x"})
    with pytest.raises(Conflict, match="controller_port"):
        check_ports_free(BOT, {"gateway_port": 18789, "controller_port": 9000}, {"18789": "x", "8080": "x"})


def test_commit_is_found_loose_packed_and_detached(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert commit(checkout) == head
    git(checkout, "tag", "-a", "v1", "-m", "x")  # packs with a peeled line
    git(checkout, "pack-refs", "--all", "--prune")
    assert not (checkout / ".git/refs/heads/main").exists()
    assert commit(checkout) == head
    git(checkout, "commit", "-q", "--allow-empty", "-m", "y")
    newer = git(checkout, "rev-parse", "HEAD")
    assert commit(checkout) == newer != head
    git(checkout, "checkout", "-q", head)
    assert commit(checkout) == head


@pytest.mark.parametrize(
    "head", ["", "ref: refs/heads/unborn", "nonsense", "ref: ../secret", "ref: refs/heads/../../secret"]
)
def test_commit_is_empty_where_there_is_none(checkout, head):
    (checkout / "secret").write_text("KEY=value")
    (checkout / ".git" / "HEAD").write_text(head + "\n")
    assert commit(checkout) == ""
    assert commit(checkout / "absent") == ""


def test_commit_does_not_show_what_a_link_leads_to(checkout):
    (checkout / "secret").write_text("KEY=value")
    (checkout / ".git/refs/heads/main").unlink()
    (checkout / ".git/refs/heads/main").symlink_to(checkout / "secret")
    assert commit(checkout) == ""


def test_approved_says_why_it_cannot_be_bound(checkout):
    (checkout / "workspace").mkdir()
    (checkout / "workspace" / "AGENTS.md").touch()
    found = machine.approved(checkout)
    assert (found["entries"], found["error"]) == ([{"name": "AGENTS.md", "kind": "file"}], "")
    (checkout / "workspace" / "link").symlink_to("/etc")
    found = machine.approved(checkout)
    assert found["entries"] == [] and "link" in found["error"] and len(found["commit"]) == 40


def test_ca_digest_follows_names_and_contents(tmp_path):
    assert machine.ca_digest(tmp_path / "absent") == machine.ca_digest(tmp_path) == ""
    (tmp_path / "a.crt").write_text("one")
    (tmp_path / "notes.txt").write_text("x")
    first = machine.ca_digest(tmp_path)
    (tmp_path / "a.crt").rename(tmp_path / "b.crt")
    second = machine.ca_digest(tmp_path)
    (tmp_path / "b.crt").write_text("two")
    assert len({first, second, machine.ca_digest(tmp_path)}) == 3


def test_drift_names_paths_and_a_link_of_one_bot_stops_nobody(tmp_path, ownership):
    for bot in ("bot1", "bot2"):
        apply_layout(AllocationRequest(tmp_path, bot, POOL))
    allocations = read_allocations(tmp_path)
    assert machine.layout_drift(tmp_path, POOL, allocations) == []
    workspace = tmp_path / "bot_repos/bot1/state/workspace"
    workspace.rmdir()
    workspace.symlink_to("/etc")
    (tmp_path / "bot_repos/bot2/state").chmod(0o755)
    assert machine.layout_drift(tmp_path, POOL, allocations) == [str(workspace), str(tmp_path / "bot_repos/bot2/state")]


def test_secrets_are_described_by_name(tmp_path):
    (tmp_path / "secrets/bot1/run").mkdir(parents=True)
    (tmp_path / "secrets/bot1/gateway.env").write_text("B=value-of-b\nA=value-of-a\nEMPTY=\n")
    (tmp_path / "secrets/bot1/run/gateway.env").touch()
    found = machine.describe_secrets(tmp_path, "bot1")
    assert found["names"] == ["A", "B"]
    assert found["generations"]["gateway"].isdigit() and found["generations"]["controller"] == ""
    assert "value-of" not in json.dumps(found)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with engine_server(Path("engine.sock")) as server:
        server.answers = {
            "/version": (200, {"Version": "20.10.24", "ApiVersion": "1.41"}),
            "/images/json": (200, [{"Id": "sha256:aa", "RepoTags": ["x:1"]}]),
            "/networks": (200, []),
            "/containers/json": (200, []),
        }
        yield server


def test_engine_is_described_by_its_objects(engine):
    network = {"Name": "clawfactory-bot1-inside", "Internal": True, "IPAM": {"Config": [{"Subnet": "10.213.0.0/28"}]},
               "Options": {"com.docker.network.bridge.name": "cfi-1"}}  # fmt: skip
    odd = {"Name": "odd", "Internal": False, "IPAM": {"Config": None}, "Options": None}
    engine.answers["/networks"] = (200, [network, odd])
    engine.answers["/containers/json"] = (200, [{"Id": "bot1gateway"}])
    engine.answers["/containers/bot1gateway/json"] = (200, container_inspection("bot1", "gateway"))
    found = machine.describe_engine(EngineSocket("engine.sock"))
    assert (found["available"], found["images"]) == (True, {"x:1": "sha256:aa"})
    assert found["networks"] == {
        "clawfactory-bot1-inside": {"subnet": "10.213.0.0/28", "internal": True, "bridge": "cfi-1"},
        "odd": {"subnet": "", "internal": False, "bridge": ""},
    }
    container = found["containers"]["clawfactory-bot1-gateway"]
    assert (container["bot"], container["service"], container["spec"]) == ("bot1", "gateway", "s")
    assert (container["status"], container["health"], container["pids_limit"]) == ("running", "", 0)
    assert container["networks"] == {"inside": "10.213.0.3"}


def test_absent_engine_is_described_as_such(tmp_path):
    found = machine.describe_engine(EngineSocket(str(tmp_path / "absent.sock")))
    assert found["available"] is False and "absent.sock" in found["error"]
    assert (found["containers"], found["networks"], found["images"]) == ({}, {}, {})


def test_engine_that_fails_is_not_taken_for_an_absent_one(engine):
    engine.answers["/containers/json"] = (500, {"message": "broken"})
    with pytest.raises(CoreError, match="500"):
        machine.describe_engine(EngineSocket("engine.sock"))


def test_machine_is_described_without_anything_of_ours_on_it(tmp_path, engine):
    found = machine.describe_machine(tmp_path / "srv", POOL, ["sh", "no-such-program"], EngineSocket("engine.sock"))
    assert (found["architecture"], found["missing_commands"]) == (platform.machine(), ["no-such-program"])
    assert found["memory_mb"] > 0 and found["disk_free_mb"] > 0
    assert (found["allocations"], found["locked"], found["approved"], found["secrets"]) == ({}, {}, {}, {})
    assert str(tmp_path / "srv") in found["drift"]
    assert not (tmp_path / "srv").exists()
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("installed", "missing"), [({"docker"}, ["dockerd"]), ({"docker", "dockerd"}, [])])
def test_engine_that_does_not_answer_is_missing_where_only_its_client_is_there(
    tmp_path, monkeypatch, installed, missing
):
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/bin/{name}" if name in installed else None)
    absent = EngineSocket(str(tmp_path / "absent.sock"))
    assert machine.describe_machine(tmp_path, POOL, ["docker"], absent)["missing_commands"] == missing


def test_libraries_are_looked_for_where_the_system_has_them(monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda place, what: iter([place / what] if what.endswith("/there.so") else []))
    assert machine._is_installed("there.so") and not machine._is_installed("absent.so")


def test_machine_is_described_with_its_bots(tmp_path, engine, ownership):
    apply_layout(AllocationRequest(tmp_path, "bot1", POOL))
    (tmp_path / "locks" / "bot1").touch()
    head = tmp_path / "bot_repos/bot1/approved/.git/HEAD"
    head.parent.mkdir(parents=True)
    head.write_text(SHA + "\n")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/.clawfactory-lock").write_text("abc\n")
    found = machine.describe_machine(tmp_path, POOL, [], EngineSocket("engine.sock"))
    assert (list(found["allocations"]), list(found["locked"]), found["drift"]) == (["bot1"], ["bot1"], [])
    assert "playbooks/unlock.yml -l bot1" in found["locked"]["bot1"]["refusal"]
    assert found["approved"]["bot1"] == {"commit": SHA, "entries": [], "error": "", "complete": False}
    for name in ("origin.git", "proposals.git"):
        (tmp_path / "bot_repos" / "bot1" / name).mkdir()
        (tmp_path / "bot_repos" / "bot1" / name / "HEAD").touch()
    found = machine.describe_machine(tmp_path, POOL, [], EngineSocket("engine.sock"))
    assert found["approved"]["bot1"]["complete"]
    assert found["venv"] == "abc"


def test_public_addresses_are_global():
    assert all("." in address or ":" in address for address in machine.public_addresses())
    assert not {"127.0.0.1", "::1"} & set(machine.public_addresses())


def test_firewall_is_empty_without_a_loaded_table(monkeypatch):
    monkeypatch.setattr(machine, "FIREWALL_TABLE", f"clawfactory-test-{os.getpid()}")
    assert machine.firewall_bridges() == []


def test_a_service_of_ours_runs_while_the_process_of_its_pid_file_does(tmp_path):
    (tmp_path / "clawfactory-jobs.pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "clawfactory-disk-watch.pid").write_text("4194305\n")
    (tmp_path / "clawfactory-other.pid").write_text(f"{os.getpid()}\n")
    assert machine.running_services(tmp_path) == ["jobs"]
    (tmp_path / "clawfactory-jobs.pid").write_text("../self\n")
    assert machine.running_services(tmp_path) == []
