"""Every page in light, dark and on a phone: nothing sticks out, axe finds nothing serious, docs/ gets its pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.chromium import serious
from tests.support.controller_stack import HOSTILE, fill_gateway, propose

#: Those in docs/ are made anew with CLAWFACTORY_PICTURES=1; otherwise a run of the tests would change the repository.
_DOCS = Path(__file__).parents[2] / "docs" / "screenshots"
PAGES = {
    "overview": "/",
    "proposals": "/pages/proposals",
    "proposal": "/pages/proposals/clearer",
    "history": "/pages/history",
    "snapshots": "/pages/snapshots",
    "memory": "/pages/memory",
    "devices": "/pages/devices",
    "logs": "/pages/logs?follow=false",
    "security": "/pages/security",
    "restart": "/pages/restart",
    "config": "/pages/config",
    "audit": "/pages/audit",
    "jobs": "/pages/jobs",
    "lock": "/pages/lock",
}
#: What is shown in docs/: scheme and width.
PICTURED = (("light", 1100), ("dark", 390))
_LARGEST = 200_000  # bytes


@pytest.fixture
def peaceful(stack):
    """A bot without attacks in its texts, as a reader of the documentation should see it."""
    jobs = stack.jobs
    files = {
        "workspace/SOUL.md": "# Soul\n\nI am a careful and clear bot.\nI answer within an hour.\nI never guess.\n",
        "workspace/skills/summary/SKILL.md": "---\nname: summary\n---\nSum up long threads in three lines.\n",
    }
    propose(stack.repositories, "clearer", "Say more clearly what I know", files)
    for name in ("egress_info", "promotion_info", "audit", "snapshots"):
        jobs.answers[name] = _without_attacks(jobs.answers[name])
    fill_gateway(stack, attack="")
    jobs.add_job("snapshot", actor="operator", state="done", result={})
    jobs.add_job("promotion", actor="octocat", source="webhook", state="running")
    return stack


def _without_attacks(found):
    if isinstance(found, dict):
        return {name: _without_attacks(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_without_attacks(value) for value in found]
    return found.replace(HOSTILE, "code E404") if isinstance(found, str) else found


def picture(page, name, directory: Path) -> None:
    path = (_DOCS if os.environ.get("CLAWFACTORY_PICTURES") else directory) / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size < _LARGEST


SETTLED = {"config": "#schema:not(:empty)"}


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 390), ("dark", 390)])
def test_pages_fit_and_are_accessible(make_page, peaceful, tmp_path, scheme, width):
    page = make_page(scheme=scheme, width=width)
    page.goto(PAGES["security"])
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_role("heading", name="The last look is done")).to_be_visible()
    problems = []
    for name, path in PAGES.items():
        page.goto(path)
        page.locator(SETTLED.get(name, "main")).wait_for()
        if (scheme, width) in PICTURED:
            picture(page, name if width > 500 else f"{name}-phone", tmp_path)
        page.evaluate("for (const element of document.querySelectorAll('details')) element.open = true")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            problems.append(f"{name} is wider than the window")
        problems += serious(page)
    assert problems == []


def test_every_page_has_its_picture_in_the_documentation():
    names = {f"{name}{end}.png" for name in PAGES for end in ("", "-phone")} | {"login.png"}
    assert {path.name for path in _DOCS.iterdir()} == names


def test_an_inaccessible_page_would_be_found(make_page):
    page = make_page()
    page.locator("main").evaluate("element => { element.innerHTML = '<input><img src=static/icon.svg>'; }")
    found = " ".join(serious(page))
    assert "label" in found and "image-alt" in found


def test_login_is_accessible(browser, address, tmp_path):
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/login")
    picture(page, "login", tmp_path)
    found = serious(page)
    context.close()
    assert found == []
