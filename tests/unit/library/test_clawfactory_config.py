from __future__ import annotations

from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError, MissingDependency
from library import clawfactory_config

MODULE = "clawfactory_config"


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """The containers that would have been run; one refuses if the configuration says so."""
    runs: list[dict] = []

    def run_once(image, command, **options):
        runs.append({"image": image, "command": command, **options})
        if "refused" in (options["mount"][0] / "openclaw.json").read_text():
            raise CoreError("refused: Unrecognized key")
        return ""

    monkeypatch.setattr(clawfactory_config, "run_once", run_once)
    return runs


@pytest.fixture
def arguments(tmp_path, ownership) -> dict:
    (tmp_path / "bot1").mkdir()
    return {
        "directory": str(tmp_path / "bot1" / "config"),
        "uid": 20001,
        "image": "gateway:1",
        "image_id": "sha256:aa",
        "remembered": str(tmp_path / "validated"),
    }


def test_configuration_is_validated_and_installed_once(run_module, arguments, asked):
    first = run_module(MODULE, content='{"a": 1}', **arguments)
    assert first["changed"] and any('+{"a": 1}' in entry["prepared"] for entry in first["diff"])
    assert not run_module(MODULE, content='{"a": 1}', **arguments)["changed"]
    (run,) = asked
    assert (run["image"], run["user"], run["mount"][1]) == ("gateway:1", "20001:20001", "/etc/openclaw")
    assert run["command"] == ["openclaw", "config", "validate"]
    assert run["env"]["OPENCLAW_CONFIG_PATH"] == "/etc/openclaw/openclaw.json"


def test_check_mode_neither_asks_nor_writes(run_module, arguments, asked):
    assert run_module(MODULE, check=True, content='{"refused": 1}', **arguments)["changed"]
    assert asked == [] and not Path(arguments["directory"]).exists()


def test_refusal_fails_with_the_words_of_openclaw(run_module, arguments, asked):
    result = run_module(MODULE, content='{"refused": 1}', **arguments)
    assert result["failed"] and "nothing has been changed: refused: Unrecognized key" in result["msg"]
    assert list(Path(arguments["directory"]).parent.iterdir()) == []


def test_missing_library_is_named(run_module, arguments, monkeypatch):
    def run_once(*arguments, **options):
        raise MissingDependency("docker")

    monkeypatch.setattr(clawfactory_config, "run_once", run_once)
    result = run_module(MODULE, **arguments)
    assert result["failed"] and result["msg"].startswith("the Python library 'docker' is missing")


@pytest.mark.parametrize("versions", [1, 2])
def test_known_good_is_restored_if_there_is_one(run_module, arguments, asked, versions):
    for version in range(versions):
        run_module(MODULE, content=f'{{"v": {version}}}', **arguments)
    looked = run_module(MODULE, check=True, state="known_good", **arguments)
    managed = Path(arguments["directory"]) / "openclaw.json"
    assert managed.read_text() == f'{{"v": {versions - 1}}}'
    done = run_module(MODULE, state="known_good", **arguments)
    assert looked["restored"] == done["restored"] == done["changed"] == (versions == 2)
    assert managed.read_text() == '{"v": 0}'


def test_asking_remembers_the_answer_and_installs_nothing(run_module, arguments, asked):
    assert not run_module(MODULE, state="validated", content='{"a": 1}', **arguments)["changed"]
    assert list(Path(arguments["directory"]).parent.iterdir()) == []
    assert run_module(MODULE, content='{"a": 1}', **arguments)["changed"]
    assert len(asked) == 1
    assert not run_module(MODULE, state="validated", content='{"a": 1}', **arguments)["changed"]
    assert len(asked) == 1


def test_asking_tells_a_refusal(run_module, arguments, asked):
    result = run_module(MODULE, state="validated", content='{"refused": 1}', **arguments)
    assert result["failed"] and "refused: Unrecognized key" in result["msg"]


def test_check_mode_asks_too_and_leaves_nothing(run_module, arguments, asked):
    refused = run_module(MODULE, check=True, state="validated", content='{"refused": 1}', **arguments)
    assert refused["failed"] and "refused: Unrecognized key" in refused["msg"]
    assert not run_module(MODULE, check=True, state="validated", content='{"a": 1}', **arguments)["changed"]
    assert not Path(arguments["remembered"]).exists() and list(Path(arguments["directory"]).parent.iterdir()) == []
    assert [run["mount"][0].exists() for run in asked] == [False] * len(asked)
    run_module(MODULE, state="validated", content='{"a": 1}', **arguments)
    count = len(asked)
    run_module(MODULE, check=True, state="validated", content='{"a": 1}', **arguments)
    assert len(asked) == count, "what has passed is not asked again"
