"""A real OpenSSH server in front of real repositories: the remote of a bot.

It runs as the user of the tests on a port of its own, and lets whoever has one key run ``git-shell`` and nothing else.
Needs the package ``openssh-server``; nothing of the machine's own configuration is used.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .polling import wait_for

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "/usr/sbin/sshd"


def make_key(path: Path, *options: str) -> str:
    """Make a key pair; the private half as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()


@dataclass(frozen=True)
class SshServer:
    """A server that listens.

    :ivar directory: its own, with its log.
    :ivar private: the key that it lets in.
    :ivar host_key: its own public one, as ``TYPE BASE64``.
    """

    directory: Path
    address: str
    port: int
    private: str
    host_key: str

    @property
    def user(self) -> str:
        """Whom one logs in as."""
        return pwd.getpwuid(os.geteuid()).pw_name

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "log").read_text()

    def let_in(self, public: str) -> None:
        """Take one more key."""
        with (self.directory / "authorized_keys").open("a") as held:
            held.write(f'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" {public}\n')

    def url(self, repository: Path) -> str:
        """Address of a repository."""
        return f"ssh://{self.user}@{self.address}:{self.port}{repository}"


def configure(directory: Path, address: str, port: int) -> SshServer:
    """Make a server's files."""
    private = make_key(directory / "client")
    make_key(directory / "host_key")
    settings = {
        "ListenAddress": f"{address}:{port}",
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": directory / "authorized_keys",
        "PermitRootLogin": "forced-commands-only",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        # The directories above are the tests' own.
        "StrictModes": "no",
        "PidFile": "none",
        "LogLevel": "VERBOSE",
    }
    (directory / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    public = (directory / "host_key.pub").read_text().split()
    server = SshServer(directory, address, port, private, " ".join(public[:2]))
    server.let_in((directory / "client.pub").read_text().strip())
    return server


def command(server: SshServer) -> list[str]:
    """What starts it, in the foreground."""
    if os.geteuid() == 0:
        # Where sshd's unprivileged part is locked into; the system makes it when it starts a server of its own.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return [SSHD, "-D", "-f", str(server.directory / "config"), "-E", str(server.directory / "log")]


@contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """A server on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = configure(directory, "127.0.0.1", port)
    process = subprocess.Popen(command(server))
    try:
        wait_for("the SSH server", lambda: answers(port), 20)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)


def answers(port: int, address: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
