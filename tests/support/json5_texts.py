"""Some JSON5, with everything that may stand between its parts."""

from __future__ import annotations

import random


def scribble(draw: random.Random, depth: int = 0) -> str:
    """Some JSON5 with blanks and comments wherever they may stand."""

    def gap() -> str:
        return draw.choice(["", " ", "\n", "\n\n\n", " // c,{\n", "/* d ] */", "\t/* e\n  f */\n", "\r\n"])

    kind = draw.randrange(4) if depth < 4 else 3
    if kind > 1:
        return draw.choice(["1", "'a'", '"b\\""', "null", "-.5e3", "true", "'it//s'", "'\\\n'", "Infinity"])
    items = []
    for number in range(draw.randrange(4)):
        key = f"{draw.choice(['k', '$_', chr(233)])}{number}" if draw.random() < 0.5 else f"'k {number}'"
        items.append(gap() + (f"{key}{gap()}:{gap()}" if kind == 0 else "") + scribble(draw, depth + 1) + gap())
    inside = ",".join(items) + ("," if items and draw.random() < 0.5 else "") + gap()
    return f"{{{inside}}}" if kind == 0 else f"[{inside}]"
