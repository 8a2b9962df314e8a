"""age keys and streams by pyrage (https://pypi.org/project/pyrage/)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from ..errors import CoreError, InvalidInput, MissingDependency


class WrongKey(CoreError):
    """None of the identities opens the archive."""


class Damaged(CoreError):
    """An archive cannot be read to its end, or was changed since it was written."""


def make_key_pair() -> tuple[str, str]:
    """A new X25519 key pair: ``("AGE-SECRET-KEY-1…", "age1…")``.

    :raises MissingDependency: pyrage cannot be imported.
    """
    identity = _pyrage().x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(identity: str) -> str:
    """The public half ``age1…`` of an identity ``AGE-SECRET-KEY-1…``.

    :raises InvalidInput: not an identity; the message does not repeat it.
    :raises MissingDependency: pyrage cannot be imported.
    """
    return str(_identity(identity).to_public())


def check_recipients(recipients: Sequence[str]) -> None:
    """See that something can be encrypted for ``recipients``.

    :raises InvalidInput: there is none, or one is not an age X25519 public key.
    :raises MissingDependency: pyrage cannot be imported.
    """
    _recipients(recipients)


def encrypt_stream(source: BinaryIO, target: BinaryIO, recipients: Sequence[str]) -> None:
    """Encrypt all of ``source`` into ``target``, which stays open.

    pyrage reads 8 KiB at a time: give it a ``source`` that buffers more (``buffering=1 << 20``). It holds the GIL most
    of the time, so what feeds ``source`` must be another process.

    :raises InvalidInput: as :func:`check_recipients`.
    :raises OSError: of ``source`` or ``target``.
    """
    keys = _recipients(recipients)
    reader, writer = _Remembering(source), _Remembering(target)
    try:
        _pyrage().encrypt_io(reader, writer, keys)
    except Exception as error:
        # pyrage keeps the text of a stream's own error, not its type.
        raise reader.error or writer.error or CoreError(f"age could not encrypt: {error}") from error


def decrypt_stream(source: BinaryIO, target: BinaryIO, identities: Sequence[str]) -> None:
    """Decrypt all of ``source`` into ``target``, which stays open.

    What has been written before an error is authentic, but not all there is: use it only after a clean end.

    :param source: better buffered, as for :func:`encrypt_stream`.
    :raises InvalidInput: there is no identity, or one is not an age X25519 private key.
    :raises WrongKey: it is encrypted for others.
    :raises Damaged: it is not age, cut short or changed.
    :raises OSError: of ``source`` or ``target``.
    """
    keys = [_identity(identity) for identity in identities]
    if not keys:
        raise InvalidInput("no private key to decrypt with; give at least one")
    pyrage = _pyrage()
    reader, writer = _Remembering(source), _Remembering(target)
    try:
        pyrage.decrypt_io(reader, writer, keys)
    except (pyrage.DecryptError, OSError) as error:
        own = reader.error or writer.error
        if own is not None:
            raise own from error
        if "No matching keys" in str(error):
            raise WrongKey("no private key given opens this archive; it was encrypted for other recipients") from error
        raise Damaged(f"age cannot decrypt the archive, it is cut short or changed: {error}") from error


class _Remembering:
    """Keeps what a stream raised, because pyrage turns it into an error of its own."""

    def __init__(self, stream: BinaryIO) -> None:
        self.error: BaseException | None = None
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        try:
            # A raw pipe may take less than it was given.
            done = self._stream.write(data)
            while done < len(data):
                done += self._stream.write(memoryview(data)[done:])
        except BaseException as error:
            self.error = error
            raise
        return done

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BaseException as error:
            self.error = error
            raise


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise MissingDependency("pyrage") from error
    return pyrage


def _recipients(recipients: Sequence[str]) -> list[Any]:
    if not recipients:
        raise InvalidInput("no recipient to encrypt for; give at least one age public key (age1…)")
    pyrage = _pyrage()
    keys = []
    for recipient in recipients:
        try:
            keys.append(pyrage.x25519.Recipient.from_str(recipient.strip()))
        except pyrage.RecipientError as error:
            raise InvalidInput(
                f"recipient {recipient!r} is not an age X25519 public key (age1…): {error}; "
                "make one with: ansible-playbook playbooks/keygen.yml -e keygen_file=PATH"
            ) from error
    return keys


def _identity(identity: str) -> Any:
    pyrage = _pyrage()
    try:
        return pyrage.x25519.Identity.from_str(identity.strip())
    except pyrage.IdentityError as error:
        raise InvalidInput(f"a private key given is not an age X25519 identity (AGE-SECRET-KEY-1…): {error}") from error
