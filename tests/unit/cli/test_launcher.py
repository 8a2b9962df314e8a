"""The launcher, with a stand-in for Python that records what it is asked and makes environments of itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534
TOOLS = ("cat", "cp", "cut", "dirname", "env", "id", "mkdir", "mv", "readlink", "rm", "sh", "sha256sum", "sleep")

# Answers as Python 3.12 would; locking is left to the real one.
FAKE_PYTHON = """\
#!/bin/sh
echo "python $*" >>"$LOG"
case "$*" in
  *print*version_info*) echo "$FAKE_VERSION" ;;
  *'< (3, 11)'*) [ "$FAKE_VERSION" != 3.9 ] ;;
  *ensurepip*) [ -z "${FAKE_NO_VENV:-}" ] ;;
  *fcntl*) exec "$REAL_PYTHON" "$@" ;;
  '-m venv '*)
    mkdir -p "$3/bin" "$3/lib/python$FAKE_VERSION/site-packages"
    cp "$0" "$3/bin/python"
    cp "$FAKE_UV" "$3/bin/uv" ;;
  '-P -m clawfactory_cli'*) echo "command line: $*" ;;
esac
"""
FAKE_UV = """\
#!/bin/sh
echo "uv $*" >>"$LOG"
sleep "${FAKE_UV_SECONDS:-0}"
exit "${FAKE_UV_EXIT:-0}"
"""
LOGGED = '#!/bin/sh\necho "{name} $*" >>"$LOG"\n'


class Machine:
    """A copy of the launcher with its lock files, and a PATH with nothing but what it names."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "repository"
        self.bin = directory / "bin"
        self.log = directory / "log"
        self.root.mkdir()
        self.bin.mkdir()
        shutil.copy(REPOSITORY / "clawfactory", self.root)
        shutil.copytree(REPOSITORY / "requirements", self.root / "requirements")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.program("python3", FAKE_PYTHON)
        self.program("fake-uv", FAKE_UV)
        self.environment = {
            "PATH": str(self.bin),
            "LOG": str(self.log),
            "REAL_PYTHON": sys.executable,
            "FAKE_UV": str(self.bin / "fake-uv"),
            "FAKE_VERSION": "3.12",
        }

    def program(self, name: str, text: str = "") -> None:
        file = self.bin / name
        file.unlink(missing_ok=True)
        file.write_text(text or LOGGED.format(name=name))
        file.chmod(0o755)

    def start(
        self, *arguments: str, launcher: Path | None = None, user: int | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        self.log.touch()
        self.log.chmod(0o666)
        return subprocess.Popen(
            [str(launcher or self.root / "clawfactory"), *arguments],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            start_new_session=True,
        )

    def run(
        self, *arguments: str, launcher: Path | None = None, user: int | None = None, **variables: str
    ) -> tuple[int, str, str]:
        """Exit status, output and error output; the log has this run's calls only."""
        self.log.unlink(missing_ok=True)
        process = self.start(*arguments, launcher=launcher, user=user, **variables)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def installs(self) -> list[str]:
        return [call for call in self.calls if " install " in call or "-m venv" in call]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def ready(machine):
    """A machine whose environment has been made."""
    code, _, errors = machine.run("version")
    assert code == 0, errors
    return machine


def test_first_run_installs_the_locked_files_and_hands_over(machine):
    code, output, errors = machine.run("up", "bot1", "-e", "a b")
    assert code == 0, errors
    assert output == "command line: -P -m clawfactory_cli up bot1 -e a b\n"
    venv, pip, uv = machine.installs
    assert venv == f"python -m venv {machine.root}/.venv"
    assert "--require-hashes" in pip and pip.endswith("requirements/bootstrap.lock")
    assert "--require-hashes" in uv and uv.endswith("requirements/control.lock")


def test_first_run_shows_progress_on_standard_error_only(machine):
    _, output, errors = machine.run("version")
    assert [step for step in ("[1/3]", "[2/3]", "[3/3]") if step not in errors] == []
    assert "clawfactory:" not in output


def test_environment_can_import_the_repository_and_the_core(ready):
    (path_file,) = ready.root.glob(".venv/lib/python*/site-packages/clawfactory.pth")
    assert path_file.read_text().splitlines() == [str(ready.root), str(ready.root / "module_utils")]


def test_second_run_installs_nothing(ready):
    code, output, errors = ready.run("up")
    assert (code, output, errors) == (0, "command line: -P -m clawfactory_cli up\n", "")
    assert ready.installs == []
    assert len(ready.calls) == 2  # which version it is, and the command line


def test_missing_stamp_makes_a_new_environment(ready):
    leftover = ready.root / ".venv/leftover"
    leftover.touch()
    (ready.root / ".venv/.stamp-control").unlink()
    assert ready.run("up")[0] == 0
    assert len(ready.installs) == 3
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["bootstrap", "control"])
def test_changed_lock_makes_a_new_environment(ready, name):
    with (ready.root / f"requirements/{name}.lock").open("a") as lock:
        lock.write("# changed\n")
    assert ready.run("up")[0] == 0
    assert len(ready.installs) == 3


