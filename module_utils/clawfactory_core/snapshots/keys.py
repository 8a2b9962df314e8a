"""age key pairs of snapshots: made, never overwritten; rotated, with the old ones kept by their recipient."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import Conflict, InvalidInput
from ..locks import check_unlocked
from ..names import check_bot_name

#: Private and public key, as :func:`..adapters.age.make_key_pair`.
KeyPairMaker = Callable[[], tuple[str, str]]


def make_key_file(path: Path, make_key_pair: KeyPairMaker) -> str:
    """A new key pair: the private key in ``path`` (0600), the recipient in ``path`` + ``.pub``.

    :returns: the recipient.
    :raises Conflict: one of the two files is there already; a key is never replaced.
    """
    public = check_new_key_file(path)
    identity, recipient = make_key_pair()
    write_new(path, f"# public key: {recipient}\n{identity}\n", 0o600)
    write_new(public, f"{recipient}\n", 0o644)
    return recipient


def check_new_key_file(path: Path) -> Path:
    """The file of the recipient that would stand beside a new private key.

    :raises Conflict: one of the two files is there already.
    """
    public = path.with_name(path.name + ".pub")
    for found in (path, public):
        if os.path.lexists(found):
            raise Conflict(f"{found} exists, and a key is never replaced, snapshots depend on it; give another path")
    return public


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not be there yet, as a whole or not at all.

    :raises Conflict: it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        # Unlike rename, link refuses a target that is there.
        os.link(temporary, path)
    except FileExistsError:
        raise Conflict(f"{path} exists, and a key is never replaced") from None
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def rotate_key(root: Path, bot: str, make_key_pair: KeyPairMaker) -> tuple[str, str]:
    """A new key pair for a bot's next snapshots. The old private key stays, in ``snapshot.keys``, for those there are.

    The next snapshot is a full one, because its recipient is another.

    :returns: recipients, before and now.
    :raises Conflict: the bot is locked.
    :raises InvalidInput: it has no private key on the machine.
    """
    private, public = check_key(root, bot)
    old = private.with_name("snapshot.keys")
    before = recipient_in(public)
    identity, recipient = make_key_pair()
    old.mkdir(mode=0o700, exist_ok=True)
    kept = old / f"{before}.key"
    if not kept.exists():
        write_new(kept, private.read_text(encoding="utf-8"), 0o600)
    # Killed between the two, the machine encrypts to the old key, which is kept.
    _replace(private, f"# public key: {recipient}\n{identity}\n")
    _replace(public, f"{recipient}\n")
    return before, recipient


def check_key(root: Path, bot: str) -> tuple[Path, Path]:
    """Files of a bot's private key and recipient that may be rotated.

    :raises Conflict: the bot is locked.
    :raises InvalidInput: it has no private key on the machine.
    """
    check_bot_name(bot)
    check_unlocked(root, bot)
    directory = root / "secrets" / bot
    private, public = directory / "snapshot.key", directory / "snapshot.pub"
    if not private.is_file() or not public.is_file():
        raise InvalidInput(
            f"{bot} has no private key in {directory}; with secrets_snapshot_key=control make a new pair with "
            "playbooks/keygen.yml, set secrets_snapshot_recipient and run site.yml"
        )
    return private, public


def recipient_in(public: Path) -> str:
    """The recipient in the file beside a private key."""
    return public.read_text(encoding="utf-8").strip()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, text, 0o600)
    temporary.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
