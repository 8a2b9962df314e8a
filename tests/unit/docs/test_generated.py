"""What is made from commands and variables is up to date: docs/generate.py writes it anew."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
_SPEC = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs/generate.py")
assert _SPEC is not None and _SPEC.loader is not None
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)
GENERATED = generate.generated()


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.name)
def test_page_is_up_to_date(page):
    assert page.read_text(encoding="utf-8") == GENERATED[page], "run: .venv/bin/python docs/generate.py"


def test_every_command_and_every_exit_code_is_there():
    text = GENERATED[ROOT / "docs/commands.md"]
    for heading in ("## up\n", "## init\n", "## snapshot restore\n", "## audit verify\n", "## Exit codes\n"):
        assert heading in text
    assert [line.split(" | ")[0] for line in generate.exit_codes()[2:]] == [
        "| 0", "| 1", "| 2", "| 3", "| 4", "| 5", "| 69", "| 130",
    ]  # fmt: skip


def test_every_variable_with_a_default_is_there():
    text = GENERATED[ROOT / "docs/variables.md"]
    names = [name for file in ROOT.glob("roles/*/defaults/main.yml") for name in yaml.safe_load(file.read_text())]
    assert len(names) > 100
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_list_of_pages_has_each_of_them():
    text = GENERATED[ROOT / "docs/README.md"]
    pages = [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md"]
    assert [page for page in pages if f"({page})" not in text] == []


def test_cells_cannot_end_early():
    assert generate.cell("a | b\nc") == "a \\| b c"
    assert (
        generate.row("x", {"type": "str", "description": "C(a|b)"}, {"x": "y|z"}) == "| `x` | str | `y\\|z` | `a\\|b` |"
    )
