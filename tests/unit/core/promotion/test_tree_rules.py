from __future__ import annotations

import time

import pytest

from clawfactory_core.promotion.tree_rules import (
    MAX_PROBLEMS,
    TreeEntry,
    TreeLimits,
    check_tree,
    shown,
    workspace_name_problem,
)

SHA = "0123456789abcdef0123456789abcdef01234567"
# Processor seconds: many times what is needed, and a small part of what quadratic work would take.
_NOT_QUADRATIC = 30.0


def file(path: bytes | str, size: int = 1, mode: str = "100644") -> TreeEntry:
    return TreeEntry(mode, "blob", SHA, size, path if isinstance(path, bytes) else path.encode())


def link(path: str, target: bytes | str | None) -> TreeEntry:
    text = target.encode() if isinstance(target, str) else target
    return TreeEntry("120000", "blob", SHA, len(text or b""), path.encode(), text)


def tree(*entries: TreeEntry) -> list[TreeEntry]:
    """The entries and the directories they need."""
    parents = {
        b"/".join(entry.path.split(b"/")[:depth]) for entry in entries for depth in range(1, entry.path.count(b"/") + 1)
    }
    return [*(TreeEntry("040000", "tree", SHA, 0, path) for path in sorted(parents)), *entries]


def refusals(*entries: TreeEntry, limits: TreeLimits | None = None) -> list[str]:
    return [str(problem) for problem in check_tree(tree(*entries), limits)]


def test_ordinary_tree_is_accepted():
    assert refusals(
        file("README.md"),
        file("config.json"),
        file("tools/run.sh", mode="100755"),
        file("workspace/SOUL.md"),
        file("workspace/skills/weather/SKILL.md"),
        file("workspace/skills/wäsche/.gitignore"),
        file("workspace/bot1_save/it's, \"quoted\".txt"),
        file(".github/workflows/test.yml"),
        link("workspace/skills/latest", "weather"),
        link("workspace/skills/weather/all.md", "../weather/SKILL.md"),
        link("CLAUDE.md", "README.md"),
        link("tools/absent", "not-there-yet"),
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        ".git", ".GIT", ".Git", ".gi\u200ct", ".g\u200dit", "\u200e.git", ".git\ufeff", ".g\u206ait", "git~1", "GIT~1",
        ".git.", ".git ", ".git . .", ".git::$INDEX_ALLOCATION", ".git:stream", ".GIT::$INDEX_ALLOCATION",
        ".git\\hooks", "a\\.git", ".ｇｉｔ", ".gitmodules", ".GitModules", ".gitmodules ", "gitmod~1", "GI7EBA~1",
        "gi7eb~12", ".gitattributes", ".gitattributes.", ".GITATTRIBUTES::$DATA", "gitatt~1", "gi7d29~1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["{}", "workspace/{}", "workspace/skills/{}", "{}/config", "workspace/a/{}/b"])
def test_name_that_git_gives_a_meaning_to_is_refused(name, place):
    found = refusals(file(place.format(name)))
    assert found and all("Git gives a meaning to" in text for text in found)


@pytest.mark.parametrize(
    "name", [".gitignore", ".github", "git", "gitmodules", "digit~1", "a.git", ".gitkeep", "x.gitattributes"]
)
def test_name_that_only_looks_like_one_is_accepted(name):
    assert refusals(file(f"workspace/skills/{name}")) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (b"..", "'.' or '..'"),
        (b"a/../b", "'.' or '..'"),
        (b"a/./b", "'.' or '..'"),
        (b"a//b", "empty component"),
        (b"/etc/passwd", "empty component|slash in its name"),
        (b"a/", "empty component"),
        (b"a\xffb", "not UTF-8"),
        (b"a\xed\xa0\x80", "not UTF-8"),
        (b"a\nb", "control or invisible"),
        (b"a\x00b", "control or invisible"),
        (b"\x1b[2Ja", "control or invisible"),
        ("exe\u202etxt.md".encode(), "control or invisible"),
        ("a\u00adb".encode(), "control or invisible"),
        (b"a\\b", "backslash or colon"),
        (b"C:", "backslash or colon"),
        (b"n" * 256, "longer than 255 bytes"),
        ("ä".encode() * 128, "longer than 255 bytes"),
        (b"/".join([b"n" * 200] * 6), "longer than 1024 bytes"),
        (b"/".join([b"d"] * 33), "more than 32 directories deep"),
    ],
)  # fmt: skip
def test_path_that_is_trouble_somewhere_is_refused(path, said):
    found = check_tree(tree(file(path)))
    assert found
    assert any(word in found[-1].text for word in said.split("|"))


