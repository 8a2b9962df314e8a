"""What the documentation points to exists: links, anchors, paths of the repository, playbooks in commands."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from clawfactory_cli.app import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("roles/*/README.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
#: Named here, so that a page noticeably speaks of a directory that is gone.
DIRECTORIES = {
    "action_plugins", "bench", "bot_template", "callback_plugins", "clawfactory_cli", "controller_app", "docs",
    "filter_plugins", "inventory", "library", "lookup_plugins", "module_utils", "molecule", "playbooks",
    "requirements", "roles", "tests",
}  # fmt: skip
#: Files that a page tells the reader to make.
MADE_BY_READER = {"inventory/host_vars/bot1/main.yml", "inventory/host_vars/bot1/vault.yml"}
#: In the npm package openclaw, as the page says.
OF_OPENCLAW = {"docs/channels/slack/setup.md"}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w/.$>:-])([A-Za-z_]\w*/[\w./{},*<>-]*)")
_PLAYBOOK = re.compile(r"ansible-playbook (?:-\S+ )*(?:\$CHECKOUT/)?([\w./-]+\.yml)")


def slug(heading: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    without_code = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in _HEADING.findall(without_code)}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = target.exists() and ROOT in (target, *target.parents)
        if not inside or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def mentioned_paths(page: Path) -> Iterator[str]:
    """Paths in code that begin with a directory of the repository; without prose, which says "and/or"."""
    for code in _CODE.findall(page.read_text(encoding="utf-8")):
        for match in _PATH.findall(code):
            if match.partition("/")[0] in DIRECTORIES:
                yield match.rstrip(".,")


def expand(path: str) -> list[str]:
    """Spell out ``{a,b}``."""
    parts = [part.split(",") if index % 2 else [part] for index, part in enumerate(re.split(r"[{}]", path))]
    return ["".join(choice) for choice in itertools.product(*parts)]


def exists(path: str) -> bool:
    pattern = re.sub(r"<[\w-]+>", "*", path).rstrip("/")
    return any(ROOT.glob(pattern)) if "*" in pattern else (ROOT / pattern).exists()


def test_pages_are_found():
    assert {"README.md", "docs/architecture.md", "docs/api-keys.md", "roles/host/README.md"} <= set(IDS)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_mentioned_paths_exist(page):
    spelled = {path for mentioned in mentioned_paths(page) for path in expand(mentioned)}
    assert [path for path in sorted(spelled - MADE_BY_READER - OF_OPENCLAW) if not exists(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_playbooks_in_commands_exist(page):
    commands = _PLAYBOOK.findall(page.read_text(encoding="utf-8"))
    assert [path for path in commands if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_of_the_launcher_exist(page):
    known = {*get_command(app).commands, "COMMAND"}
    used = re.findall(r"\./clawfactory ([A-Za-z]+)", "\n".join(_CODE.findall(page.read_text(encoding="utf-8"))))
    assert set(used) - known == set()


def test_missing_things_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](gone.md) [d](../up.md) `roles/{x,y}/z.yml` and roles/prose\n")
    assert broken_links(page) == ["#two", "gone.md", "../up.md"]
    assert [expand(path) for path in mentioned_paths(page)] == [["roles/x/z.yml", "roles/y/z.yml"]]
    assert not exists("roles/x/z.yml")
    assert not exists("roles/<role>/z.yml")
