"""The checks that read the sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from clawfactory_cli.ansible import REPOSITORY

from .process import program, stream
from .results import Result, single

STAGE = "lint"
_LIMIT = 900.0
_NOT_OURS = {".git", ".venv", ".ansible", "reports", "galaxy", "node_modules", "__pycache__"}
_SHELLS = (b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash", b"#!/usr/bin/env sh")


def shell_scripts(root: Path) -> list[str]:
    """Paths, relative to the root, of the files whose first line names a POSIX shell or bash."""
    return sorted(str(file.relative_to(root)) for file in _files(root) if _is_shell_script(file))


def _files(root: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in _NOT_OURS]
        yield from (Path(directory, name) for name in files)


def _is_shell_script(file: Path) -> bool:
    if file.is_symlink() or file.suffix == ".j2":  # a template is no script before it is rendered
        return False
    with file.open("rb") as stream:
        return stream.readline().rstrip().startswith(_SHELLS)


def checks(root: Path) -> dict[str, list[str]]:
    """Every check by its name, as the command that runs it."""
    modules = sorted(file.stem for file in (root / "library").glob("*.py"))
    return {
        "ruff check": [program("ruff"), "check", "--no-cache", "."],
        "ruff format": [program("ruff"), "format", "--check", "."],
        "yamllint": [program("yamllint"), "--strict", "."],
        # The core runs on targets with Python 3.10, everything else on 3.11 or newer.
        "mypy core": [program("mypy"), "--python-version", "3.10", "module_utils/clawfactory_core"],
        "mypy control": [program("mypy"), "broker_app", "clawfactory_cli", "controller_app", "tests/runner", "bench"],
        "shellcheck": [program("shellcheck"), "--external-sources", *shell_scripts(root)],
        "ansible-doc": [program("ansible-doc"), "-t", "module", "--json", *modules],
        "ansible-lint": [program("ansible-lint")],
    }


def run() -> list[Result]:
    """Run every check, whatever the others say."""
    results = []
    for name, command in checks(REPOSITORY).items():
        finished = stream(command, limit=_LIMIT, errors_only=name == "ansible-doc")
        results.append(single(STAGE, name, finished.exit_code == 0, finished.seconds))
    return results
