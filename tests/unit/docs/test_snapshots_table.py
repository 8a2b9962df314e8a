"""The documentation shows the table of what snapshots leave out, as it is in the code."""

from pathlib import Path

from clawfactory_core.snapshots.rules import LEFT_OUT

PAGE = Path(__file__).resolve().parents[3] / "docs" / "snapshots.md"


def test_the_documentation_has_exactly_the_table():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| left out | as | why |") + 2
    shown = lines[start : lines.index("", start)]
    assert shown == [f"| `{rule.pattern}` | {rule.reason} | {rule.text} |" for rule in LEFT_OUT]
