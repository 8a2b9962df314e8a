from __future__ import annotations

MODULE = "clawfactory_age_key"


def test_check_mode_says_what_a_run_would(run_module, tmp_path):
    path = tmp_path / "rescue.key"
    assert run_module(MODULE, check=True, path=str(path))["changed"]
    assert not path.exists()
    assert run_module(MODULE, path=str(path))["changed"]
    before = path.read_text()
    for check in (True, False):
        answer = run_module(MODULE, check=check, path=str(path))
        assert answer["failed"] and "never replaced" in answer["msg"]
    assert path.read_text() == before
