"""The stages that run the code: unit tests, the container engine, Molecule scenarios, end-to-end tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from clawfactory_cli.ansible import REPOSITORY, environment, needs_become_password

from .process import program, stream
from .results import Count, Result, scenario_result, session_result, single

_MOLECULE_CONFIG = ".config/molecule/config.yml"
# Seconds; several times what each takes on two cores beside its neighbours, so that only what hangs is ended.
_UNIT_LIMIT = 3600.0
_ENGINE_LIMIT = 1800.0
_SCENARIO_LIMIT = 3600.0
_BROKER_LIMIT = 2400.0
_E2E_LIMIT = 7200.0
_IMAGES_LIMIT = 2400.0
_BROWSER_LIMIT = 1800.0
_INSTALL_LIMIT = 1800.0
_BROWSER = "chromium"
# Real bots on a busy machine may be late; what is wrong fails twice. The summary names what passed only then.
_ONCE_MORE = "--reruns=1"
#: Servers that were installed for tests alone must not run by themselves on this machine.
_STOP_NGINX = (
    "if [ -d /run/systemd/system ]; then systemctl --quiet disable --now nginx; else /etc/init.d/nginx stop; fi"
)
_STOP_SSH = (
    "if [ -d /run/systemd/system ]; then systemctl --quiet disable --now ssh.service ssh.socket; "
    "else /etc/init.d/ssh stop; fi"
)


def _pytest(stage: str, directory: str, reports: Path, limit: float, prefix: list[str], *options: str) -> Result:
    report = reports / f"{stage}.xml"
    command = [*prefix, sys.executable, "-P", "-m", "pytest", directory, f"--junitxml={report}", _ONCE_MORE, *options]
    variables = {"CLAWFACTORY_REPORT_DIR": str(reports)}
    finished = stream(command, limit=limit, variables=variables)
    return session_result(stage, directory, finished.exit_code, report, finished.seconds)


def unit(reports: Path) -> list[Result]:
    """Tests without containers, on every processor."""
    options = ("--numprocesses=auto", "--dist=worksteal")
    return _install_ssh("unit") or [_pytest("unit", "tests/unit", reports, _UNIT_LIMIT, [], *options)]


def _install(stage: str, packages: list[str], afterwards: str = ":") -> list[Result]:
    """Install what the stage's tests need.

    :param afterwards: shell command to run then.
    :returns: the failure; empty when all is there.
    """
    if not packages:
        return []
    names = " ".join(packages)
    # Two lanes may want something at the same time.
    apt = "apt-get -qq -o DPkg::Lock::Timeout=600"
    script = f"{apt} update; {apt} install --yes --no-install-recommends {names}; {afterwards}"
    command = [*as_root({"DEBIAN_FRONTEND": "noninteractive"}), "sh", "-ec", script]
    finished = stream(command, limit=_INSTALL_LIMIT, variables={"DEBIAN_FRONTEND": "noninteractive"})
    return [single(stage, f"apt-get install {names}", False, finished.seconds)] if finished.exit_code else []


def _install_ssh(stage: str) -> list[Result]:
    """Both ends of SSH, for tests that reach a repository by it, and rclone, for copies of snapshots."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    present = {
        "rclone": shutil.which("rclone") is not None,
        "openssh-client": shutil.which("ssh") is not None,
        "openssh-server": shutil.which("sshd", path=path) is not None,
        "libnss-wrapper": any(Path("/usr/lib").glob("*-linux-gnu/libnss_wrapper.so")),
    }
    missing = [package for package, there in present.items() if not there]
    return _install(stage, missing, _STOP_SSH if "openssh-server" in missing else ":")


def engine(_reports: Path) -> list[Result]:
    """Install and start the container engine of this machine with the project's own role."""
    # An inventory of its own: the operator's may name machines that no test should touch.
    command = [program("ansible-playbook"), "playbooks/host.yml", "-i", "tests/runner/inventory.yml", "-l", "bot1"]
    if needs_become_password():
        command.append("--ask-become-pass")
    finished = stream(command, limit=_ENGINE_LIMIT)
    return [single("engine", "playbooks/host.yml", finished.exit_code == 0, finished.seconds)]


def as_root(variables: dict[str, str]) -> list[str]:
    """Prefix for what needs root (the engine, network namespaces): sudo, keeping these variables; nothing for root."""
    if os.geteuid() == 0:
        return []
    # Compiled files of root in the repository would be in its owner's way.
    kept = {**variables, "PATH": environment()["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return ["sudo", "-H", "env", *(f"{name}={value}" for name, value in kept.items())]


def scenarios() -> list[str]:
    """Names of the Molecule scenarios, in order."""
    return sorted(file.parent.name for file in (REPOSITORY / "molecule").glob("*/molecule.yml"))


def molecule(reports: Path) -> list[Result]:
    """Every Molecule scenario in turn."""
    names = scenarios()
    if not names:
        return [Result("molecule", "molecule/", Count(failed=1), failures=("no scenario found",))]
    return [_scenario(name, reports) for name in names]


def _scenario(name: str, reports: Path) -> Result:
    report = reports / f"{name}.xml"
    variables = {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "CLAWFACTORY_REPORT_DIR": str(reports),
        # Molecule calls pytest by itself; this is how the report gets its place.
        "PYTEST_ADDOPTS": f"--junitxml={report} {_ONCE_MORE}",
    }
    base = ["--base-config", _MOLECULE_CONFIG] if (REPOSITORY / _MOLECULE_CONFIG).exists() else []
    command = [*as_root(variables), program("molecule"), *base, "test", "--scenario-name", name, "--report"]
    finished = stream(command, limit=_SCENARIO_LIMIT, variables=variables, collect=True)
    return scenario_result(name, finished.exit_code, finished.lines, report, finished.seconds)


def _as_root(stage: str, directory: str, reports: Path, limit: float) -> list[Result]:
    return [_pytest(stage, directory, reports, limit, as_root({"CLAWFACTORY_REPORT_DIR": str(reports)}))]


def browser(reports: Path) -> list[Result]:
    """The dashboard in a real browser, also behind a real nginx; both are installed if they are not there."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    missing = [name for name in (_BROWSER, "nginx") if shutil.which(name, path=path) is None]
    return _install("browser", missing, _STOP_NGINX if "nginx" in missing else ":") or [
        _pytest("browser", "tests/browser", reports, _BROWSER_LIMIT, [])
    ]


def broker(reports: Path) -> list[Result]:
    """Attacks on the broker, with the engine compared before and after."""
    return _as_root("broker", "tests/broker", reports, _BROKER_LIMIT)


def e2e(reports: Path) -> list[Result]:
    """Tests with real bots on this machine's engine."""
    return _install_ssh("e2e") or _as_root("e2e", "tests/e2e", reports, _E2E_LIMIT)


def images(reports: Path) -> list[Result]:
    """Tests of the images, without a bot."""
    return _install_ssh("images") or _as_root("images", "tests/images", reports, _IMAGES_LIMIT)
