"""Changes JSON5 and keeps what a reader wrote into it: comments, quotes, the order of things.

:func:`format_text` sets lines and indents anew; :func:`append_to` adds one element to a list and touches no other line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Conflict, CoreError, InvalidInput
from .json5 import parse

_INDENT = "  "
#: Columns up to which what stood on one line stays on it.
_WIDTH = 110
_TOKEN = re.compile(
    r"//[^\n\r\u2028\u2029]*|/\*.*?\*/"
    r'|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
    r"|[{}\[\],:]|[^\s\ufeff{}\[\],:\"'/]+",
    re.DOTALL,
)
_BLANK = re.compile(r"[\s\ufeff]*")
_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_CLOSING = {"{": "}", "[": "]"}


@dataclass
class _Token:
    text: str
    start: int
    lines: int  # ends of lines between it and the token before

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def comment(self) -> bool:
        return self.text[:2] in ("//", "/*")


@dataclass
class _Item:
    """A member of an object, an element of a list, or the whole text."""

    value: _Node
    key: _Token | None = None
    above: list[_Token] = field(default_factory=list)
    after: list[_Token] = field(default_factory=list)
    apart: bool = False  # a blank line stands above it
    comma: bool = False


@dataclass
class _Node:
    """A value; ``close`` is there for objects and lists."""

    open: _Token
    close: _Token | None = None
    items: list[_Item] = field(default_factory=list)
    rest: list[_Token] = field(default_factory=list)  # comments after the last item
    broken: bool = False  # it has ends of lines or comments inside


class _Builder:
    """Makes a tree of tokens. The text was read by :func:`.json5.parse` before, so it has the form."""

    def __init__(self, text: str) -> None:
        self.tokens: list[_Token] = []
        self.at = 0
        position = _end_of_blank(text, 0)
        lines = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise CoreError(f"what stands at character {position + 1} is not understood")
            self.tokens.append(_Token(found.group(), position, lines))
            position = _end_of_blank(text, found.end())
            lines = len(re.findall(r"\r\n|[\n\r\u2028\u2029]", text[found.end() : position]))

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def comments(self) -> list[_Token]:
        found = []
        while (token := self.peek()) is not None and token.comment:
            found.append(self.next())
        return found

    def item(self, keyed: bool) -> _Item:
        first = self.peek()
        apart = first is not None and first.lines > 1
        above = self.comments()
        key = None
        if keyed:
            key = self.next()
            above += self.comments()
            self.next()  # the colon
            above += self.comments()
        return _Item(self.value(), key, above, apart=apart)

    def value(self) -> _Node:
        node = _Node(self.next())
        closing = _CLOSING.get(node.open.text)
        if closing is None:
            return node
        begin = self.at
        while True:
            comments = self._ahead()
            if self.tokens[self.at + comments].text == closing:
                node.rest = self.comments()
                node.close = self.next()
                break
            item = self.item(closing == "}")
            node.items.append(item)
            self._end_of(item)
        inside = self.tokens[begin : self.at]
        node.broken = any(token.lines or token.comment for token in inside)
        return node

    def _ahead(self) -> int:
        count = 0
        while self.tokens[self.at + count].comment:
            count += 1
        return count

    def _end_of(self, item: _Item) -> None:
        """The comma, and comments that belong to the item because nothing else follows on their line."""
        comments = self._ahead()
        if self.tokens[self.at + comments].text == ",":
            item.after += self.comments()
            self.next()
            item.comma = True
        following = self.at
        while self.tokens[following].comment and not self.tokens[following].lines:
            following += 1
        # Else they are about what follows them on the line.
        if self.tokens[following].lines or self.tokens[following].text in ("}", "]"):
            item.after += self.tokens[self.at : following]
            self.at = following


def _end_of_blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position


def _tree(text: str) -> tuple[_Item, list[_Token]]:
    builder = _Builder(text)
    item = builder.item(False)
    return item, builder.comments()


def format_text(text: str) -> str:
    """Set lines and indents anew. Comments, quotes and numbers stay as they were written.

    :raises Json5Error: it is no JSON5.
    """
    before, _ = parse(text)
    item, rest = _tree(text)
    lines = [*(_comment_lines(item.above, "")), *_printed(item.value, "", "")]
    printed = "\n".join([*lines, *_comment_lines(rest, "", apart=True)]) + "\n"
    after, _ = parse(printed)
    if repr(after) != repr(before) or _comments_of(printed) != _comments_of(text):
        raise CoreError("formatting would change what the text says; it is left as it is")
    return printed


def _comments_of(text: str) -> list[str]:
    return sorted(token.text.rstrip() for token in _Builder(text).tokens if token.comment)


def _comment_lines(comments: Sequence[_Token], indent: str, *, apart: bool = False) -> list[str]:
    lines = []
    for position, comment in enumerate(comments):
        if comment.lines > 1 and (position or apart):
            lines.append("")
        lines.append(indent + comment.text.rstrip())
    return lines


def _printed(node: _Node, indent: str, before: str, after: str = "") -> list[str]:
    """Lines of a value; ``before`` stands on its first line, ``after`` on its last."""
    if node.close is None:
        return [f"{indent}{before}{node.open.text}{after}"]
    line = f"{indent}{before}{_on_one_line(node)}{after}"
    if not node.items and not node.rest:
        return [line]
    if not node.broken and len(line) <= _WIDTH:
        return [line]
    lines = [f"{indent}{before}{node.open.text}"]
    for position, item in enumerate(node.items):
        deeper = indent + _INDENT
        if item.apart and position:
            lines.append("")
        lines += _comment_lines(item.above, deeper)
        lines += _printed(item.value, deeper, f"{item.key.text}: " if item.key else "", ",")
        for count, comment in enumerate(item.after):
            if count and item.after[count - 1].text.startswith("//"):
                lines.append(deeper + comment.text.rstrip())
            else:
                lines[-1] += f" {comment.text.rstrip()}"
    lines += _comment_lines(node.rest, indent + _INDENT, apart=bool(node.items))
    return [*lines, f"{indent}{node.close.text}{after}"]


def _on_one_line(node: _Node) -> str:
    if node.close is None:
        return node.open.text
    parts = [(f"{item.key.text}: " if item.key else "") + _on_one_line(item.value) for item in node.items]
    return f"{node.open.text}{', '.join(parts)}{node.close.text}"


def append_to(text: str, path: Sequence[str], element: Any) -> str:
    """Add an element to the list at a path of keys, and the objects on the way as far as they are missing.

    :raises Json5Error: the text is no JSON5.
    :raises InvalidInput: something else stands where an object or the list has to be.
    """
    text = text if text.strip() else "{}\n"
    value, _ = parse(text)
    node = _tree(text)[0].value
    depth = 0
    while depth < len(path) and isinstance(value, dict) and path[depth] in value:
        node = node.items[list(value).index(path[depth])].value
        value = value[path[depth]]
        depth += 1
    wanted: type = dict if depth < len(path) else list
    if not isinstance(value, wanted):
        name = ".".join(path[:depth]) or "the text"
        raise InvalidInput(f"{name} is {'no object' if wanted is dict else 'no list'}; correct that first")
    added: Any = element
    if depth < len(path):
        added = [element]
        for key in reversed(path[depth + 1 :]):
            added = {key: added}
    return _insert(text, node, path[depth] if depth < len(path) else None, added)


def refuse_twice(text: str, path: Sequence[str], name: str, wanted: str) -> None:
    """:raises Conflict: the list at a path has an element whose ``name`` is ``wanted``."""
    value, places = parse(text if text.strip() else "{}")
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    for index, element in enumerate(value if isinstance(value, list) else []):
        if isinstance(element, dict) and element.get(name) == wanted:
            place: tuple[str | int, ...] = (*path, index)
            raise Conflict(f"{wanted} is there already, in line {places[place][0]}")


def _insert(text: str, node: _Node, key: str | None, value: Any) -> str:
    assert node.close is not None  # noqa: S101 - for the type checker: it is an object or a list
    line = text[text.rfind("\n", 0, node.open.start) + 1 : node.open.start]
    outer = line[: len(line) - len(line.lstrip(" \t"))]
    inner = outer + _INDENT
    member = (f"{_key(key)}: " if key is not None else "") + _shown(value, inner)
    body = text[: node.close.start].rstrip()
    tail = text[node.close.start :]
    if node.items and not node.items[-1].comma:
        end = _last_end(node.items[-1].value)
        body = f"{body[:end]},{body[end:]}"
    return f"{body}\n{inner}{member},\n{outer}{tail}"


def _last_end(node: _Node) -> int:
    return (node.close or node.open).end


def _key(key: str) -> str:
    return key if _NAME.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _shown(value: Any, indent: str) -> str:
    deeper = indent + _INDENT
    if isinstance(value, list):
        inside = "".join(f"{deeper}{_shown(one, deeper)},\n" for one in value)
        return f"[\n{inside}{indent}]"
    if isinstance(value, dict):
        flat = all(not isinstance(one, (dict, list)) for one in value.values())
        if flat:
            return "{" + ", ".join(f"{_key(name)}: {_shown(one, '')}" for name, one in value.items()) + "}"
        inside = "".join(f"{deeper}{_key(name)}: {_shown(one, deeper)},\n" for name, one in value.items())
        return f"{{\n{inside}{indent}}}"
    return json.dumps(value, ensure_ascii=False)
