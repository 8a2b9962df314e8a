"""rclone: copies of files in another place, of whatever kind its configuration names."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CoreError

#: A copy of many gigabytes over a slow line may take most of a day.
_SECONDS = 20 * 3600.0
_SHOWN = 500
# KiB by which a limit is above what may come.
_ROUNDING = 64
# With the line behind it, which may be one of a private key.
_UNPARSED = re.compile(r"(?<=could not parse )line:.*")
#: All that rclone gets of the environment: ``RCLONE_…`` and ``AWS_…`` would be settings beside its configuration.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip


@dataclass(frozen=True)
class Rclone:
    """A place at a remote.

    :param config: rclone's configuration with the credentials; they are in no argument and in no message.
    :param place: ``remote:path``, without a slash at the end.
    :param known_hosts: host keys of an SFTP server; without the file its key is not looked at.
    """

    config: Path
    place: str
    known_hosts: Path

    def upload(self, directory: Path, patterns: Sequence[str]) -> None:
        """Copy files of a directory that are new or other there; deletes nothing."""
        filters = [word for pattern in patterns for word in ("--include", f"/{pattern}")]
        self._run(["copy", *filters, "--", str(directory), self.place])

    def download(self, into: Path, sizes: Mapping[str, int]) -> None:
        """Copy files into a directory.

        :param sizes: bytes of each by its name, as of :meth:`sizes`; the place may have told less than it sends.
        :raises CoreError: more came than that, and up to it was written.
        """
        filters = [word for name in sizes for word in ("--include", f"/{name}")]
        most = f"--max-transfer={sum(sizes.values()) // 1024 + _ROUNDING}K"
        self._run(["copy", most, "--cutoff-mode=HARD", *filters, "--", self.place, str(into)])

    def sizes(self) -> dict[str, int]:
        """Bytes of each file there, by name; nothing if the place is not there yet."""
        text = self._run(["lsjson", "--files-only", "--no-modtime", "--no-mimetype", "--", self.place], absent="[]")
        return {str(item["Name"]): int(item["Size"]) for item in json.loads(text)}

    def delete(self, name: str) -> None:
        """Delete one file there."""
        self._run(["deletefile", "--", f"{self.place}/{name}"])

    def _run(self, arguments: list[str], absent: str | None = None) -> str:
        known = [f"--sftp-known-hosts-file={self.known_hosts}"] if self.known_hosts.is_file() else []
        command = ["rclone", "--config", str(self.config), "--ask-password=false", "--retries=3", *known, *arguments]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS,
                check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise CoreError("rclone is not on this machine; run: ansible-playbook site.yml") from None
        except subprocess.TimeoutExpired:
            raise CoreError(f"{self.place} (snapshots_offsite_remote) took longer than 20 hours") from None
        # 3: the directory is not there.
        if done.returncode == 3 and absent is not None:
            return absent
        if done.returncode:
            said = " ".join(_UNPARSED.sub("a line of its configuration, not shown", done.stderr).split())[-_SHOWN:]
            raise CoreError(f"{self.place} (snapshots_offsite_remote) cannot be used, rclone {arguments[0]}: {said}")
        return done.stdout
