"""What a bot may push: one reference of a push, judged while its objects are still in quarantine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError
from .names import PREFIX, SHA, proposal_of
from .secret_rules import Fingerprints, find_secrets
from .tree_rules import MAX_PROBLEMS, TreeEntry, TreeLimits, check_tree, read_blobs, read_tree, shown

NOTHING = "0" * 40
#: Bytes of blobs that are held in memory at once.
_BATCH = 8 * 2**20
#: A commit is a message; anything longer is a hiding place.
_MAX_COMMIT = 64 * 2**10
_SHOWN = 8


@dataclass(frozen=True)
class PushLimits:
    """How large a push may be.

    :param commits: new commits.
    :param objects: new objects.
    :param pack_bytes: bytes of the objects in quarantine, as they lie on the disk.
    :param new_bytes: bytes of all new objects, unpacked.
    :param entries: entries of the new commits' trees together; bounds the time.
    :param tree: of each commit.
    """

    commits: int = 200
    objects: int = 50_000
    pack_bytes: int = 16 * 2**20
    new_bytes: int = 64 * 2**20
    entries: int = 400_000
    tree: TreeLimits = field(default_factory=TreeLimits)


@dataclass(frozen=True)
class Push:
    """One reference of a push, as git tells its pre-receive hook.

    :param repository: ``proposals.git``.
    :param uid: user id that git runs as.
    :param main: commit that ``main`` of ``origin.git`` is at.
    :param old: commit the reference was at, forty zeros for a new one.
    :param new: commit it is to be at, forty zeros to delete it.
    :param reference: full name, ``refs/heads/proposal/…``.
    :param environment: ``GIT_QUARANTINE_PATH``, ``GIT_OBJECT_DIRECTORY`` and ``GIT_ALTERNATE_OBJECT_DIRECTORIES`` as
        the hook has them; without them git does not see the new objects.
    :param denied: names that were denied, to the reason.
    :param fingerprints: of the bot's secrets.
    """

    repository: Path
    uid: int
    main: str
    old: str
    new: str
    reference: str
    environment: Mapping[str, str] = field(default_factory=dict)
    denied: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Fingerprints | None = field(default=None, repr=False)
    limits: PushLimits = field(default_factory=PushLimits)


@dataclass(frozen=True)
class Refusal:
    """Why a push is refused, for the bot.

    :param what: what was wrong.
    :param where: references, commits or paths it was found in.
    :param remedy: what to do.
    """

    what: str
    where: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        places = "".join(f"\n  {place}" for place in self.where[:_SHOWN])
        more = f"\n  and {len(self.where) - _SHOWN} more" if len(self.where) > _SHOWN else ""
        return f"{self.what}{places}{more}\n{self.remedy}" if places else f"{self.what} {self.remedy}"


@dataclass(frozen=True)
class _Object:
    """A new object: its name, type and size, and a path that it has somewhere."""

    sha: str
    kind: str
    size: int
    path: str


def check_push(push: Push) -> Refusal | None:
    """The first reason to refuse a push, ``None`` when it may come in.

    :raises CoreError: Git fails; the push must be refused then too.
    """
    return next(_refusals(push), None)


def _refusals(push: Push) -> Iterator[Refusal]:
    # In this order: what comes later relies on what came before, and costs more.
    yield from _reference(push)
    yield from _pack(push)
    call = GitCall(push.uid, environment=push.environment)
    yield from _history(push, call)
    commits = _git(push, call, "rev-list", "--reverse", push.new, *_known(push)).split()
    yield from _amount(push, len(commits))
    objects = list(_new_objects(push, call))
    yield from _sizes(push, objects)
    yield from _commits(push, call, commits)
    yield from _trees(push, commits)
    yield from _contents(push, call, [entry for entry in objects if entry.kind == "blob"])


def _reference(push: Push) -> Iterator[Refusal]:
    name = proposal_of(push.reference)
    if name is None:
        yield Refusal(
            f"Only branches below {PREFIX} may be pushed, named with lower-case letters, digits and inner dashes.",
            (shown(push.reference.encode("utf-8", "surrogateescape")),),
            "Push to a name such as proposal/new-skill: git push … HEAD:refs/heads/proposal/new-skill",
        )
    elif push.new == NOTHING:
        yield Refusal("A proposal cannot be deleted by pushing.", (), "Leave it; the operator decides about it.")
    elif name in push.denied:
        reason = shown(push.denied[name].encode())
        yield Refusal(f"proposal/{name} was denied: {reason}.", (), "Propose something else under another name.")
    elif not (SHA.fullmatch(push.new) and SHA.fullmatch(push.old)):
        raise CoreError("the push names no commits")


def _pack(push: Push) -> Iterator[Refusal]:
    quarantine = push.environment.get("GIT_QUARANTINE_PATH")
    if quarantine is None:
        return
    size = sum(
        os.lstat(os.path.join(directory, name)).st_size
        for directory, _, names in os.walk(quarantine)
        for name in names
        if not name.endswith(".idx")  # git made it
    )
    if size > push.limits.pack_bytes:
        yield Refusal(
            f"The push has {size} bytes, at most {push.limits.pack_bytes} are allowed.",
            (),
            "Leave out large files, or propose in several steps.",
        )


def _history(push: Push, call: GitCall) -> Iterator[Refusal]:
    if _git(push, call, "cat-file", "-t", push.new) != "commit":
        yield Refusal("Only commits may be pushed, no tags or other objects.", (), "Push the commit itself.")
    elif not _git(push, call, "merge-base", push.new, push.main, answers=(0, 1)):
        yield Refusal(
            "The branch shares no history with main.", (), "Begin from main: clone it anew and make the change there."
        )
    elif push.old != NOTHING and push.old != _git(push, call, "merge-base", push.old, push.new, answers=(0, 1)):
        yield Refusal(
            "The branch does not follow on what was pushed before.",
            (f"was at {push.old}",),
            "Add commits to it, or push under another name.",
        )
    else:
        roots = _git(push, call, "rev-list", "--max-parents=0", push.new, *_known(push)).split()
        if roots:
            yield Refusal(
                "The branch brings a history of its own with it.",
                tuple(roots),
                "Begin from main, and merge nothing else.",
            )


def _known(push: Push) -> tuple[str, ...]:
    """What was judged before, or is the operator's."""
    return ("--not", push.main, f"--glob={PREFIX}*", "--")


