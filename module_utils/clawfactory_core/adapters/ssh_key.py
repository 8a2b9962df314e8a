"""SSH key pairs by ssh-keygen."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from ..errors import CoreError


def make_ssh_key(directory: Path, comment: str) -> str:
    """A new private Ed25519 key without a passphrase, in OpenSSH's format.

    :param directory: of root alone; ssh-keygen writes files only, so the key is in there for a moment.
    :param comment: what the key is called at the server.
    :raises CoreError: ssh-keygen is missing or fails.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".key-") as made:
        key = Path(made, "key")
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            raise CoreError(
                f"no SSH key can be made ({type(error).__name__}); install the package openssh-client, or give one as "
                "secrets_remote_key"
            ) from error
        return key.read_text(encoding="ascii")
