"""What a bot may write that once broke, held up or misled whoever looks at it."""

from __future__ import annotations

import os
import time

import pytest

from clawfactory_core.promotion.events import last_words
from clawfactory_core.promotion.memory import backup_memory
from clawfactory_core.promotion.names import PREFIX
from clawfactory_core.promotion.proposals import list_proposals
from clawfactory_core.promotion.repository import advance_main, contains, fetch_proposals, merge, on_main_line
from clawfactory_core.promotion.secret_rules import find_secrets
from clawfactory_core.promotion.tree_rules import TreeEntry, check_tree
from tests.unit.core.promotion.promotion_machine import BOT, SECRET, Machine
from tests.unit.core.promotion.repositories import UID, Repositories, git

BEGIN = b"-----BEGIN RSA " + b"PRIVATE KEY-----"
BODY = b"MIIEowIBAAKCAQEA" * 4
_SIZE = 64 << 10


@pytest.fixture
def repos(tmp_path) -> Repositories:
    return Repositories(tmp_path / "bot1")


def filled(piece: bytes) -> bytes:
    return (piece * (_SIZE // len(piece) + 1))[:_SIZE]


@pytest.mark.parametrize(
    "text",
    [
        filled(BEGIN + b" " + (b"a: " + b" " * 26) * 9 + b"!"),
        BEGIN + b" " + filled(b"a: "),
        BEGIN + b" " + filled(b" "),
        BEGIN + b"\\n" + filled(b"a: b\\n"),
        filled(BEGIN + b"\\n" + (b"a: \\n" + b" " * 26) * 9 + b"!"),
        filled(BEGIN + b"\r\n" + (b"a: \r\n" + b"+" * 26) * 9 + b"!"),
        filled(b"a: " + BEGIN + b"\n" + b" " * 190),
    ],
    ids=["blanks", "headers", "spaces", "escaped", "escaped blanks", "lines", "nested"],
)
def test_headers_that_lead_nowhere_are_read_once(text):
    started = time.process_time()
    find_secrets(text, "x", None)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\\n", b"\\r\\n"])
@pytest.mark.parametrize("blank", [b"", b"> ", b'"+\n"'])
def test_key_behind_headers_is_found(end, blank):
    lines = [BEGIN, b"Proc-Type: 4,ENCRYPTED", b"DEK-Info: AES-128-CBC,0A1B ", b"", BODY]
    assert find_secrets((end + blank).join(lines), "x", None)


class Talker:
    def __init__(self, said: str) -> None:
        self.said = said

    def last_words(self) -> str:
        return self.said


def test_only_the_end_of_a_log_is_looked_through(machine):
    # What is not printable goes, so that the cut line is short, and its secret is cut as well.
    said = f"{SECRET}{chr(0) * (_SIZE - len(SECRET))}\nbye"
    assert last_words(machine.bot, Talker(said)) == "bye"
    started = time.process_time()
    assert last_words(machine.bot, Talker("x" * (64 << 20) + "\nbye")) == "bye"
    assert time.process_time() - started < 2
    assert last_words(machine.bot, Talker(f"hello\n{SECRET}\nbye")) == "hello\n(a line with a secret)\nbye"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\r"])
def test_subject_and_author_stay_in_one_line(repos, end):
    git(repos.work, "checkout", "-q", "--detach")
    commit = repos.commit({"x": "1"}, f"a{end}b", GIT_AUTHOR_NAME=f"c{end}d")
    repos.push("HEAD:refs/heads/proposal/one", repos.proposals)
    (found,) = list_proposals(repos.proposals, UID, repos.first, prefix=PREFIX)
    assert (found.name, found.commit, found.subject, found.author) == ("one", commit, "a b", "c d")


def test_what_lies_within_a_merged_proposal_was_not_looked_at(repos):
    within = repos.propose("one", {"workspace/SOUL.md": "evil\n"})
    tip = repos.propose("one", {"workspace/SOUL.md": "be kind\n", "x": "1"}, base=within)
    before = repos.advance({"y": "2"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    merged = merge(repos.origin, UID, "one", tip, "operator")
    advance_main(repos.origin, UID, merged, before)
    git(repos.work, "fetch", "-q", str(repos.origin), "main")
    later = repos.advance({"z": "3"})
    line = (repos.first, before, merged, later)
    assert [on_main_line(repos.origin, UID, commit) for commit in line] == [True] * 4
    assert [on_main_line(repos.origin, UID, commit) for commit in (within, tip, "f" * 40)] == [False] * 3
    assert all(contains(repos.origin, UID, commit) for commit in (*line, within, tip))


def test_date_of_the_bot_does_not_take_a_commit_off_main(repos):
    repos.propose("one", {"x": "1"})
    git(repos.work, "commit", "-q", "--amend", "--no-edit", GIT_COMMITTER_DATE="@1 +0000")
    tip = repos.head()
    repos.push("HEAD:refs/heads/proposal/one", repos.proposals)
    fetch_proposals(repos.origin, repos.proposals, UID)
    advance_main(repos.origin, UID, merge(repos.origin, UID, "one", tip, "operator"), repos.first)
    assert on_main_line(repos.origin, UID, repos.first) and not on_main_line(repos.origin, UID, tip)


@pytest.fixture
def state(machine: Machine):
    path = machine.repositories / "state"
    (path / "workspace" / "memory").mkdir(parents=True)
    (path / "workspace" / "MEMORY.md").write_text("# What I know\n")
    (path / "memory").mkdir()
    return path


def test_store_that_is_a_link_to_itself(machine, state):
    (state / "memory" / "main.sqlite").write_bytes(b"vectors")
    (state / "memory" / "x.sqlite").symlink_to("x.sqlite")
    (state / "memory" / "y.sqlite").symlink_to("main.sqlite")
    (state / "agents").mkdir()
    (state / "agents" / "loop").symlink_to("loop")
    (state / "agents" / "away").mkdir()
    (state / "agents" / "away" / "agent").symlink_to(machine.top / "elsewhere")
    (machine.top / "elsewhere").mkdir()
    (machine.top / "elsewhere" / "openclaw-agent.sqlite").write_bytes(b"of another")
    assert backup_memory(machine.root, BOT, actor="alice").indexes == {"memory/main.sqlite": 7}


def test_directory_whose_name_is_not_utf8(machine, state):
    directory = os.fsencode(state / "workspace" / "memory") + b"/a\xff"
    os.makedirs(directory + b"/b")
    for name in (b"/note.md", b"/b/note.md"):
        with open(directory + name, "wb") as file:
            file.write(b"x")
    done = backup_memory(machine.root, BOT, actor="alice")
    assert set(done.files) == {"MEMORY.md"}
    assert done.left_out == {"memory/a\\xff": "its name is not UTF-8"}


def test_tree_below_a_directory_whose_name_is_no_utf8_is_refused_by_it():
    entries = [
        TreeEntry("040000", "tree", "0" * 40, 0, b"workspace"),
        TreeEntry("040000", "tree", "0" * 40, 0, b"workspace/\xff"),
        TreeEntry("100644", "blob", "0" * 40, 1, b"workspace/\xff/file"),
    ]
    assert next(iter(check_tree(entries))).path.startswith("workspace/\\xff")
