from __future__ import annotations

import base64
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleError

from lookup_plugins.clawfactory_context import LookupModule


@pytest.fixture
def top(tmp_path, monkeypatch) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    directory = tmp_path / "image"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "start").write_text("#!/bin/sh\n")
    (directory / "bin" / "start").chmod(0o700)
    (directory / "Dockerfile").write_text("FROM x\n")
    (directory / "Dockerfile").chmod(0o600)
    return directory


def look(*contexts: list[dict[str, str]]) -> list[str]:
    return LookupModule().run(list(contexts))


def test_archive_holds_the_context(top):
    (archive,) = look([{"src": str(top), "dest": "."}, {"src": str(top / "Dockerfile"), "dest": "extra/copy"}])
    with tarfile.open(archive) as packed:
        assert sorted(packed.getnames()) == ["Dockerfile", "bin/start", "extra/copy"]
        assert packed.extractfile("extra/copy").read() == b"FROM x\n"


def test_archive_can_be_had_as_text(top):
    (text,) = LookupModule().run([[{"src": str(top), "dest": "."}]], content=True)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as packed:
        assert sorted(packed.getnames()) == ["Dockerfile", "bin/start"]


def test_archive_does_not_tell_who_packed_it(top):
    (archive,) = look([{"src": str(top), "dest": "."}])
    with tarfile.open(archive) as packed:
        members = {member.name: member for member in packed}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members.values()} == {
        (0, 0, "root", "root")
    }
    assert {name: member.mode for name, member in members.items()} == {"Dockerfile": 0o644, "bin/start": 0o755}


def test_archive_is_private_while_it_lies_there(top):
    (archive,) = look([{"src": str(top), "dest": "."}])
    assert Path(archive).parent.stat().st_mode & 0o077 == 0
    shutil.rmtree(Path(archive).parent)


def test_every_context_gets_its_own_archive(top):
    archives = look([{"src": str(top), "dest": "."}], [{"src": str(top), "dest": "below"}])
    assert len(set(archives)) == 2


def test_absent_source_is_named(top):
    with pytest.raises(AnsibleError, match="absent does not exist"):
        look([{"src": f"{top}/absent", "dest": "."}])
