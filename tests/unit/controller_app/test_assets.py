"""What the pages load from other projects is what npm's lock file pins."""

from __future__ import annotations

import gzip
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
    package = json.loads((APP / "assets" / "package.json").read_text())
    wanted = package["dependencies"] | package["devDependencies"]
    locked = json.loads((APP / "assets" / "package-lock.json").read_text())["packages"]
    packages = {name.removeprefix("node_modules/"): entry for name, entry in locked.items() if name}
    assert {name: packages[name]["version"] for name in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    # From the registry that npm is told to use, not from an address in the file.
    assert not any("resolved" in entry for entry in packages.values())


def test_the_libraries_say_the_version():
    assert "2.0.11" in (VENDOR / "htmx.min.js").read_text()
    noted = (VENDOR / "codemirror.LICENSE").read_text()
    wanted = json.loads((APP / "assets" / "package.json").read_text())["dependencies"]
    assert all(f"{name} {version}\n" in noted for name, version in wanted.items() if name.startswith("@codemirror/"))


def test_the_editor_is_no_larger_than_was_decided():
    assert len(gzip.compress((VENDOR / "codemirror.min.js").read_bytes())) < 140_000
