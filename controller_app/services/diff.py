"""Turns what ``git diff`` prints into lines side by side. It is the bot's text: nothing in it is believed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import SequenceMatcher, unified_diff
from typing import Literal

#: Lines that a page shows; a browser has to hold them.
MOST_ROWS = 4000
#: Characters of a line that are shown, and up to which two lines are compared with each other.
_LONGEST_SHOWN = 2000
_LONGEST_COMPARED = 300
_ALIKE = 0.4
#: Lines of one text times those of the other, up to which they are matched: more takes seconds.
_MOST_COMPARED = 4_000_000
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?(.*)")

#: Lines of a file's header that say what its text does not; modes 12… are links, 16… other repositories.
_WORTH_SHOWING = ("Binary files ", "old mode ", "new mode ", "new file mode 12", "new file mode 16")

Kind = Literal["same", "changed", "added", "removed", "hunk", "note"]
#: Text, and whether it differs from the other side.
Piece = tuple[str, bool]


@dataclass(frozen=True)
class Row:
    """A line of both sides.

    :param old: pieces of the left side; empty where there is no line.
    """

    kind: Kind
    old_number: int | None = None
    old: tuple[Piece, ...] = ()
    new_number: int | None = None
    new: tuple[Piece, ...] = ()


@dataclass
class FileDiff:
    """One file.

    :param path: as git names it.
    :param change: ``changed``, ``added`` or ``deleted``.
    """

    path: str
    change: str = "changed"
    rows: list[Row] = field(default_factory=list)
    added: int = 0
    removed: int = 0


@dataclass
class Diff:
    """A whole change.

    :param cut: why not all of it is here, empty if it is.
    """

    files: list[FileDiff] = field(default_factory=list)
    cut: str = ""


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0
        self._rows = 0
        self.diff = Diff()

    def read(self) -> Diff:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith("diff --git "):
                self._file(line)
            else:
                self._note_cut(line)
                self._at += 1
            if self._rows >= MOST_ROWS:
                self.diff.cut = f"Only the first {MOST_ROWS} lines are shown."
                break
        return self.diff

    def _file(self, line: str) -> None:
        file = FileDiff(line.removeprefix("diff --git ").rpartition(" b/")[2])
        self.diff.files.append(file)
        self._at += 1
        while self._at < len(self._lines) and not self._lines[self._at].startswith("diff --git "):
            line = self._lines[self._at]
            hunk = _HUNK.fullmatch(line)
            if hunk:
                self._hunk(file, hunk)
                if self._rows >= MOST_ROWS:
                    return
                continue
            self._note_cut(line)
            self._header(file, line)
            self._at += 1

    def _note_cut(self, line: str) -> None:
        if line.startswith("… cut here"):
            self.diff.cut = "The change is longer than what can be shown here."

    def _header(self, file: FileDiff, line: str) -> None:
        if line.startswith("new file mode "):
            file.change = "added"
        elif line.startswith("deleted file mode "):
            file.change = "deleted"
        elif line.startswith("+++ ") and line != "+++ /dev/null":
            file.path = line.removeprefix("+++ ").removeprefix("b/")
        elif line.startswith("--- ") and line != "--- /dev/null":
            file.path = line.removeprefix("--- ").removeprefix("a/")
        if line.startswith(
            ("Binary files ", "old mode ", "new mode ", "new file mode 12", "new file mode 16", "… cut")
        ):
            file.rows.append(Row("note", new=((line, False),)))
            self._rows += 1

    def _hunk(self, file: FileDiff, found: re.Match[str]) -> None:
        old, new = int(found[1]), int(found[3])
        # By the counts, not by how lines begin: what a file holds may look like the header of the next.
        old_end, new_end = old + int(found[2] or 1), new + int(found[4] or 1)
        file.rows.append(Row("hunk", new=((found[5], False),)))
        self._rows += 1
        self._at += 1
        removed: list[tuple[int, str]] = []
        added: list[tuple[int, str]] = []
        while (old < old_end or new < new_end) and self._at < len(self._lines):
            if self._rows + max(len(removed), len(added)) >= MOST_ROWS:
                break
            mark, text = self._lines[self._at][:1], self._lines[self._at][1:]
            if mark == "-":
                if added:
                    self._flush(file, removed, added)
                removed.append((old, text))
                old += 1
            elif mark == "+":
                added.append((new, text))
                new += 1
            elif mark == " ":
                self._flush(file, removed, added)
                file.rows.append(Row("same", old, _plain(text), new, _plain(text)))
                self._rows += 1
                old, new = old + 1, new + 1
            elif mark != "\\":
                break  # cut in the middle
            self._at += 1
        self._flush(file, removed, added)
        while self._at < len(self._lines) and self._lines[self._at].startswith("\\"):
            self._at += 1

    def _flush(self, file: FileDiff, removed: list[tuple[int, str]], added: list[tuple[int, str]]) -> None:
        file.removed += len(removed)
        file.added += len(added)
        pairs = min(len(removed), len(added))
        for (old_number, old), (new_number, new) in zip(removed, added, strict=False):
            file.rows.append(Row("changed", old_number, *_compared(old, new_number, new)))
        file.rows += [Row("removed", number, _plain(text)) for number, text in removed[pairs:]]
        file.rows += [Row("added", None, (), number, _plain(text)) for number, text in added[pairs:]]
        self._rows += max(len(removed), len(added))
        removed.clear()
        added.clear()


def parse_diff(text: str) -> Diff:
    """Read what ``git diff`` printed, of any content."""
    return _Reader(text).read()


def compare(name: str, old: str, new: str) -> Diff:
    """The change from one text to another, as one file.

    :param name: what the file is called.
    """
    before, after = old.split("\n"), new.split("\n")
    if len(before) * len(after) > _MOST_COMPARED:
        lines = [f"@@ -1,{len(before)} +1,{len(after)} @@", *(f"-{line}" for line in before)]
        lines += [f"+{line}" for line in after]
    else:
        lines = list(unified_diff(before, after, lineterm=""))[2:]
    return parse_diff("\n".join([f"diff --git a/{name} b/{name}", *lines])) if old != new else Diff()


def _plain(text: str) -> tuple[Piece, ...]:
    return ((text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)", False),)


def _compared(old: str, new_number: int, new: str) -> tuple[tuple[Piece, ...], int, tuple[Piece, ...]]:
    if max(len(old), len(new)) > _LONGEST_COMPARED:
        return _plain(old), new_number, _plain(new)
    words = [re.findall(r"\w+|\s+|[^\w\s]", text) for text in (old, new)]
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    if matcher.ratio() < _ALIKE:
        return _plain(old), new_number, _plain(new)
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        left.append(("".join(words[0][old_from:old_to]), tag != "equal"))
        right.append(("".join(words[1][new_from:new_to]), tag != "equal"))
    return _filled(left), new_number, _filled(right)


def _filled(pieces: list[Piece]) -> tuple[Piece, ...]:
    return tuple(piece for piece in pieces if piece[0]) or (("", False),)
