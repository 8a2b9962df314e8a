"""Symbolic links of a tree: each has to stay within the top-level entry it lies in, and must not lead in circles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

# As many as Linux follows before it gives up with ELOOP.
_MAX_HOPS = 40


class _Leaves(Exception):
    """A link leads out of where it may lead to."""


class _Loops(Exception):
    """A link leads to itself."""


def check_links(links: Mapping[str, bytes], directories: Set[str], workspace: str) -> Iterator[tuple[str, str]]:
    """Path of each refused link, and why.

    :param links: path of every link to its target.
    :param directories: paths of all directories.
    :param workspace: top-level directory whose entries are mounted one by one.
    """
    to_directories = {}
    for path, target in links.items():
        scope = _scope(path, workspace)
        try:
            end = _follow(path, target, links, scope)
        except _Leaves:
            limit = "/".join(scope) or "the repository"
            yield path, f"is a symbolic link that leads out of {limit}; use a relative one that stays within"
        except _Loops:
            yield path, "is a symbolic link that leads to itself"
        else:
            if "/".join(end) in directories or not end:
                to_directories[path] = end
    yield from ((path, "is a symbolic link that leads in a circle") for path in _circles(to_directories))


def _scope(path: str, workspace: str) -> tuple[str, ...]:
    """The directory that a link must not leave: what is mounted on its own, or the top-level directory."""
    parts = path.split("/")
    return tuple(parts[: 2 if parts[0] == workspace else 1]) if len(parts) > 1 else ()


def _follow(path: str, target: bytes, links: Mapping[str, bytes], scope: tuple[str, ...]) -> tuple[str, ...]:
    """Where a link ends up, followed as Linux does; what does not exist is walked through by its name."""
    position = list(path.split("/")[:-1])
    waiting = _parts(target)
    hops = 1
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            if not position:
                raise _Leaves
            position.pop()
        else:
            position.append(part)
        if tuple(position[: len(scope)]) != scope:
            raise _Leaves
        following = links.get("/".join(position))
        if following is not None:
            hops += 1
            if hops > _MAX_HOPS:
                raise _Loops
            position.pop()
            waiting = _parts(following) + waiting
    return tuple(position)


def _parts(target: bytes) -> list[str]:
    try:
        text = target.decode()
    except UnicodeDecodeError:
        raise _Leaves from None
    parts = [part for part in text.split("/") if part not in ("", ".")]
    # .git is no path of the tree, but is one of the checkout.
    if not text or text.startswith("/") or not text.isprintable() or any(part.lower() == ".git" for part in parts):
        raise _Leaves
    return parts


def _circles(links: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Links to directories by which a walk through the tree would never end: below its target lies the link itself, or
    another one whose target holds it, and so on.

    :param links: path of each link to where it ends up.
    """
    places = [(path, tuple(path.split("/"))) for path in links]
    leading_here: dict[str, list[str]] = {path: [] for path in links}
    onward = {}
    for path, target in links.items():
        below = [other for other, parts in places if parts[: len(target)] == target]
        onward[path] = len(below)
        for other in below:
            leading_here[other].append(path)
    # Take away what leads nowhere further until nothing does: what is left leads in a circle.
    ends = [path for path, count in onward.items() if not count]
    while ends:
        path = ends.pop()
        del onward[path]
        for other in leading_here[path]:
            onward[other] -= 1
            if not onward[other]:
                ends.append(other)
    return list(onward)
