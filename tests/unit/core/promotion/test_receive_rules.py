"""Real pushes: git runs :func:`check_push` as its hook, without any check of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.receive_rules import NOTHING, Push, PushLimits, Refusal, check_push
from clawfactory_core.promotion.secret_rules import Fingerprints, make_fingerprints
from clawfactory_core.promotion.tree_rules import TreeLimits
from tests.unit.core.promotion.repositories import ENVIRONMENT, UID, Repositories, git

CORE = Path(__file__).parents[4] / "module_utils"
SECRET = "5f0c1d2e3b4a69788796a5b4c3d2e1f0"
HOOK = """#!{python}
import os, sys
sys.path.insert(0, {core!r})
from pathlib import Path
from clawfactory_core.promotion.receive_rules import Push, PushLimits, check_push
from clawfactory_core.promotion.secret_rules import Fingerprints, make_fingerprints
from clawfactory_core.promotion.tree_rules import TreeLimits
names = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
code = 0
for line in sys.stdin:
    old, new, reference = line.rstrip("\\n").split(" ", 2)
    refusal = check_push(Push(
        repository=Path.cwd(), uid=os.geteuid(), main={main!r}, old=old, new=new, reference=reference,
        environment={{name: os.environ[name] for name in names if name in os.environ}}, denied={{"no": "too loud"}},
        fingerprints=Fingerprints.from_dict(make_fingerprints([{secret!r}])), limits={limits!r},
    ))
    if refusal:
        print(refusal, file=sys.stderr)
        code = 1
