"""The build context of the gateway image: what can be said about it without an engine."""

import json
import re
import subprocess
from pathlib import Path

import pytest

IMAGE = Path(__file__).parents[3] / "roles" / "gateway" / "files" / "image"
DOCKERFILES = ["Dockerfile", "Dockerfile.pull", "Dockerfile.fork"]
LAST_LAYER = "# The last layer, word for word the same in every Dockerfile here (a test compares them)."
ENV_SH = IMAGE / "clawfactory" / "lib" / "env.sh"


def last_layer(name: str) -> str:
    return (IMAGE / name).read_text().partition(LAST_LAYER)[2]


def load(text: bytes, tmp_path: Path, show: str = "") -> subprocess.CompletedProcess[bytes]:
    env_file = tmp_path / "gateway.env"
    env_file.write_bytes(text)
    script = f'. "{ENV_SH}"; load_env_file "{env_file}" || exit; printf %s "${show or "OK"}"'
    return subprocess.run(["sh", "-eu", "-c", script], capture_output=True, check=False, env={"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize("name", DOCKERFILES[1:])
def test_last_layer_is_the_same_in_every_dockerfile(name):
    assert last_layer("Dockerfile").count("\n") > 10
    assert last_layer(name) == last_layer("Dockerfile")


def test_plugins_have_the_version_of_openclaw_and_an_integrity():
    openclaw = json.loads((IMAGE / "package.json").read_text())["dependencies"]["openclaw"]
    plugins = json.loads((IMAGE / "plugins.json").read_text())
    assert set(plugins) == {"@openclaw/discord", "@openclaw/slack"}
    for pin in plugins.values():
        assert pin["version"] == openclaw
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", pin["integrity"])


def test_lock_file_is_complete_and_names_no_registry():
    lock = json.loads((IMAGE / "package-lock.json").read_text())["packages"]
    for place, package in lock.items():
        if place and not package.get("inBundle"):
            assert package["integrity"].startswith("sha512-"), place
        assert "resolved" not in package, place


ODD_VALUES = ['a"b', "$(id)", "`id`", "${HOME}", "it's", " lead and trail ", "a=b=c", "\\n", "é", "*", "# no", ""]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_env_values_arrive_as_they_are(tmp_path, value):
    assert load(f"KEY={value}\n".encode(), tmp_path, "KEY").stdout == value.encode()


def test_env_last_line_needs_no_newline_and_empty_lines_are_skipped(tmp_path):
    assert load(b"\nA=1\n\nB=2", tmp_path, "B").stdout == b"2"


@pytest.mark.parametrize(
    "line",
    [
        *(b"secret-value", b"=secret-value", b"a=secret-value", b"A B=secret-value", b"export A=secret-value"),
        *(
            b"1A=secret-value",
            b"A;id=secret-value",
            b"$(id)=secret-value",
            b"A=secret-value\r",
            b"A=secret-value\x1b[0m",
        ),
        *(b"PATH=secret-value", b"LD_PRELOAD=secret-value", b"NODE_OPTIONS=secret-value", b"IFS=secret-value"),
    ],
)
def test_env_refuses_a_line_without_showing_its_value(tmp_path, line):
    done = load(b"OK=1\n" + line + b"\n", tmp_path)
    assert done.returncode == 78
    assert b"line 2" in done.stderr
    assert b"secret-value" not in done.stderr
