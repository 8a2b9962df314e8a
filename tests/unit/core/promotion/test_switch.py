"""Two trees swap names in one step, or in three that a crash may interrupt anywhere."""

from __future__ import annotations

import errno
import os

import pytest

from clawfactory_core.promotion import switch


@pytest.fixture
def trees(tmp_path):
    for name in ("approved", "approved.next"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    return tmp_path / "approved", tmp_path / "approved.next"


def which(path) -> str:
    return (path / "which").read_text()


@pytest.fixture
def without_exchange(monkeypatch):
    def refuse(one, other):
        raise OSError(errno.EINVAL, "not on this file system")

    monkeypatch.setattr(switch, "_exchange", refuse)


def test_exchange(trees):
    switch.exchange(*trees)
    assert [which(tree) for tree in trees] == ["approved.next", "approved"]
    switch.settle(*trees)
    assert which(trees[0]) == "approved.next"


def test_kernel_exchanges_in_one_step(trees, monkeypatch):
    monkeypatch.setattr(os, "rename", None)
    switch.exchange(*trees)
    assert which(trees[0]) == "approved.next"


@pytest.mark.usefixtures("without_exchange")
def test_file_system_that_cannot_exchange(trees):
    switch.exchange(*trees)
    assert [which(tree) for tree in trees] == ["approved.next", "approved"]


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize(("steps", "stands"), [(0, "approved"), (1, "approved"), (2, "approved.next")])
def test_interrupted_three_steps_are_settled(trees, monkeypatch, steps, stands):
    rename, left = os.rename, steps

    def counted(one, other):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        rename(one, other)

    monkeypatch.setattr(os, "rename", counted)
    with pytest.raises(KeyboardInterrupt):
        switch.exchange(*trees)
    monkeypatch.setattr(os, "rename", rename)
    switch.settle(*trees)
    switch.settle(*trees)
    assert which(trees[0]) == stands
    assert sorted(path.name for path in trees[0].parent.iterdir()) == ["approved", "approved.next"]


def test_other_errors_are_not_taken_for_a_missing_exchange(trees):
    with pytest.raises(FileNotFoundError):
        switch.exchange(trees[0], trees[0].parent / "absent")
    assert which(trees[0]) == "approved"


def test_discard_takes_what_an_earlier_one_left(trees, monkeypatch):
    monkeypatch.setattr(switch, "_remove", lambda path: None)
    switch.discard(trees[1])
    monkeypatch.undo()
    assert not trees[1].exists()
    switch.discard(trees[1])
    assert [path.name for path in trees[0].parent.iterdir()] == ["approved"]


def test_replace_lets_the_target_go(trees):
    switch.replace(trees[1], trees[0])
    assert which(trees[0]) == "approved.next"
    assert [path.name for path in trees[0].parent.iterdir()] == ["approved"]
