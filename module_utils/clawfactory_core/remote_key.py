"""The key by which a bot's repository is reached over SSH: root's own copy, and one that the bot's controller reads.

The second is in ``<root>/run/<bot>/remote``, because git on the machine runs as the controller's user too, and that may
not enter ``secrets``. Nothing of it is in a container of the bot's other than the controller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InvalidInput
from .files import FileSpec
from .promotion import ssh

#: Makes a private key in OpenSSH's format; see ``adapters.ssh_key``. An empty one stands for one in check mode.
SshKeyMaker = Callable[[Path, str], str]
MASTER, PUBLIC = "remote.key", "remote.pub"


@dataclass(frozen=True)
class RemoteKeyRequest:
    """What the inventory says of a bot's remote.

    :param url: of the repository; anything but an SSH address wants no key.
    :param host_keys: of its server.
    :param key: private key; empty keeps the one on the machine, or has one made.
    """

    url: str = field(default="", repr=False)
    host_keys: tuple[str, ...] = ()
    key: str = field(default="", repr=False)

    def check(self) -> None:
        """:raises InvalidInput: something of it cannot be used; nothing secret is shown."""
        if ssh.is_ssh(self.url):
            ssh.known_hosts(ssh.parse_ssh(self.url), self.host_keys)
        if self.key:
            ssh.public_key(self.key)


def remote_directory(root: Path, bot: str) -> Path:
    """What the controller's user is given of it."""
    return root / "run" / bot / "remote"


def no_new_key(_directory: Path, _comment: str) -> str:
    """:raises InvalidInput: always; for those who only look."""
    raise InvalidInput("an SSH key is to be made")


def plan_remote_key(
    root: Path, bot: str, uid: int, wanted: RemoteKeyRequest, make_key: SshKeyMaker
) -> tuple[list[FileSpec], str, bool]:
    """Wanted files.

    :param uid: the controller's user.
    :returns: the files, the private key (empty if there is none), and whether it was made now.
    :raises InvalidInput: something of ``wanted`` cannot be used.
    """
    secrets, run = root / "secrets" / bot, remote_directory(root, bot)
    master = secrets / MASTER
    held = master.read_text(encoding="utf-8", errors="replace") if master.exists() else ""
    wanted.check()
    if not ssh.is_ssh(wanted.url):
        names = (ssh.KEY, ssh.PUBLIC, ssh.KNOWN_HOSTS, ssh.PASSWD)
        # Root's copy stays, as every value does that leaves the inventory.
        gone = [FileSpec(run / name, state="absent") for name in names] if run.is_dir() else []
        return [*gone, *([FileSpec(run, state="absent")] if gone else [])], held, False
    comment = f"clawfactory-{bot}"
    private = wanted.key or held
    made = not private
    if made:
        private = make_key(secrets, comment)
    private = private.replace("\r\n", "\n").strip() + "\n"
    public = f"{ssh.public_key(private)} {comment}\n" if private.strip() else ""
    readable = {
        ssh.KEY: private,
        ssh.PUBLIC: public,
        ssh.KNOWN_HOSTS: ssh.known_hosts(ssh.parse_ssh(wanted.url), wanted.host_keys),
        ssh.PASSWD: ssh.passwd(uid),
    }
    files = [
        FileSpec(master, content=private, owner=0, group=0, mode=0o600, secret=True),
        FileSpec(secrets / PUBLIC, content=public, owner=0, group=0, mode=0o600),
        FileSpec(run.parent, state="directory", owner=0, group=0, mode=0o755),
        FileSpec(run, state="directory", owner=uid, group=uid, mode=0o500),
        *(
            FileSpec(run / name, content=content, owner=uid, group=uid, mode=0o400, secret=name == ssh.KEY)
            for name, content in readable.items()
        ),
    ]
    return files, private, made
