from __future__ import annotations

import sys

import pyrage
import pytest

from clawfactory_core import secrets
from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.errors import MissingDependency


def test_key_pair_decrypts_what_it_encrypts():
    identity, recipient = make_key_pair()
    sealed = pyrage.encrypt(b"snapshot", [pyrage.x25519.Recipient.from_str(recipient)])
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(identity)]) == b"snapshot"
    assert secrets._AGE_RECIPIENT.fullmatch(recipient)


def test_every_pair_is_new():
    assert len({part for _ in range(3) for part in make_key_pair()}) == 6


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(MissingDependency, match=r"pyrage.*'host' role") as caught:
        make_key_pair()
    assert caught.value.library == "pyrage"
