"""Brings an operator's own commit to the machine, where there is no remote that it could be pushed to."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError, InvalidInput
from .remotes import CHECKED

_KEPT = "refs/operator/brought"


def fetch_bundle(origin: Path, uid: int, bundle: Path) -> str:
    """Fetch the ``HEAD`` of a bundle, objects checked; moves no branch.

    :returns: the commit.
    :raises InvalidInput: it is no bundle, or has no ``HEAD``.
    :raises CoreError: an object is damaged or missing.
    """
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    with tempfile.TemporaryDirectory(prefix="clawfactory-bundle-") as directory:
        # Git runs as the repository's owner, who cannot read what the operator copied here.
        copy = Path(directory) / "bundle"
        try:
            shutil.copyfile(bundle, copy)
        except OSError as error:
            raise InvalidInput(f"{bundle} cannot be read: {error.strerror or error}") from error
        for path in (Path(directory), copy):
            os.chown(path, uid, uid)
        call = GitCall(uid, answers=(0, 1, 128))
        if not call_git(origin, call, "bundle", "list-heads", str(copy), "HEAD").output.endswith(b" HEAD\n"):
            raise InvalidInput(f"{bundle} is no Git bundle with a HEAD; make it with: git bundle create FILE HEAD")
        try:
            call_git(origin, GitCall(uid, settings=CHECKED), "fetch", *options, "--", str(copy), f"+HEAD:{_KEPT}")
        except CoreError as error:
            raise CoreError(f"cannot fetch the commit of {bundle}: {error}") from error
    answer = call_git(origin, GitCall(uid), "rev-parse", "--verify", "--end-of-options", f"{_KEPT}^{{commit}}")
    return answer.output.decode().strip()
