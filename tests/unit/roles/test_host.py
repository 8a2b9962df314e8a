"""What the machine runs of ours is installed, restarted, looked at and taken off as one list."""

from __future__ import annotations

from pathlib import Path

import yaml

from clawfactory_core.machine import SERVICES

ROLE = Path(__file__).parents[3] / "roles" / "host"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())


def test_every_service_has_unit_and_program_and_is_looked_for():
    names = [service["name"] for service in VARIABLES["__host_services"]]
    assert sorted(names) == sorted(SERVICES)
    installed = {item["dest"] for item in VARIABLES["__host_lib"]["context"]}
    for name in names:
        assert f"clawfactory-{name}.service" in VARIABLES["__host_unit_texts"]
        assert f"clawfactory-{name}" in installed


def test_every_unit_is_rendered_from_its_template_and_written():
    tasks = yaml.safe_load((ROLE / "tasks" / "units.yml").read_text())
    written = {file["path"] for task in tasks for file in task.get("clawfactory_files", {}).get("files", [])}
    for unit, text in VARIABLES["__host_unit_texts"].items():
        assert (ROLE / "templates" / f"{unit}.j2").is_file()
        assert f"/templates/{unit}.j2'" in text
        assert f"/etc/systemd/system/{unit}" in written
    assert {path.name.removesuffix(".j2") for path in (ROLE / "templates").glob("*.service.j2")} == set(
        VARIABLES["__host_unit_texts"]
    )


def test_what_is_installed_is_executable():
    for item in VARIABLES["__host_lib"]["context"]:
        path = ROLE.parents[1] / item["src"].removeprefix("{{ clawfactory_source_dir }}/")
        assert path.exists(), path
        assert path.is_dir() or path.stat().st_mode & 0o111, path
