from __future__ import annotations

import json
import os
import stat
from dataclasses import replace

from clawfactory_core.jobs import records
from clawfactory_core.jobs.records import JobFiles, JobRecord, new_id, now


def job(job_id: str, **more) -> JobRecord:
    return JobRecord(id=job_id, kind="snapshot", actor="agent", source="agent", asked=now(), **more)


def test_ids_sort_in_the_order_they_were_made_also_with_a_clock_that_goes_back(monkeypatch):
    monkeypatch.setattr(records.time, "time", lambda: 1000.0)
    first = new_id("")
    monkeypatch.setattr(records.time, "time", lambda: 10.0)
    second = new_id(first)
    assert first < second < new_id(second)
    assert len({first, second}) == 2


def test_a_job_is_read_as_it_was_written_and_by_its_owner_alone(tmp_path):
    files = JobFiles(tmp_path / "jobs")
    assert files.read() == []
    done = job(new_id(""), state="failed", options={"label": "x"}, error={"status": 409, "title": "a", "detail": "b"})
    files.write(done)
    assert files.read() == [done]
    assert stat.S_IMODE((tmp_path / "jobs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "jobs" / f"{done.id}.json").stat().st_mode) == 0o600


def test_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "KEPT", 5)
    files = JobFiles(tmp_path)
    kept: list[str] = []
    for _ in range(9):
        kept.append(new_id(kept[-1] if kept else ""))
        files.write(job(kept[-1]))
    assert [record.id for record in files.read()] == kept[-5:]


def test_a_damaged_file_is_left_out_and_said(tmp_path, caplog):
    files = JobFiles(tmp_path)
    good = job(new_id(""))
    files.write(good)
    text = (tmp_path / f"{good.id}.json").read_text()
    damaged = {
        "0" * 24: "{",
        "1" * 24: text,  # the file of another
        "2" * 24: text.replace(good.id, "2" * 24).replace("queued", "paused"),
        "3" * 24: text.replace(good.id, "3" * 24).replace('"schema": 1', '"schema": 2'),
        "4" * 24: json.dumps({"schema": 1}),
        "5" * 24: " " * (2 << 20),
        "6" * 24: "[]",
    }
    for name, content in damaged.items():
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "notes.json").write_text("mine")
    (tmp_path / ".x.json.00.partial").write_text("{")
    assert files.read() == [good]
    assert all(name in caplog.text for name in damaged)
    assert "notes" not in caplog.text
    assert not (tmp_path / ".x.json.00.partial").exists()


def test_a_link_in_place_of_a_job_is_replaced_and_not_followed(tmp_path):
    files = JobFiles(tmp_path / "jobs")
    files.read()
    one = job(new_id(""))
    (tmp_path / "target").write_text("untouched")
    os.symlink(tmp_path / "target", tmp_path / "jobs" / f"{one.id}.json")
    files.write(replace(one, state="done"))
    assert (tmp_path / "target").read_text() == "untouched"
    assert files.read()[0].state == "done"


def test_a_long_text_is_in_no_answer_and_goes_when_the_job_is_over():
    job = JobRecord("0" * 24, "config", "operator", "dashboard", now(), {"text": "{}", "base": "5d" * 32})
    assert job.to_answer()["options"] == {"base": "5d" * 32} and job.to_dict()["options"]["text"] == "{}"
    assert job.without_text().options == {"base": "5d" * 32}
