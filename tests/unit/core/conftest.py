from __future__ import annotations

import pytest

from tests.support.ownership import Ownership, make_ownership


@pytest.fixture
def ownership(monkeypatch) -> Ownership:
    return make_ownership(monkeypatch)
