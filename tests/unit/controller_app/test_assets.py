"""What the pages load from other projects is what npm's lock file pins."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import controller_app

APP = Path(controller_app.__file__).parent
VENDOR = APP / "static" / "vendor"


def test_every_file_has_the_digest_that_was_written_down():
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    noted = {name: digest for digest, name in (line.split() for line in lines)}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    found.pop("SHA256SUMS")
    assert found == noted


def test_every_package_is_pinned_with_a_digest():
    wanted = json.loads((APP / "assets" / "package.json").read_text())["dependencies"]
    locked = json.loads((APP / "assets" / "package-lock.json").read_text())["packages"]
    assert {name.removeprefix("node_modules/"): entry["version"] for name, entry in locked.items() if name} == wanted
    assert all(entry["integrity"].startswith("sha512-") for name, entry in locked.items() if name)


def test_the_libraries_say_the_version():
    assert "2.0.11" in (VENDOR / "htmx.min.js").read_text()