sys.exit(code)
"""


class Receiver(Repositories):
    """Repositories whose ``proposals.git`` has the hook."""

    def guard(self, limits: PushLimits | None = None) -> None:
        hook = self.proposals / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        text = {"core": str(CORE), "main": self.first, "secret": SECRET, "limits": limits or PushLimits()}
        hook.write_text(HOOK.format(python=sys.executable, **text))
        hook.chmod(0o755)

    def offer(self, *refspecs: str, force: bool = False) -> str:
        """Push; what was said when it was refused, else empty."""
        options = ["-f"] if force else []
        done = subprocess.run(
            ["git", "push", *options, str(self.proposals), *refspecs],
            cwd=self.work, env=ENVIRONMENT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = [
            line.removeprefix("remote:").strip() for line in done.stderr.splitlines() if line.startswith("remote:")
        ]
        assert (done.returncode == 0) == (not lines), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return "\n".join(lines)

    def held(self) -> list[str]:
        return git(self.proposals, "for-each-ref", "--format=%(refname)").split()


@pytest.fixture
def repos(tmp_path) -> Receiver:
    receiver = Receiver(tmp_path / "bot1")
    receiver.guard()
    return receiver


def test_proposal_comes_in_and_grows(repos):
    repos.commit({"workspace/skills/b/SKILL.md": "b"})
    assert repos.offer("HEAD:refs/heads/proposal/new-skill") == ""
    repos.commit({"workspace/skills/b/SKILL.md": "c"})
    assert repos.offer("HEAD:refs/heads/proposal/new-skill") == ""
    assert repos.offer("HEAD:refs/heads/proposal/same-again") == ""
    assert repos.held() == ["refs/heads/proposal/new-skill", "refs/heads/proposal/same-again"]


@pytest.mark.parametrize(
    "reference",
    ["refs/heads/main", "refs/heads/other", "refs/tags/v1", "refs/notes/commits", "refs/pull/1/head",
     "refs/proposals/a", "refs/heads/proposal/a/b", "refs/heads/proposal/A", "refs/heads/proposal/a_b",
     "refs/heads/proposal/-a", "refs/replace/x", "refs/remote/main", "refs/heads/proposal/\u202ea",
     "refs/heads/proposal"],
)  # fmt: skip
def test_other_reference_is_refused_with_the_way_out(repos, reference):
    repos.commit({"x": "1"})
    said = repos.offer(f"HEAD:{reference}")
    assert "Only branches below refs/heads/proposal/" in said and "proposal/new-skill" in said
    assert "\u202e" not in said
    assert repos.held() == []


def test_one_wrong_reference_refuses_the_whole_push(repos):
    repos.commit({"x": "1"})
    assert repos.offer("HEAD:refs/heads/proposal/a", "HEAD:refs/heads/main")
    assert repos.held() == []


def test_deletion_is_refused(repos):
    repos.commit({"x": "1"})
    repos.offer("HEAD:refs/heads/proposal/a")
    assert "cannot be deleted" in repos.offer(":refs/heads/proposal/a")
    assert repos.held() == ["refs/heads/proposal/a"]


def test_forced_push_is_refused(repos):
    before = repos.commit({"x": "1"})
    repos.offer("HEAD:refs/heads/proposal/a")
    git(repos.work, "commit", "-q", "--amend", "-m", "other")
    assert f"was at {before}" in repos.offer("HEAD:refs/heads/proposal/a", force=True)
    assert git(repos.proposals, "rev-parse", "proposal/a") == before


def test_denied_name_is_refused_with_the_reason(repos):
    repos.commit({"x": "1"})
    assert "proposal/no was denied: too loud." in repos.offer("HEAD:refs/heads/proposal/no")


def test_tag_in_the_place_of_a_commit_is_refused(repos):
    git(repos.work, "tag", "-a", "-m", "x", "v1")
    # Git's own client sends no such thing, another may.
    tag = git(repos.work, "rev-parse", "v1")
    git(repos.work, "push", "-q", "--no-verify", str(repos.origin), "v1")
    push = Push(repos.proposals, UID, repos.first, NOTHING, tag, "refs/heads/proposal/a")
    assert "Only commits" in str(check_push(push))


@pytest.mark.parametrize("merged", [True, False])
def test_foreign_history_is_refused(repos, merged):
    git(repos.work, "checkout", "-q", "--orphan", "other")
    repos.commit({"y": "1"})
    if merged:
        git(repos.work, "checkout", "-q", "main")
        git(repos.work, "merge", "-q", "--allow-unrelated-histories", "-s", "ours", "other", "-m", "x")
    said = repos.offer("HEAD:refs/heads/proposal/a")
    assert ("brings a history of its own" if merged else "shares no history") in said


def tree_with(repos, mode: bytes, name: bytes, content: bytes = b"x") -> str:
    """A commit with an entry that git itself would not add."""
    blob = git(repos.work, "hash-object", "-w", "--stdin", data=content)
    raw = mode + b" " + name + b"\0" + bytes.fromhex(blob)
    tree = git(repos.work, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", data=raw)
    return git(repos.work, "commit-tree", tree, "-p", repos.first, "-m", "x")


@pytest.mark.parametrize(
    ("mode", "name", "content", "said"),
    [
        (b"100644", b".git", b"x", "Git gives a meaning to"),
        (b"100644", b".GiT", b"x", "Git gives a meaning to"),
        (b"100644", b"git~1", b"x", "Git gives a meaning to"),
        (b"100644", ".g\u200cit".encode(), b"x", "Git gives a meaning to"),
        (b"100644", b".gitmodules", b"x", "Git gives a meaning to"),
        (b"100644", b".gitattributes", b"* filter=x", "Git gives a meaning to"),
        (b"100644", b"..", b"x", "'.' or '..'"),
        (b"100644", b"a/b", b"x", "slash in its name"),
        (b"100644", b"a\nb", b"x", "a\\nb: has a control"),
        (b"100644", b"a\xff", b"x", "not UTF-8"),
        (b"100644", b"n" * 300, b"x", "longer than 255"),
        (b"120000", b"link", b"/etc/passwd", "leads out of"),
        (b"120000", b"link", b"link", "leads to itself"),
        (b"120000", b"link", b"x" * 2000, "more than 1024 bytes"),
    ],
)  # fmt: skip
def test_tree_that_may_not_be_approved_is_refused(repos, mode, name, content, said):
    commit = tree_with(repos, mode, name, content)
    assert said in repos.offer(f"{commit}:refs/heads/proposal/a")
    assert repos.held() == []


def test_submodule_is_refused(repos):
    raw = b"160000 sub\0" + bytes.fromhex(repos.first)
    tree = git(repos.work, "hash-object", "-t", "tree", "-w", "--stdin", data=raw)
    commit = git(repos.work, "commit-tree", tree, "-p", repos.first, "-m", "x")
    assert "sub: is a submodule" in repos.offer(f"{commit}:refs/heads/proposal/a")


def test_bad_tree_between_good_ones_is_refused(repos):
    commit = tree_with(repos, b"100644", b".gitattributes")
    good = git(repos.work, "rev-parse", f"{repos.first}^{{tree}}")
    tip = git(repos.work, "commit-tree", good, "-p", commit, "-m", "x")
    said = repos.offer(f"{tip}:refs/heads/proposal/a")
    assert f"Commit {commit[:12]} holds" in said and "in that commit" in said


@pytest.mark.parametrize("where", ["file", "gone", "name", "message", "author", "branch"])
def test_secret_is_refused_wherever_it_is(repos, where):
    if where == "file":
        repos.commit({"notes.md": f"a\nthe token is {SECRET}\n"})
    elif where == "gone":
        repos.commit({"notes.md": SECRET})
        repos.commit({"notes.md": None})
    elif where == "name":
        repos.commit({f"a/{SECRET}": "x"})
    elif where == "message":
        repos.commit({"x": "1"}, f"use {SECRET}")
    else:
        repos.commit({"x": "1"}, GIT_AUTHOR_NAME=SECRET if where == "author" else "bot1")
    said = repos.offer(f"HEAD:refs/heads/proposal/{SECRET if where == 'branch' else 'a'}")
    assert "looks like a secret" in said and (where == "branch" or SECRET not in said)
    assert where != "file" or "notes.md, line 2: a value from the bot's own secrets" in said
    assert repos.held() == []


def test_private_key_is_refused(repos):
    repos.commit({"workspace/skills/a/id": "-----BEGIN OPENSSH PRIVATE" + " KEY-----\n" + "b3BlbnNzaC1rZXktdjEA" * 9})
    assert "workspace/skills/a/id, line 1: what looks like a private key" in repos.offer("HEAD:refs/heads/proposal/a")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (PushLimits(commits=1), "has 2 new commits, at most 1"),
        (PushLimits(objects=3), "more than 3 new objects"),
        (PushLimits(pack_bytes=2000), "bytes, at most 2000 are allowed"),
        (PushLimits(new_bytes=4000), "when unpacked, at most 4000"),
        (PushLimits(entries=10), "more than 10 paths together"),
        (PushLimits(tree=TreeLimits(blob_bytes=3000)), "large"),
        (PushLimits(tree=TreeLimits(files=3)), "holds 4 files, at most 3"),
    ],
)
def test_push_above_a_limit_is_refused(repos, limits, said):
    repos.guard(limits)
    repos.commit({"large": os.urandom(4000)})
    repos.commit({"x": "1"})
    assert said in repos.offer("HEAD:refs/heads/proposal/a")
    repos.guard()
    assert repos.offer("HEAD:refs/heads/proposal/a") == ""


def test_what_unpacks_to_much_is_refused_before_it_is_read(repos):
    # 4 MiB of zeros are a few kilobytes on the way.
    repos.commit({f"zeros{number}": bytes(4 << 20) + bytes([number]) for number in range(20)})
    started = time.monotonic()
    assert "when unpacked" in repos.offer("HEAD:refs/heads/proposal/a")
    assert time.monotonic() - started < 20


def test_names_beyond_every_bound_are_refused(repos):
    # Ten megabytes of names.
    blob = bytes.fromhex(git(repos.work, "hash-object", "-w", "--stdin", data=b"x"))
    raw = b"".join(b"100644 %05d%b\0%b" % (number, b"n" * 245, blob) for number in range(40_000))
    tree = git(repos.work, "hash-object", "-t", "tree", "-w", "--stdin", data=raw)
    commit = git(repos.work, "commit-tree", tree, "-p", repos.first, "-m", "x")
    said = repos.offer(f"{commit}:refs/heads/proposal/a")
    assert "holds 40000 files" in said and "bytes in all paths" in said


def test_object_that_is_missing_is_no_acceptance(repos):
    with pytest.raises(CoreError):
        check_push(Push(repos.proposals, UID, repos.first, NOTHING, "1" * 40, "refs/heads/proposal/a"))
    with pytest.raises(CoreError):
        check_push(Push(repos.proposals, UID, repos.first, "x", "--all", "refs/heads/proposal/a"))


def test_fingerprints_are_optional(repos):
    commit = repos.commit({"x": SECRET})
    git(repos.proposals, "fetch", "-q", str(repos.work), "HEAD:refs/heads/elsewhere")
    push = Push(repos.proposals, UID, repos.first, NOTHING, commit, "refs/heads/proposal/a")
    assert check_push(push) is None
    known = Fingerprints.from_dict(make_fingerprints([SECRET]))
    found = check_push(Push(**{**vars(push), "fingerprints": known}))
    assert found is not None and SECRET not in str(found)


def test_refusal_is_short_and_says_what_to_do():
    text = str(Refusal("Bad.", tuple(f"place {number}" for number in range(20)), "Do better."))
    assert text.startswith("Bad.\n  place 0\n") and text.endswith("\n  and 12 more\nDo better.")
    assert str(Refusal("Bad.", (), "Do better.")) == "Bad. Do better."


def test_push_upon_a_large_repository_is_judged_quickly(repos):
    repos.commit({f"workspace/skills/s{number % 100}/{number}.md": f"{number}\n" for number in range(5000)})
    repos.push("main", repos.origin)
    main = repos.head()
    for number in range(20):
        repos.commit({"x": str(number)})
    git(repos.proposals, "fetch", "-q", str(repos.work), "HEAD:refs/heads/elsewhere")
    started = time.monotonic()
    assert check_push(Push(repos.proposals, UID, main, NOTHING, repos.head(), "refs/heads/proposal/a")) is None
    assert time.monotonic() - started < 20
