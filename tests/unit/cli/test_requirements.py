"""The lock files agree with what they were made from, and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
REQUIREMENTS = REPOSITORY / "requirements"
LOCKS = ("bootstrap", "control", "execution", "target", "test")
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ \\;]+)", re.MULTILINE | re.IGNORECASE)


def pins(file: Path) -> dict[str, str]:
    return dict(_PIN.findall(file.read_text()))


@pytest.mark.parametrize("name", LOCKS)
def test_inputs_are_exact_pins_that_their_lock_has(name):
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
    assert wanted
    locked = pins(REQUIREMENTS / f"{name}.lock")
    for line in wanted:
        package, _, version = line.partition("==")
        # A lock names a package without its extras, whose packages it has beside it.
        assert locked[package.partition("[")[0]] == version


@pytest.mark.parametrize("name", LOCKS)
def test_locks_have_hashes_and_no_address(name):
    text = (REQUIREMENTS / f"{name}.lock").read_text()
    assert "://" not in text and "index" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert len(blocks) == len(re.findall(r"^\S", text, re.MULTILINE))


def test_execution_environment_has_what_a_control_node_has():
    execution, control = pins(REQUIREMENTS / "execution.lock"), pins(REQUIREMENTS / "control.lock")
    assert {package: execution.get(package) for package in control} == control


@pytest.mark.parametrize(
    "other",
    [
        REQUIREMENTS / "control.lock",
        REQUIREMENTS / "target.lock",
        REPOSITORY / "broker_app/requirements.lock",
        REPOSITORY / "controller_app/requirements.lock",
    ],
)
def test_tests_run_with_the_versions_that_are_shipped(other):
    tested = pins(REQUIREMENTS / "test.lock")
    shipped = pins(other)
    assert shipped
    assert {package: tested.get(package) for package in shipped} == shipped


def test_collections_are_those_of_the_locked_ansible_package():
    import ansible_collections

    # Ansible, once loaded, has a place of its own for collections before it.
    places = map(Path, ansible_collections.__path__)
    root = next(place for place in places if (place / "ansible/posix/MANIFEST.json").exists())
    wanted = yaml.safe_load((REPOSITORY / "requirements.yml").read_text())["collections"]
    for collection in wanted:
        namespace, name = collection["name"].split(".")
        manifest = yaml.safe_load((root / namespace / name / "MANIFEST.json").read_text())
        assert manifest["collection_info"]["version"] == collection["version"]