def test_other_python_makes_a_new_environment(ready):
    assert ready.run("up", FAKE_VERSION="3.13")[0] == 0
    assert len(ready.installs) == 3


def test_moved_repository_makes_a_new_environment(ready, tmp_path):
    ready.root = ready.root.rename(tmp_path / "elsewhere")
    assert ready.run("up")[0] == 0
    assert len(ready.installs) == 3


def test_failed_installation_is_not_taken_for_done(machine):
    code, output, errors = machine.run("up", FAKE_UV_EXIT="1")
    assert (code, output) == (69, "")
    assert "could not install" in errors
    assert machine.run("up")[0] == 0
    assert len(machine.installs) == 3


def test_killed_installation_is_not_taken_for_done(machine):
    process = machine.start("up", FAKE_UV_SECONDS="20")
    while "uv " not in machine.log.read_text():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert machine.run("up")[0] == 0
    assert len(machine.installs) == 3


def test_test_adds_its_packages_once_and_only_for_test(ready):
    assert ready.run("test", "--fast")[0] == 0
    (added,) = ready.installs
    assert "--require-hashes" in added and added.endswith("requirements/test.lock")
    assert ready.run("test")[0] == 0
    assert ready.installs == []
    assert ready.run("up")[0] == 0
    assert ready.installs == []


def test_failed_addition_of_test_packages_makes_a_new_environment(ready):
    assert ready.run("test", FAKE_UV_EXIT="1")[0] == 69
    assert ready.run("up")[0] == 0
    assert len(ready.installs) == 3


def test_two_at_once_make_one_environment(machine):
    first, second = (machine.start("up", FAKE_UV_SECONDS="1") for _ in range(2))
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(machine.installs) == 3
    assert sum("waiting for another" in errors for _, errors in outputs) == 1


def test_launcher_finds_its_repository_through_links(ready, tmp_path):
    (tmp_path / "one").symlink_to(ready.root / "clawfactory")
    (tmp_path / "two").symlink_to("one")
    code, output, _ = ready.run("version", launcher=tmp_path / "two")
    assert (code, output) == (0, "command line: -P -m clawfactory_cli version\n")
    assert ready.installs == []


def test_old_python_is_refused_before_anything_is_made(machine):
    code, output, errors = machine.run("up", FAKE_VERSION="3.9")
    assert (code, output) == (69, "")
    assert "3.11 or newer" in errors and "python3=3.9" in errors
    assert not (machine.root / ".venv").exists()


def test_newer_python_beside_an_old_default_is_found(machine):
    machine.program("python3", '#!/bin/sh\ncase "$*" in *print*) echo 3.9 ;; *) exit 1 ;; esac\n')
    machine.program("python3.12", FAKE_PYTHON)
    assert machine.run("up")[0] == 0


def test_root_gets_the_missing_venv_module_by_apt(machine):
    machine.program("id", "#!/bin/sh\necho 0\n")
    machine.program("apt-get")
    assert machine.run("up", FAKE_NO_VENV="1")[0] == 0
    assert [call for call in machine.calls if call.startswith("apt-get")] == [
        "apt-get -qq update",
        "apt-get -qq install --yes --no-install-recommends python3.12-venv",
    ]


def test_user_gets_the_missing_venv_module_by_sudo(machine):
    machine.program("id", "#!/bin/sh\necho 1000\n")
    machine.program("apt-get")
    machine.program("sudo", '#!/bin/sh\necho "sudo $*" >>"$LOG"\n')
    assert machine.run("up", FAKE_NO_VENV="1")[0] == 0
    assert any(call.startswith("sudo env ") and "install" in call for call in machine.calls)


def test_user_without_sudo_is_told_what_root_should_run(machine):
    machine.program("id", "#!/bin/sh\necho 1000\n")
    machine.program("apt-get")
    code, _, errors = machine.run("up", FAKE_NO_VENV="1")
    assert code == 69
    assert "apt-get install python3.12-venv" in errors
    assert not any(call.startswith("apt-get") for call in machine.calls)


def test_unwritable_repository_is_refused_in_words():
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is closed to other users
        Path(directory).chmod(0o755)
        machine = Machine(Path(directory))
        machine.root.chmod(0o555)
        # root may write everywhere, so root tries it as somebody else
        code, _, errors = machine.run("up", user=NOBODY if os.geteuid() == 0 else None)
    assert code == 69
    assert "not writable" in errors
