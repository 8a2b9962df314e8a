"""Lookup of the control node: a build context as one archive; copying it file by file takes a task's time each."""

from __future__ import annotations

import base64
import hashlib
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: clawfactory_context
short_description: Pack files and directories into one archive
description: Returns the path of a tar.gz on the control node that holds the given files, or its content.
options:
  _terms:
    description: A build context, a list of dictionaries C(src), C(dest).
    required: true
  content:
    description: Return the archive itself, in Base64; for a small one, which can then travel in a module's arguments.
    type: bool
    default: false
"""

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "filter_plugins"))

from clawfactory_deploy import context_files  # noqa: E402 - plugins are not a package


class LookupModule(LookupBase):  # type: ignore[misc] # ansible-core has no type information
    """One archive for each term."""

    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[str]:
        """Paths or contents of the archives, in the order of the terms."""
        archives = [_pack(term) for term in terms]
        if kwargs.get("content"):
            return [base64.b64encode(Path(archive).read_bytes()).decode() for archive in archives]
        return archives


def _pack(context: list[dict[str, str]]) -> str:
    files = context_files(context)
    name = hashlib.sha256("\0".join(f"{name}={path}" for name, path in files).encode()).hexdigest()[:12]
    # Ansible removes this directory at the end of the run.
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-context-", dir=constants.DEFAULT_LOCAL_TMP))
    archive = folder / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as target:
        for name, path in files:
            target.add(path, arcname=name, filter=_anonymous)
    return str(archive)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member
