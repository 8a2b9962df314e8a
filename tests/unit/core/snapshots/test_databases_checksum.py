from __future__ import annotations

import hashlib

import pytest

from clawfactory_core.snapshots.wal_checksum import checksum, checksum_page


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("size", [512 << power for power in range(8)])
def test_a_page_at_once_is_as_word_by_word(size, little):
    mixed = hashlib.shake_128(b"page").digest(size)
    for data in (mixed, bytes(size), b"\xff" * size, b"\1" + bytes(size - 1), bytes(size - 1) + b"\1"):
        for sums in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x9E3779B9, 0x7F4A7C15)):
            assert checksum_page(data, *sums, little=little) == checksum(data, *sums, little=little)


def test_sums_by_hand():
    data = b"".join(word.to_bytes(4, "little") for word in (1, 2, 3, 4))
    assert checksum(data[:8], little=True) == (1, 3)
    assert checksum(data, little=True) == (7, 14)
    assert checksum(data[8:], 1, 3, little=True) == (7, 14)
