from __future__ import annotations

from controller_app.schemas.snapshots import Snapshot
from controller_app.services.chart import HEIGHT, WIDTH, draw_growth


def snapshot(day: int, size: int, kind: str = "inc") -> Snapshot:
    return Snapshot(
        id=f"x--2026-11-{day:02d}T03-00-00Z", time=f"2026-11-{day:02d}T03:00:00Z", kind=kind, size=size, label="x",
        parent=None, verified=None, problem="",
    )  # fmt: skip


def test_the_line_rises_by_what_each_snapshot_takes():
    chart = draw_growth([snapshot(1, 100, "full"), snapshot(2, 50), snapshot(4, 50)])
    assert chart.largest == 200
    heights = [HEIGHT - point.y for point in chart.points]
    assert heights == sorted(heights)
    places = [point.x for point in chart.points]
    assert round((places[1] - places[0]) / (places[2] - places[0]), 2) == 0.33
    assert [point.full for point in chart.points] == [True, False, False]
    assert all(0 <= point.x <= WIDTH and 0 <= point.y <= HEIGHT for point in chart.points)


def test_many_at_the_same_time_and_of_no_size_are_drawn():
    chart = draw_growth([snapshot(1, 0)] * 500)
    assert len(chart.points) == 200
    assert all(0 <= point.y <= HEIGHT for point in chart.points)


def test_one_is_no_line():
    assert draw_growth([]) is None
    assert draw_growth([snapshot(1, 5)]) is None