def _amount(push: Push, commits: int) -> Iterator[Refusal]:
    if commits > push.limits.commits:
        yield Refusal(
            f"The branch has {commits} new commits, at most {push.limits.commits} are allowed.",
            (),
            "Put them together: git reset --soft main, git commit.",
        )


def _new_objects(push: Push, call: GitCall) -> Iterator[_Object]:
    listed = call_git(push.repository, call, "rev-list", "--objects", push.new, *_known(push)).output
    paths = dict(line.partition(b" ")[::2] for line in listed.split(b"\n") if line)
    if len(paths) > push.limits.objects:
        # One more than allowed says so, without asking for the size of a million.
        yield from (_Object(NOTHING, "tree", 0, "") for _ in range(push.limits.objects + 1))
        return
    asked = replace(call, stdin=b"".join(name + b"\n" for name in paths))
    described = call_git(push.repository, asked, "cat-file", "--batch-check").output.decode().splitlines()
    for line, path in zip(described, paths.values(), strict=True):
        sha, kind, *size = line.split()
        if not size:
            raise CoreError(f"object {sha} is missing in the push")
        yield _Object(sha, kind, int(size[0]), shown(path))


def _sizes(push: Push, objects: list[_Object]) -> Iterator[Refusal]:
    limits = push.limits
    large = [entry.path for entry in objects if entry.kind == "blob" and entry.size > limits.tree.blob_bytes]
    total = sum(entry.size for entry in objects)
    if len(objects) > limits.objects:
        yield Refusal(f"The push has more than {limits.objects} new objects.", (), "Propose in several steps.")
    elif large:
        yield Refusal(
            f"A file may have at most {limits.tree.blob_bytes} bytes.",
            tuple(large),
            "Leave it out of every commit of the branch.",
        )
    elif total > limits.new_bytes:
        yield Refusal(
            f"The push has {total} bytes when unpacked, at most {limits.new_bytes} are allowed.",
            (),
            "Leave out large files, or propose in several steps.",
        )


