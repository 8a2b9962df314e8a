"""What a commit's tree may hold, so that neither Git, nor this machine, nor a mount treats a path specially."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError
from .tree_links import check_links

WORKSPACE = "workspace"
MAX_NAME, MAX_PATH, MAX_TARGET = 255, 1024, 1024
#: More would not be read; the rest shows once these are corrected.
MAX_PROBLEMS = 50
#: What a Docker mount cannot carry in the name of a top-level entry of the workspace.
UNMOUNTABLE = frozenset(":,\\\"'")
_KINDS = {"100644": "blob", "100755": "blob", "040000": "tree", "120000": "blob"}
# Most names: no rule says anything about them but for their length.
_PLAIN = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# Names that Git gives a meaning to, and their short forms on NTFS:
# https://github.com/git/git/blob/v2.39.5/path.c, is_ntfs_dotgit() and is_ntfs_dot_generic().
_SPECIAL = re.compile(r"\.(git|gitmodules|gitattributes)|(git|gitmod|gitatt)~\d+|gi7[0-9a-f]{0,3}~\d+")
# Code points that HFS+ leaves out when it compares names:
# https://github.com/git/git/blob/v2.39.5/utf8.c, next_hfs_char().
_IGNORED_BY_HFS = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None)


@dataclass(frozen=True)
class TreeLimits:
    """How large a tree may be.

    :param files: files and links.
    :param blob_bytes: bytes of one file.
    :param total_bytes: bytes of all files.
    :param name_bytes: bytes of all paths together.
    :param depth: components of a path.
    :param links: symbolic links.
    """

    files: int = 20_000
    blob_bytes: int = 5 * 2**20
    total_bytes: int = 64 * 2**20
    name_bytes: int = 4 * 2**20
    depth: int = 32
    links: int = 1000


class TreeEntry(NamedTuple):
    """One path of a tree; there are ten thousands of them, so they have to be made quickly.

    :param mode: as Git prints it, ``100644``.
    :param kind: ``blob``, ``tree`` or ``commit``.
    :param size: bytes of a blob, 0 of anything else.
    :param path: the whole path as it stands in the tree.
    :param target: where a symbolic link leads, ``None`` for anything else and for a link that is too long to be one.
    """

    mode: str
    kind: str
    sha: str
    size: int
    path: bytes
    target: bytes | None = None


@dataclass(frozen=True)
class Problem:
    """Why a path is refused.

    :param path: printable form of the path; empty when it is about the tree as a whole.
    :param text: what is wrong and what to do.
    """

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def check_tree(entries: Iterable[TreeEntry], limits: TreeLimits | None = None) -> list[Problem]:
    """Everything in a tree that is refused, at most fifty findings; empty when it may be approved.

    :param limits: ``None`` takes the defaults.
    """
    limits = limits or TreeLimits()
    problems = []
    for problem in _problems(list(entries), limits):
        problems.append(problem)
        if len(problems) == MAX_PROBLEMS:
            break
    return problems


def shown(path: bytes) -> str:
    """A path for a message: on one line, in ASCII where it could mislead, and not too long."""
    text = path.decode("utf-8", "backslashreplace")
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 200 else f"{text[:200]}…"


def workspace_name_problem(name: str) -> str:
    """What keeps a top-level entry of the workspace from being mounted, empty if nothing does."""
    if not name.isprintable() or set(name) & UNMOUNTABLE:
        return "has a character in its name that Docker mounts cannot carry; rename it"
    return ""


def read_tree(repository: Path, commit: str, uid: int, environment: Mapping[str, str] | None = None) -> list[TreeEntry]:
    """All entries of a commit's tree, directories included.

    :param uid: user id that git runs as.
    :param environment: more variables for git, such as a push's quarantine.
    :raises CoreError: the commit is not there, or Git cannot read it.
    """
    call = GitCall(uid, environment=environment or {})
    listing = call_git(repository, call, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", "--end-of-options", commit)
    entries = [_parse(record) for record in listing.output.split(b"\0") if record]
    links = {entry.sha for entry in entries if entry.mode == "120000" and entry.size <= MAX_TARGET}
    if not links:
        return entries
    targets = read_blobs(repository, call, sorted(links))
    return [entry._replace(target=targets.get(entry.sha)) if entry.mode == "120000" else entry for entry in entries]


def read_blobs(repository: Path, call: GitCall, names: Iterable[str]) -> dict[str, bytes]:
    """Contents of objects by name; all are held in memory at once.

    :raises CoreError: one is not there.
    """
    wanted = replace(call, stdin="".join(f"{name}\n" for name in names).encode())
    output = call_git(repository, wanted, "cat-file", "--batch").output
    found = {}
    start = 0
    while start < len(output):
        end = output.index(b"\n", start)
        header = output[start:end].split()
        if len(header) != 3:
            raise CoreError(f"object {header[0].decode('ascii', 'replace')} is missing in {repository}")
        size = int(header[2])
        found[header[0].decode()] = output[end + 1 : end + 1 + size]
        start = end + size + 2
    return found


def _parse(record: bytes) -> TreeEntry:
    facts, _, path = record.partition(b"\t")
    mode, kind, sha, size = facts.decode().split()
    if not (size == "-" or size.isdigit()):
        raise CoreError(f"object {sha} is missing or damaged")
    return TreeEntry(mode, kind, sha, 0 if size == "-" else int(size), path)


def _problems(entries: list[TreeEntry], limits: TreeLimits) -> Iterator[Problem]:
    too_large = list(_sizes(entries, limits))
    yield from too_large
    if too_large:
        return  # the rest would take long, and be read by nobody
    directories = {entry.path for entry in entries if entry.kind == "tree"}
    names: dict[bytes, str] = {}
    keys: dict[str, bytes] = {}
    sound = True
    for entry in entries:
        text = _entry_problem(entry, limits, directories, names) or _same_as_another(entry, keys)
        if text:
            sound = False
            yield Problem(shown(entry.path), text)
    if sound:
        links = {entry.path.decode(): (entry.target or b"") for entry in entries if entry.mode == "120000"}
        tree = {path.decode() for path in directories}
        yield from (Problem(shown(path.encode()), text) for path, text in check_links(links, tree, WORKSPACE))


def _sizes(entries: list[TreeEntry], limits: TreeLimits) -> Iterator[Problem]:
    blobs = [entry for entry in entries if entry.kind != "tree"]
    total = sum(entry.size for entry in blobs)
    names = sum(len(entry.path) for entry in entries)
    links = sum(entry.mode == "120000" for entry in blobs)
    # Empty directories do not exist in Git, but somebody may make them by hand, one for each name.
    for found, limit, what, way in (
        (len(blobs), limits.files, "files", "remove some"),
        (len(entries) - len(blobs), limits.files, "directories", "remove some"),
        (links, limits.links, "symbolic links", "put files in their place"),
        (total, limits.total_bytes, "bytes in all files", "remove the largest"),
        (names, limits.name_bytes, "bytes in all paths", "shorten the names"),
    ):
        if found > limit:
            yield Problem("", f"holds {found} {what}, at most {limit} are allowed; {way}")
    for entry in blobs:
        if entry.size > limits.blob_bytes:
            yield Problem(shown(entry.path), f"has {entry.size} bytes, at most {limits.blob_bytes} are allowed")


def _entry_problem(entry: TreeEntry, limits: TreeLimits, directories: set[bytes], names: dict[bytes, str]) -> str:
    """What is wrong with one entry, whatever the others are.

    :param names: names seen before and what is wrong with them, since a name stands in many trees.
    """
    if entry.mode == "160000":
        return "is a submodule; put its files into the repository"
    if _KINDS.get(entry.mode) != entry.kind:
        return f"has mode {entry.mode}; files (644 or 755), directories and symbolic links are allowed"
    parent, _, name = entry.path.rpartition(b"/")
    if parent and parent not in directories:
        return "has a slash in its name; use directories"
    if name not in names:
        names[name] = _name_problem(name)
    if names[name]:
        return names[name]
    if len(entry.path) > MAX_PATH:
        return f"is longer than {MAX_PATH} bytes; use shorter names"
    if entry.path.count(b"/") >= limits.depth:
        return f"lies more than {limits.depth} directories deep"
    if parent == WORKSPACE.encode():
        if entry.mode == "120000":
            return "is a symbolic link; top-level entries of the workspace are files and directories"
        return workspace_name_problem(name.decode())
    if entry.path == WORKSPACE.encode() and entry.kind != "tree":
        return "is not a directory"
    if entry.mode == "120000" and entry.target is None:
        return f"is a symbolic link of more than {MAX_TARGET} bytes"
    return ""


def _name_problem(name: bytes) -> str:
    """What is wrong with one component of a path, empty if nothing is."""
    if name in (b"", b".", b".."):
        return "has an empty component or a '.' or '..' in its path"
    if len(name) > MAX_NAME:
        return f"has a name longer than {MAX_NAME} bytes"
    if _PLAIN.fullmatch(name):
        return ""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "has a name that is not UTF-8"
    if _is_special(text):
        return "has a name that Git gives a meaning to (.git, .gitmodules, .gitattributes, in any spelling); rename it"
    if not text.isprintable():
        return "has a control or invisible character in its name; rename it"
    if "\\" in text or ":" in text:
        return "has a backslash or colon in its name; rename it"
    return ""


def _is_special(name: str) -> bool:
    folded = unicodedata.normalize("NFKC", name.translate(_IGNORED_BY_HFS)).casefold()
    # A stream of NTFS, ".git::$INDEX_ALLOCATION", is the file itself; so is what a backslash parts there.
    return any(_SPECIAL.fullmatch(piece.split(":")[0].rstrip(". ")) for piece in folded.split("\\"))


def _same_as_another(entry: TreeEntry, keys: dict[str, bytes]) -> str:
    # What lies below a directory whose name is no UTF-8, and is refused for that, comes here all the same.
    text = entry.path.decode("utf-8", "surrogateescape")
    key = (
        text.lower() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    )
    if key not in keys:
        keys[key] = entry.path
        return ""
    return f"is the same as {shown(keys[key])} where capitals or accents do not count; rename one"
