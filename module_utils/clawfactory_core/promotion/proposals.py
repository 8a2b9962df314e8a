"""What a bot proposes, as an operator looks at it. All texts of the bot's making are made harmless for a terminal."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError, InvalidInput
from .names import FETCHED, PREFIX, SHA, check_sha, proposal_of
from .takeovers import fork_point, was_taken_over

_FORMAT = "%(refname)%00%(objectname)%00%(objecttype)%00%(committerdate:unix)%00%(authorname)%00%(contents:subject)"
_MAX_TEXT = 120
# Characters that Python calls printable and nobody sees (Default_Ignorable_Code_Point of Unicode, and two blanks): text
# can be hidden in them that a model reads.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Beside what Python calls printable: line feed, tabulator, and the wide blanks of other scripts.
_PLAIN = frozenset("\n\t\u00a0\u3000")
_CUT = "\n… cut here: the change is longer\n"


@dataclass(frozen=True)
class Proposal:
    """A branch that a bot has pushed.

    :param name: without ``proposal/``.
    :param commit: its tip.
    :param author: name of the tip's author, as the bot wrote it; never to be believed.
    :param time: when the tip was committed, ISO 8601 in UTC, empty if it is no time; the bot wrote this too.
    :param subject: first line of the tip's message, shortened.
    :param files: paths that differ from where it left ``main``.
    :param added: lines added; binary files count none.
    :param removed: lines removed.
    :param bytes: total size of the changed files as the proposal has them.
    :param state: ``open``, ``merged`` (also squashed or rebased) or ``denied``.
    :param reason: why it was denied.
    """

    name: str
    commit: str
    author: str
    time: str
    subject: str
    files: int
    added: int
    removed: int
    bytes: int
    state: str
    reason: str = ""


def list_proposals(
    repository: Path, uid: int, main: str, *, prefix: str = FETCHED, denied: Mapping[str, str] | None = None
) -> list[Proposal]:
    """Proposals in ``repository``, the newest first.

    :param repository: ``origin.git`` on the machine, ``proposals.git`` in the controller.
    :param main: commit that ``main`` is at.
    :param prefix: where they are: :data:`.names.FETCHED` on the machine, :data:`.names.PREFIX` in the controller.
    :param denied: names that were denied, to the reason.
    :raises CoreError: Git cannot read the repository.
    """
    if prefix not in (FETCHED, PREFIX):
        raise InvalidInput(f"{prefix!r} is no place of proposals")
    call = GitCall(uid)
    merged = set(_lines(repository, call, "for-each-ref", f"--merged={check_sha(main)}", "--format=%(refname)", prefix))
    rows = [row.split("\0", 5) for row in _lines(repository, call, "for-each-ref", f"--format={_FORMAT}", prefix)]
    found = []
    for reference, commit, kind, seconds, author, subject in rows:
        name = proposal_of(reference, prefix)
        if name is None or kind != "commit":
            continue  # nothing that the agent's way in lets through
        reason = (denied or {}).get(name)
        state = "merged" if reference in merged else "open" if reason is None else "denied"
        if state == "open" and was_taken_over(repository, uid, main, commit):
            state = "merged"
        texts = _short(author), _time(seconds), _short(subject)
        found.append(Proposal(name, commit, *texts, 0, 0, 0, 0, state, (reason or "") if state == "denied" else ""))
    found.sort(key=lambda proposal: (proposal.time, proposal.name), reverse=True)
    return _with_changes(repository, call, main, found)


def diff(repository: Path, uid: int, base: str, commit: str, max_bytes: int = 2**20, *, from_fork: bool = False) -> str:
    """What a change does, as ``git diff`` shows it; ends with a note when it was cut.

    :param base: commit or tree to compare with.
    :param commit: commit or tree.
    :param max_bytes: longest text in bytes.
    :param from_fork: compare with where ``commit`` left ``base``: what a proposal does, not what ``main`` did since.
    :raises CoreError: one of the two is not there.
    """
    if from_fork:
        base = fork_point(repository, uid, base, commit) or base
    call = GitCall(uid, max_output=max_bytes)
    options = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--stat=100", "--patch")
    answer = call_git(repository, call, "diff", *options, check_sha(base), check_sha(commit), "--")
    text = answer.output.decode("utf-8", "backslashreplace")
    return harmless(text) + (_CUT if answer.cut else "")


def harmless(text: str) -> str:
    """Text that cannot move a terminal's cursor, colour it or hide a part of itself: these are spelled out."""
    if text.replace("\n", "").replace("\t", "").isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(
        piece if piece in _PLAIN or (piece.isprintable() and not _UNSEEN.match(piece)) else ascii(piece)[1:-1]
        for piece in text
    )