def _commits(push: Push, call: GitCall, commits: list[str]) -> Iterator[Refusal]:
    """Messages, names and e-mail addresses go to the remote too, and so does the branch's name."""
    texts = {f"commit {sha[:12]}": content for sha, content in read_blobs(push.repository, call, commits).items()}
    long = tuple(name for name, content in texts.items() if len(content) > _MAX_COMMIT)
    if long:
        yield Refusal(f"A commit's message may have at most {_MAX_COMMIT} bytes.", long, "Shorten it.")
    texts["the branch's name"] = push.reference.encode("utf-8", "surrogateescape")
    yield from _secrets(push, (finding for name, text in texts.items() for finding in _look(push, text, name)))


def _trees(push: Push, commits: list[str]) -> Iterator[Refusal]:
    left = push.limits.entries
    known = {entry.path for entry in read_tree(push.repository, push.main, push.uid, push.environment)}
    judged: set[str] = set()
    for commit in commits:
        tree = _git(push, GitCall(push.uid, environment=push.environment), "rev-parse", f"{commit}^{{tree}}")
        if tree in judged:
            continue
        judged.add(tree)
        entries = read_tree(push.repository, tree, push.uid, push.environment)
        left -= len(entries)
        if left < 0:
            yield Refusal(
                f"The commits of the branch have more than {push.limits.entries} paths together.",
                (),
                "Put the commits together: git reset --soft main, git commit.",
            )
        yield from _tree(push, commit, entries, known)


def _tree(push: Push, commit: str, entries: list[TreeEntry], known: set[bytes]) -> Iterator[Refusal]:
    problems = check_tree(entries, push.limits.tree)
    if problems:
        more = ("and perhaps more",) if len(problems) == MAX_PROBLEMS else ()
        yield Refusal(
            f"Commit {commit[:12]} holds what may not be in the repository.",
            (*map(str, problems), *more),
            "Correct it in that commit, not in one after it: git commit --amend, or git rebase.",
        )
    new = [entry.path for entry in entries if entry.path not in known]
    known.update(new)
    yield from _secrets(push, iter(_look(push, b"\n".join(new), f"the names of files in commit {commit[:12]}")))


def _contents(push: Push, call: GitCall, blobs: list[_Object]) -> Iterator[Refusal]:
    yield from _secrets(push, _search(push, call, blobs))


def _search(push: Push, call: GitCall, blobs: list[_Object]) -> Iterator[str]:
    for batch in _batches(blobs):
        paths = {entry.sha: entry.path for entry in batch}
        for sha, content in read_blobs(push.repository, call, paths).items():
            yield from _look(push, content, paths[sha])


def _batches(blobs: Iterable[_Object]) -> Iterator[list[_Object]]:
    batch: list[_Object] = []
    size = 0
    for entry in blobs:
        if batch and size + entry.size > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def _look(push: Push, text: bytes, name: str) -> list[str]:
    return find_secrets(text, name, push.fingerprints)


def _secrets(push: Push, found: Iterator[str]) -> Iterator[Refusal]:
    """One refusal for what is found; looking ends when there is more than is shown."""
    places = tuple(text for text, _ in zip(found, range(_SHOWN + 1), strict=False))
    if places:
        yield Refusal(
            "The branch holds what looks like a secret. It has not been stored, and goes nowhere.",
            places,
            "Take it out of every commit of the branch (git rebase), and refer to it by the name of its variable.",
        )


def _git(push: Push, call: GitCall, *arguments: str, answers: tuple[int, ...] = (0,)) -> str:
    return (
        call_git(push.repository, replace(call, answers=answers), *arguments).output.decode("ascii", "replace").strip()
    )
