#!/usr/bin/env python3
"""What a machine is, as JSON on stdout: files, engine objects, firewall. Two of them tell what a run changed.

It runs on the machine itself with any Python from 3.10 on, for example ``docker exec -i MACHINE python3 - < …``.
What a running bot writes by itself is left out: its state, logs and sockets.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOTS = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/bin", "/usr/local", "/usr/sbin", "/var/lib/dpkg/status")
# Ansible's scratch directory, and what a gateway writes while it works.
_LEFT_OUT = ("/root/.ansible", "/srv/clawfactory/bot_repos/*/state", "/srv/clawfactory/run/*/operator/*")


def describe_file(path: str) -> str:
    """Type, mode, owner and content of a file, in one line."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    else:
        content = ""
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"


def files() -> Iterator[tuple[str, str]]:
    """Every file below the roots that matter, with its description."""
    for root in _ROOTS:
        paths = [Path(root), *Path(root).rglob("*")] if Path(root).exists() else []
        for path in sorted(paths):
            if not any(path.match(left) or any(p.match(left) for p in path.parents) for left in _LEFT_OUT):
                yield str(path), describe_file(str(path))


def lines(*command: str) -> list[str]:
    """Sorted output of a command; nothing if this machine does not have it or it does not answer."""
    if shutil.which(command[0]) is None:
        return []
    return sorted(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines())


def main() -> None:
    """Print the fingerprint."""
    taken = {
        "files": dict(files()),
        "containers": lines("docker", "ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.State}}"),
        "networks": lines("docker", "network", "ls", "--no-trunc", "--format", "{{.Name}} {{.ID}}"),
        "images": lines("docker", "image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"),
        "volumes": lines("docker", "volume", "ls", "--quiet"),
        "firewall": lines("nft", "--stateless", "list", "ruleset"),
    }
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main()
