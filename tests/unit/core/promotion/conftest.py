from __future__ import annotations

import pytest

from tests.unit.core.promotion.promotion_machine import Machine, same_user


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    same_user(monkeypatch)
    return Machine(tmp_path)