def _short(text: str) -> str:
    shown = harmless(" ".join(text.split()))
    return shown if len(shown) <= _MAX_TEXT else f"{shown[:_MAX_TEXT]}…"


def _time(seconds: str) -> str:
    try:
        return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""  # whoever makes a commit may write any number


def _lines(repository: Path, call: GitCall, *arguments: str) -> list[str]:
    # Not splitlines(): names and subjects are the bot's, and may hold what Python takes for the end of a line.
    text = call_git(repository, call, *arguments).output.decode("utf-8", "replace")
    return text.removesuffix("\n").split("\n") if text else []


def _with_changes(repository: Path, call: GitCall, main: str, proposals: list[Proposal]) -> list[Proposal]:
    """Count what each proposal changes, in two processes of git for all of them."""
    bases = {proposal.commit: fork_point(repository, call.uid, main, proposal.commit) for proposal in proposals}
    pairs = [(commit, base) for commit, base in bases.items() if base and base != commit]
    if not pairs:
        return proposals
    asked = replace(call, stdin="".join(f"{commit} {base}\n" for commit, base in pairs).encode())
    options = ("-r", "-z", "--raw", "--numstat", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv")
    # The commit comes first, since "commit parent" is the form that --stdin takes; so it shows parent to commit.
    output = call_git(repository, asked, "diff-tree", "--stdin", *options).output
    changes = _split(output, [commit for commit, _ in pairs])
    sizes = _sizes(repository, call, {sha for change in changes.values() for sha in change.blobs})
    counted = []
    for proposal in proposals:
        change = changes.get(proposal.commit, _Change())
        size = sum(sizes.get(sha, 0) for sha in change.blobs)
        counted.append(replace(proposal, files=change.files, added=change.added, removed=change.removed, bytes=size))
    return counted


@dataclass
class _Change:
    files: int = 0
    added: int = 0
    removed: int = 0
    blobs: tuple[str, ...] = ()


def _split(output: bytes, commits: Iterable[str]) -> dict[str, _Change]:
    """What ``git diff-tree --stdin -z --raw --numstat`` prints for each commit."""
    changes: dict[str, _Change] = {}
    change = _Change()
    expected = set(commits)
    for record in _records(output):
        text = record.decode("utf-8", "replace")
        if text in expected:
            change = changes.setdefault(text, _Change())
        elif text.startswith(":"):
            mode, sha = text.split(" ")[1], text.split(" ")[3]
            change.files += 1
            if mode not in ("000000", "160000"):
                change.blobs = (*change.blobs, sha)
        else:
            added, removed = (int(number) if number.isdigit() else 0 for number in text.split("\t")[:2])
            change.added += added
            change.removed += removed
    return changes


def _records(output: bytes) -> Iterator[bytes]:
    """Records without the path that follows each of the raw kind."""
    pieces = iter(output.split(b"\0"))
    for piece in pieces:
        # A commit's name ends with NUL under -z, or with a line feed, depending on Git's version.
        head, separator, rest = piece.partition(b"\n")
        if separator and SHA.fullmatch(head.decode("ascii", "replace")):
            yield head
            piece = rest
        if not piece:
            continue
        yield piece
        if piece.startswith(b":"):
            next(pieces, None)


def _sizes(repository: Path, call: GitCall, names: set[str]) -> dict[str, int]:
    asked = replace(call, stdin="".join(f"{name}\n" for name in sorted(names)).encode())
    sizes = {}
    for line in _lines(repository, asked, "cat-file", "--batch-check=%(objectname) %(objectsize)"):
        name, size = line.split(" ")[:2]
        if not size.isdigit():
            raise CoreError(f"object {name} is missing in {repository}")
        sizes[name] = int(size)
    return sizes