def test_longest_allowed_path_is_accepted():
    assert refusals(file(b"/".join([b"n" * 255] * 4))) == []
    assert refusals(file(b"/".join([b"d"] * 32))) == []


def test_slash_in_one_name_is_refused():
    # As Git prints it, this is what a tree with the entry "a/b" looks like: there is no directory "a".
    assert [str(found) for found in check_tree([file("a/b")])] == ["a/b: has a slash in its name; use directories"]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("100664", "blob"), ("100600", "blob"), ("104755", "blob"), ("060000", "blob"), ("000000", "blob"),
        ("40000", "tree"), ("100644", "tree"), ("040000", "blob"),
    ],
)  # fmt: skip
def test_other_mode_is_refused(mode, kind):
    assert "has mode" in str(check_tree([TreeEntry(mode, kind, SHA, 0, b"a")])[0])


def test_submodule_is_refused():
    assert "is a submodule" in str(check_tree([TreeEntry("160000", "commit", SHA, 0, b"vendor")])[0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/README.md", "a/readme.md"),
        ("a/ä", "a/a\u0308"),
        ("a/Ä", "a/a\u0308"),
        ("a/straße", "a/STRASSE"),
        ("a/K", "a/\u212a"),
        ("a/fi", "a/\ufb01"),
    ],
)
def test_two_names_that_are_one_elsewhere_are_refused(first, second):
    (found,) = refusals(file(first), file(second))
    assert found.startswith(second) and f"is the same as {first}" in found


def test_directories_that_are_one_elsewhere_are_refused():
    assert any("is the same as" in found for found in refusals(file("Skills/a"), file("skills/b")))


def test_same_path_twice_is_refused():
    # Two objects: what a crafted tree gives, as Git prints it.
    assert "is the same as" in refusals(file(b"a/b"), file(b"a/" + b"b"))[0]


@pytest.mark.parametrize("name", ['a"b', "a'b", "a,b"])
def test_name_that_no_mount_carries_is_refused_at_the_top_of_the_workspace_alone(name):
    assert "Docker mounts cannot carry" in refusals(file(f"workspace/{name}"))[0]
    assert refusals(file(f"workspace/skills/{name}"), file(f"other/{name}")) == []
    assert workspace_name_problem(name) and not workspace_name_problem("a b")


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("workspace/skills/x", "/etc/passwd", "leads out of workspace/skills"),
        ("workspace/skills/x", "../../../../etc/passwd", "leads out of workspace/skills"),
        ("workspace/skills/x", "../MEMORY.md", "leads out of workspace/skills"),
        ("workspace/skills/x", "../skills/../../config.json", "leads out of workspace/skills"),
        ("workspace/skills/x", "..", "leads out of workspace/skills"),
        ("workspace/skills/x", "../SOUL.md", "leads out of workspace/skills"),
        ("workspace/skills/x", "..\\..\\x", None),
        ("workspace/skills/x", b"a\xff", "leads out of"),
        ("workspace/skills/x", b"", "leads out of"),
        ("workspace/skills/x", b"a\0b", "leads out of"),
        ("workspace/skills/x", "x", "leads to itself"),
        ("workspace/skills/x", "./x/y", "leads to itself"),
        ("workspace/skills/x", ".", "leads in a circle"),
        ("workspace/skills/a/x", "..", "leads in a circle"),
        ("workspace/skills/x", None, "of more than 1024 bytes"),
        ("workspace/x", "SOUL.md", "top-level entries of the workspace"),
        ("workspace", "tools", "is not a directory"),
        ("tools/x", "../workspace/SOUL.md", "leads out of tools"),
        ("x", "../y", "leads out of the repository"),
        ("x", ".git/config", "leads out of the repository"),
        ("x", ".GIT/config", "leads out of the repository"),
        ("x", ".", "leads in a circle"),
    ],
)
def test_symbolic_link_stays_within_its_top_level_entry(path, target, said):
    found = refusals(link(path, target))
    assert (said in found[0]) if said else not found


