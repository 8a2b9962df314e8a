"""Encryption and compression of snapshots: round trips, and every way in which a stream can be wrong."""

from __future__ import annotations

import io
import os

import pytest

from clawfactory_core.adapters.age import (
    Damaged,
    WrongKey,
    check_recipients,
    decrypt_stream,
    encrypt_stream,
    make_key_pair,
    recipient_of,
)
from clawfactory_core.adapters.zstd import compressor, decompress_stream
from clawfactory_core.errors import InvalidInput

IDENTITY, RECIPIENT = make_key_pair()
PLAIN = os.urandom(300_000) + b"a" * 1_000_000 + b"\x5a" * 64 + b"\xa5" * 64


def encrypted(data: bytes = PLAIN, *recipients: str) -> bytes:
    target = io.BytesIO()
    encrypt_stream(io.BytesIO(data), target, recipients or (RECIPIENT,))
    return target.getvalue()


def decrypted(data: bytes, *identities: str) -> bytes:
    target = io.BytesIO()
    decrypt_stream(io.BytesIO(data), target, identities or (IDENTITY,))
    return target.getvalue()


def compressed(data: bytes = PLAIN) -> bytes:
    target = io.BytesIO()
    with compressor().stream_writer(target, closefd=False) as writer:
        writer.write(data)
    return target.getvalue()


def decompressed(data: bytes) -> bytes:
    target = io.BytesIO()
    decompress_stream(io.BytesIO(data), target)
    return target.getvalue()


def test_each_recipient_can_decrypt():
    other, other_recipient = make_key_pair()
    data = encrypted(PLAIN, RECIPIENT, other_recipient)
    assert decrypted(data) == decrypted(data, other) == PLAIN
    assert recipient_of(f" {other}\n") == other_recipient


def test_another_key_is_the_wrong_one():
    with pytest.raises(WrongKey, match="other recipients"):
        decrypted(encrypted(), make_key_pair()[0])


@pytest.mark.parametrize("length", [0, 10, 100, 200, 70_000, -1])
def test_a_cut_age_file_is_damaged(length):
    with pytest.raises(Damaged, match="cut short or changed"):
        decrypted(encrypted()[:length])


@pytest.mark.parametrize("at", [0, 60, 100, 5000, -1])
def test_a_changed_age_file_is_damaged(at):
    data = bytearray(encrypted())
    data[at] ^= 1
    with pytest.raises((Damaged, WrongKey)):
        decrypted(bytes(data))
    with pytest.raises(Damaged):
        decrypted(encrypted() + b"more")


def test_keys_that_are_none_are_refused_and_private_ones_not_repeated():
    with pytest.raises(InvalidInput, match="age1nonsense"):
        check_recipients(["age1nonsense"])
    with pytest.raises(InvalidInput, match="no recipient"):
        check_recipients([])
    with pytest.raises(InvalidInput, match="no private key"):
        decrypt_stream(io.BytesIO(encrypted()), io.BytesIO(), [])
    with pytest.raises(InvalidInput) as caught:
        recipient_of("AGE-SECRET-KEY-1MISTYPED")
    assert "MISTYPED" not in str(caught.value)


def test_errors_of_the_streams_keep_their_type():
    with open("/dev/full", "wb", buffering=0) as full:
        with pytest.raises(OSError, match="No space left") as caught:
            encrypt_stream(io.BytesIO(PLAIN), full, [RECIPIENT])
        assert caught.value.errno == 28
        with pytest.raises(OSError, match="No space left"):
            decrypt_stream(io.BytesIO(encrypted()), full, [IDENTITY])

    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise ValueError("of the source")

    with pytest.raises(ValueError, match="of the source"):
        encrypt_stream(Broken(), io.BytesIO(), [RECIPIENT])


@pytest.mark.parametrize("plain", [b"", b"x", PLAIN])
def test_what_was_compressed_comes_back(plain):
    assert decompressed(compressed(plain)) == plain
    assert decompressed(compressed(plain) * 2) == plain * 2


def test_all_is_written_to_a_target_that_takes_little_at_a_time():
    class Narrow(io.BytesIO):
        def write(self, data):
            return super().write(data[:70_000])

    target = Narrow()
    decompress_stream(io.BytesIO(compressed()), target)
    assert target.getvalue() == PLAIN


def test_a_cut_zstd_stream_is_damaged_wherever_it_is_cut():
    data = compressed()
    points = [*range(1, 40), *range(40, len(data), 9973), *range(len(data) - 30, len(data))]
    for length in points:
        with pytest.raises(Damaged):
            decompressed(data[:length])


@pytest.mark.parametrize(
    "broken",
    [b"junk", compressed() + b"junk", compressed()[:-1] + bytes([compressed()[-1] ^ 1]), compressed()[:9] + b"x" * 50],
)
def test_what_is_not_zstd_is_damaged(broken):
    with pytest.raises(Damaged):
        decompressed(broken)


def test_a_window_that_takes_much_memory_is_refused():
    # Frame header: a window of 2 GiB (RFC 8878, 3.1.1.1.2), then one raw block of one byte.
    frame = bytes.fromhex("28b52ffd") + b"\x00" + bytes([(31 - 10) << 3]) + bytes([0x09, 0, 0]) + b"x"
    with pytest.raises(Damaged, match="zstd cannot decompress"):
        decompressed(frame)
