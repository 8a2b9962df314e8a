"""A chart of how snapshots grow: points of an SVG that the page draws. No script, no style attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schemas.snapshots import Snapshot

WIDTH, HEIGHT = 640, 160
_LEFT, _TOP, _BOTTOM = 4, 12, 8
#: Snapshots that are drawn one by one; older ones are in the first point.
_MOST = 200


@dataclass(frozen=True)
class Point:
    """The sum of all sizes after a snapshot.

    :param label: what it was, for who points at it.
    """

    x: float
    y: float
    full: bool
    label: str


@dataclass(frozen=True)
class Chart:
    """:param line: ``points`` of the line. :param area: those of the area below it."""

    points: tuple[Point, ...]
    line: str
    area: str
    largest: int


def draw_growth(snapshots: Sequence[Snapshot]) -> Chart | None:
    """Return the chart; ``None`` if there is nothing to compare.

    :param snapshots: the newest last.
    """
    if len(snapshots) < 2:
        return None
    older, drawn = snapshots[:-_MOST], snapshots[-_MOST:]
    total = sum(one.size for one in older)
    sums = []
    for one in drawn:
        total += one.size
        sums.append(total)
    first, last = drawn[0].time.timestamp(), drawn[-1].time.timestamp()
    length = max(last - first, 1.0)
    points = []
    for one, height in zip(drawn, sums, strict=True):
        x = _LEFT + (WIDTH - 2 * _LEFT) * (one.time.timestamp() - first) / length
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * height / max(total, 1)
        points.append(Point(round(x, 1), round(y, 1), one.kind != "inc", f"{one.id}, {one.kind}"))
    line = " ".join(f"{point.x},{point.y}" for point in points)
    area = f"{points[0].x},{HEIGHT - _BOTTOM} {line} {points[-1].x},{HEIGHT - _BOTTOM}"
    return Chart(tuple(points), line, area, total)