def test_symbolic_links_are_followed_through_each_other():
    # By its text alone the last one leaves "skills"; through the first it does not.
    inside = link("workspace/skills/a/here", "b/c"), link("workspace/skills/up", "a/here/../../../x")
    assert refusals(file("workspace/skills/a/b/c/d"), *inside) == []
    # And the other way round.
    outside = link("workspace/skills/deep/er/x", "../../a"), link("workspace/skills/y", "deep/er/x/../..")
    (found,) = refusals(file("workspace/skills/a/b"), *outside)
    assert found.startswith("workspace/skills/y: is a symbolic link that leads out of workspace/skills;")


def test_symbolic_links_to_each_other_are_refused():
    found = refusals(link("a/one", "two"), link("a/two", "three"), link("a/three", "one"), file("a/x"))
    assert [text.split(":")[0] for text in found] == ["a/one", "a/two", "a/three"]


def test_circle_through_two_directories_is_refused():
    found = refusals(file("a/left/f"), file("a/right/f"), link("a/left/x", "../right"), link("a/right/y", "../left"))
    assert len(found) == 2 and all("leads in a circle" in text for text in found)
    assert refusals(file("a/left/f"), file("a/right/f"), link("a/left/x", "../right")) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (TreeLimits(files=2), "holds 3 files, at most 2 are allowed"),
        (TreeLimits(blob_bytes=9), "c: has 10 bytes, at most 9 are allowed"),
        (TreeLimits(total_bytes=29), "holds 30 bytes in all files, at most 29 are allowed"),
        (TreeLimits(name_bytes=3), "holds 4 bytes in all paths, at most 3 are allowed"),
    ],
)
def test_tree_above_a_limit_is_refused(limits, said):
    entries = (file("aa", 10), file("b", 10), file("c", 10))
    assert said in refusals(*entries, limits=limits)[-1]
    exactly = TreeLimits(files=3, blob_bytes=10, total_bytes=30, name_bytes=4)
    assert refusals(*entries, limits=exactly) == []


def test_limits_are_those_of_the_documentation():
    limits = TreeLimits()
    assert (limits.files, limits.blob_bytes, limits.total_bytes, limits.name_bytes) == (
        20_000,
        5 << 20,
        64 << 20,
        4 << 20,
    )


def test_directories_and_links_are_bounded_too():
    many = [TreeEntry("040000", "tree", SHA, 0, b"d%d" % number) for number in range(4)]
    assert "holds 4 directories" in str(check_tree(many, TreeLimits(files=3))[0])
    links = (link("a/x", "b"), link("a/y", "b"))
    assert "holds 2 symbolic links" in refusals(*links, limits=TreeLimits(links=1))[0]


def test_findings_end_somewhere():
    assert len(check_tree(tree(*(file(f".git{number}/.git") for number in range(200))))) == MAX_PROBLEMS


def test_path_is_shown_without_what_could_mislead():
    assert shown(b"a\x1b[2J\n") == "a\\x1b[2J\\n"
    assert shown("a\u202eb".encode()) == "a\\u202eb"
    assert shown(b"\xff") == "\\xff"
    assert len(shown(b"x" * 5000)) == 201


def test_largest_allowed_tree_is_judged_quickly():
    entries = tree(
        *(file(f"workspace/skills{number % 100}/file-{number}.md") for number in range(19_000)),
        *(link(f"workspace/skills{number % 100}/link-{number}", f"file-{number}.md") for number in range(1000)),
    )
    started = time.process_time()
    assert check_tree(entries) == []
    assert time.process_time() - started < _NOT_QUADRATIC


def test_links_made_to_take_long_are_judged_quickly():
    layers = [
        link(f"top/layer{layer}/{number}", f"../layer{layer + 1}") for layer in range(10) for number in range(100)
    ]
    started = time.process_time()
    assert check_tree(tree(*layers, file("top/layer10/end"))) == []
    assert time.process_time() - started < _NOT_QUADRATIC
