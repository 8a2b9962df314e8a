from __future__ import annotations

import pytest

from tests.support.killswitch_stage import Stage


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.close()
