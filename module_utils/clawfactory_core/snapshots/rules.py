"""What of a bot's state does not belong in a snapshot: one table, which the documentation shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    :param pattern: without ``/``: the name of an entry, wherever it is; with ``/``: its path from the state directory,
        for which a ``/`` at the start stands. ``*`` and ``?`` match within a component, ``**`` across them.
    :param reason: listed in manifests.
    :param text: for the documentation.
    """

    pattern: str
    reason: str
    text: str


_INSTALLED = "installed software"
_CACHE = "cache"
_TEMPORARY = "temporary file"
_LOCK = "lock"
_DISCARDED = "discarded transcript"

#: Directories that match are left out with all that is in them.
LEFT_OUT = (
    Rule("/installed", _INSTALLED, "what the bot installed; made again from the image or a package manager"),
    Rule("node_modules", _INSTALLED, "packages of Node, restored by its package manager"),
    Rule("venv", _INSTALLED, "Python environments; they hold absolute paths and break elsewhere"),
    Rule(".venv", _INSTALLED, "the same"),
    Rule("/shared/tools", _INSTALLED, "tools shared by agents"),
    Rule("agents/*/agent/tools/cache", _CACHE, "downloads of an agent's tools"),
    Rule(".git", "Git repository", "histories inside the state; a repository has a remote of its own"),
    Rule("__pycache__", _CACHE, "compiled Python"),
    Rule("/cache", _CACHE, "OpenClaw's own"),
    Rule(".cache", _CACHE, "caches of programs that follow XDG"),
    Rule(".npm", _CACHE, "npm's downloads"),
    Rule(".pnpm-store", _CACHE, "pnpm's store"),
    Rule("**/pnpm/store", _CACHE, "the same, where pnpm keeps it by default"),
    Rule("/shared/caches", _CACHE, "caches shared by agents"),
    Rule("/tmp", _TEMPORARY, "TMPDIR of the gateway: locks, sockets, scratch files"),  # noqa: S108 - of the state
    Rule("*.tmp", _TEMPORARY, "files that are about to be renamed"),
    Rule("*.tmp.*", _TEMPORARY, "the same"),
    Rule("*.tmp-*", _TEMPORARY, "the same"),
    Rule("/subagents", "subagent", "runs of subagents; over when they end"),
    Rule("/media", "media", "files in transit from and to channels"),
    Rule("agents/*/agent/**/logs_*.sqlite*", "log", "logs of coding agents"),
    Rule("agents/*/sessions/*.jsonl.deleted.*", _DISCARDED, "transcripts that were deleted"),
    Rule("agents/*/sessions/*.jsonl.reset.*", _DISCARDED, "transcripts that were reset"),
    Rule("*.lock.sqlite", _LOCK, "databases that are nothing but locks"),
    Rule("*.lock.sqlite-*", _LOCK, "the same"),
    # Not everywhere: in a workspace, yarn.lock and its like are files that matter.
    Rule("/*.lock", _LOCK, "lock files"),
    Rule("agents/**/*.lock", _LOCK, "the same"),
    Rule("/credentials/**/*.lock", _LOCK, "the same"),
    Rule("/cron/**/*.lock", _LOCK, "the same"),
    Rule("/devices/**/*.lock", _LOCK, "the same"),
    Rule("/identity/**/*.lock", _LOCK, "the same"),
    Rule("/memory/**/*.lock", _LOCK, "the same"),
    Rule("/state/**/*.lock", _LOCK, "the same"),
)
#: Reason for what the operator's ``exclude`` names.
EXCLUDED = "excluded by the operator"


class Rules:
    """The table, extended by an operator.

    :param exclude: further patterns.
    :param include: patterns that win over both. Those with ``/`` reach into directories that are left out, of which
        only what they name is taken.
    :raises InvalidInput: a pattern is empty or has an empty component.
    """

    def __init__(self, exclude: Sequence[str] = (), include: Sequence[str] = ()) -> None:
        rules = [*LEFT_OUT, *(Rule(pattern, EXCLUDED, "") for pattern in exclude)]
        self._out_by_name, self._name_reasons = _compile(r for r in rules if "/" not in r.pattern)
        self._out_by_path, self._path_reasons = _compile(r for r in rules if "/" in r.pattern)
        inside = [Rule(pattern, "", "") for pattern in include]
        self._in_by_name, _ = _compile(r for r in inside if "/" not in r.pattern)
        self._in_by_path, _ = _compile(r for r in inside if "/" in r.pattern)
        above = [_above(rule.pattern) for rule in inside if "/" in rule.pattern]
        self._above = re.compile(b"|".join(one for one in above if one) or b"(?!)", re.DOTALL).fullmatch

    def reason(self, path: bytes, name: bytes, above: str = "") -> str:
        """Why an entry is left out, empty if it is not.

        :param path: from the state directory; ``name`` is its last component.
        :param above: why the directory that it is in is left out, but for what ``include`` names.
        """
        if above:
            return "" if self._in_by_name(name) or self._in_by_path(path) else above
        match = self._out_by_name(name)
        if match:
            reason = self._name_reasons[(match.lastindex or 1) - 1]
        else:
            match = self._out_by_path(path)
            if not match:
                return ""
            reason = self._path_reasons[(match.lastindex or 1) - 1]
        return "" if self._in_by_name(name) or self._in_by_path(path) else reason

    def leads_to_included(self, path: bytes) -> bool:
        """Whether something below a directory may be taken by ``include`` although the directory is left out."""
        return self._above(path) is not None


def _compile(rules: Iterable[Rule]) -> tuple[Callable[[bytes], re.Match[bytes] | None], list[str]]:
    listed = list(rules)
    alternatives = [b"(" + _expression(rule.pattern) + b")" for rule in listed]
    # Without alternatives: what matches nothing, not even an empty name.
    return re.compile(b"|".join(alternatives) or b"(?!)", re.DOTALL).fullmatch, [rule.reason for rule in listed]


def _expression(pattern: str) -> bytes:
    components = pattern.removeprefix("/").removesuffix("/").split("/")
    if "" in components:
        raise InvalidInput(
            f"pattern {pattern!r} has an empty component; write it as 'workspace/*.iso' or 'node_modules'"
        )
    parts = []
    for component in components[:-1]:
        parts.append(b"(?:[^/]+/)*" if component == "**" else _component(component) + b"/")
    return b"".join(parts) + (b".+" if components[-1] == "**" else _component(components[-1]))


def _above(pattern: str) -> bytes:
    """An expression for the directories that lead to what a pattern matches."""
    components = pattern.removeprefix("/").removesuffix("/").split("/")[:-1]
    alternatives, before = [], b""
    for component in components:
        if component == "**":
            alternatives.append(before + b".+")
            break
        alternatives.append(before + _component(component))
        before = alternatives[-1] + b"/"
    return b"|".join(alternatives)


def _component(text: str) -> bytes:
    special = {ord("*"): b"[^/]*", ord("?"): b"[^/]"}
    return b"".join(special.get(byte) or re.escape(bytes([byte])) for byte in text.encode("utf-8", "surrogateescape"))
