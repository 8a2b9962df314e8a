"""The watcher as it runs on a machine, against a container that fills its directory and restarts by itself."""

import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "roles" / "host" / "files" / "disk" / "clawfactory-disk-watch"
CORE = Path(__file__).parents[2] / "module_utils"
MIB = 2**20

pytestmark = pytest.mark.integration


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "lib").symlink_to(CORE)
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def image():
    """The base image that role ``host`` made: it has a shell."""
    images = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-base").splitlines()
    assert images, "this engine has no image clawfactory-base; run: ansible-playbook playbooks/host.yml"
    return images[0]


@pytest.fixture
def container(root, image):
    name = f"dsk-{uuid.uuid4().hex[:8]}"
    fill = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > /state/$$.$i; sleep 0.2; done"
    docker(
        "run",
        "-d",
        "--name",
        name,
        "--restart",
        "unless-stopped",
        "-v",
        f"{root}/state:/state",
        image,
        "sh",
        "-c",
        fill,
    )
    limit = {"bot": "bot1", "path": f"{root}/state", "limit_bytes": 5 * MIB, "min_free_bytes": 0, "container": name}
    (root / "disk" / "bot1.json").write_text(json.dumps(limit))
    yield name
    docker("rm", "-f", name)


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(PROGRAM), "--root", str(root), *arguments]


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *arguments), capture_output=True, text=True, check=False, timeout=60)


def inspect(container: str, template: str) -> str:
    return docker("inspect", "--format", template, container)


def wait_until_stopped(container: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while inspect(container, "{{.State.Running}}") == "true":
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.2)


def test_a_filling_container_is_stopped_for_good_and_released_when_space_is_back(root, container):
    pidfile = root / "watch.pid"
    with subprocess.Popen(command(root, "--pidfile", str(pidfile)), stderr=subprocess.PIPE, text=True) as watcher:
        try:
            wait_until_stopped(container, 45)
            assert run(root, "--pidfile", str(pidfile)).returncode == 75
            assert int(pidfile.read_text()) == watcher.pid
        finally:
            watcher.send_signal(signal.SIGTERM)
            _, log = watcher.communicate(timeout=5)
    assert watcher.returncode == 0
    assert not pidfile.exists()
    assert "stopping bot1" in log
    assert inspect(container, "{{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}") == "137 no"

    refused = run(root, "--release", "bot1")
    assert refused.returncode == 1
    assert "the limit is 5.0 MiB" in refused.stderr
    for path in (root / "state").iterdir():
        path.unlink()
    assert run(root, "--release", "bot1").stdout == "bot1 may start again\n"


def test_once_stops_a_container_that_waits_for_its_restart(root, container):
    (root / "state" / "big").write_bytes(b"x" * 6 * MIB)
    assert run(root, "--once").returncode == 0
    assert inspect(container, "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}") == "false no"
    # Started by hand, past every check: it is still over its limit.
    docker("start", container)
    assert run(root, "--once").returncode == 0
    assert inspect(container, "{{.State.Running}}") == "false"


def test_a_missing_container_and_a_missing_engine(root, container, image):
    (root / "state" / "big").write_bytes(b"x" * 6 * MIB)
    assert run(root, "--once", "--socket", str(root / "none.sock")).returncode == 1
    assert inspect(container, "{{.State.Running}}") == "true"
    docker("rm", "-f", container)
    assert run(root, "--once").returncode == 0
    docker("create", "--name", container, image, "true")
