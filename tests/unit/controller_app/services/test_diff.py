from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core.promotion.proposals import diff as git_diff
from controller_app.services.diff import MOST_ROWS, compare, parse_diff
from tests.support.controller_stack import propose
from tests.support.git_repositories import make_repositories


def text(pieces) -> str:
    return "".join(piece for piece, _ in pieces)


def test_lines_stand_side_by_side_with_what_differs_in_them():
    (file,) = parse_diff(
        "diff --git a/x.md b/x.md\nindex 1..2 100644\n--- a/x.md\n+++ b/x.md\n@@ -1,4 +1,4 @@ top\n same\n"
        "-I am a bot.\n-gone\n+I am a kind bot.\n end\n+new\n\\ No newline at end of file\n"
    ).files
    assert (file.path, file.change, file.added, file.removed) == ("x.md", "changed", 2, 2)
    rows = [(row.kind, row.old_number, text(row.old), row.new_number, text(row.new)) for row in file.rows]
    assert rows == [
        ("hunk", None, "", None, "top"),
        ("same", 1, "same", 1, "same"),
        ("changed", 2, "I am a bot.", 2, "I am a kind bot."),
        ("removed", 3, "gone", None, ""),
        ("same", 4, "end", 3, "end"),
        ("added", None, "", 4, "new"),
    ]
    assert [piece for piece, differs in file.rows[2].new if differs] == ["kind "]


def test_what_a_file_holds_is_not_taken_for_a_header(tmp_path):
    repositories = make_repositories(tmp_path, {"workspace/a.md": "-- a/workspace/b.md\n"})
    content = "++ b/etc/passwd\ndiff --git a/x b/x\n@@ -1,9 +1,9 @@\n\\ x\n--- a/x\n"
    sha = propose(repositories, "x", "x", {"workspace/a.md": content, "workspace/n e w.md": "new\n"})
    diff = parse_diff(git_diff(repositories.proposals, 0, repositories.main, sha))
    assert [(file.path, file.change) for file in diff.files] == [
        ("workspace/a.md", "changed"),
        ("workspace/n e w.md\t", "added"),  # git ends a name with blanks so
    ]
    shown = [text(row.new) for row in diff.files[0].rows if row.new_number]
    assert "\n".join(shown) == content.rstrip("\n")


def test_links_modes_and_binary_files_are_said():
    diff = parse_diff(
        "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n"
        "diff --git a/b.png b/b.png\nindex 1..2\nBinary files a/b.png and b/b.png differ\n"
        "diff --git a/s b/s\nold mode 100644\nnew mode 100755\n"
        "diff --git a/d b/d\ndeleted file mode 100644\n--- a/d\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )
    assert [(file.path, file.change) for file in diff.files] == [
        ("l", "added"), ("b.png", "changed"), ("s", "changed"), ("d", "deleted"),
    ]  # fmt: skip
    notes = [text(row.new) for file in diff.files for row in file.rows if row.kind == "note"]
    assert notes == [
        "new file mode 120000", "Binary files a/b.png and b/b.png differ", "old mode 100644", "new mode 100755",
    ]  # fmt: skip


def test_a_long_change_is_cut_and_says_so():
    lines = "".join(f"+{number}\n" for number in range(MOST_ROWS * 2))
    diff = parse_diff(f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,{MOST_ROWS * 2} @@\n{lines}")
    assert len(diff.files[0].rows) <= MOST_ROWS + 1
    assert "first" in diff.cut
    assert parse_diff("diff --git a/x b/x\n… cut here: the change is longer\n").cut


LINES = ["diff --git a/x b/x", "@@ -1,2 +1,2 @@", "@@ -1 +1 @@", "--- a/x", "+++ b/x", "-x", "+y", " z", "\\ x", ""]


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=30)))
def test_anything_is_read(lines):
    parse_diff("\n".join(lines))


def test_two_texts():
    (file,) = compare("x.json5", "{\n  a: 1,\n}\n", "{\n  a: 2,\n}\n").files
    assert (file.path, file.added, file.removed) == ("x.json5", 1, 1)
    rows = [(row.kind, text(row.old), text(row.new)) for row in file.rows if row.kind != "hunk"]
    assert rows[1] == ("changed", "  a: 1,", "  a: 2,")
    assert compare("x", "same", "same").files == []


@given(st.text(alphabet="a{}\n-+@\\ \r", max_size=60), st.text(alphabet="a{}\n-+@\\ \r", max_size=60))
def test_of_two_texts_every_line_that_differs_is_shown(old, new):
    files = compare("x", old, new).files
    rows = files[0].rows if files else []
    changed = [row for row in rows if row.kind in ("changed", "removed", "added")]
    assert bool(changed) == (old != new)
    left = [text(row.old) for row in changed if row.old_number]
    right = [text(row.new) for row in changed if row.new_number]
    before, after = old.split("\n"), new.split("\n")
    assert all(line in before for line in left) and all(line in after for line in right)
    assert len(before) - len(left) == len(after) - len(right), "what is not shown as a change is the same"


def test_two_texts_that_are_too_long_to_be_matched():
    diff = compare("x", "a\n" * 2500, "b\n" * 2500)
    assert diff.files[0].rows[1].kind == "changed" and len(diff.files[0].rows) > 2000
