"""Every page in light, dark and on a phone: nothing sticks out, and axe finds nothing serious."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.chromium import serious
from tests.support.controller_stack import propose
from tests.support.pictures import DOCS, PAGES, PICTURED, PROPOSAL, open_page


@pytest.fixture
def filled(stack):
    """Something to show on every page."""
    jobs = stack.jobs
    files = {
        "workspace/SOUL.md": "# Soul\n\nI am a careful and clear bot.\nI answer within an hour.\nI never guess.\n",
        "workspace/skills/summary/SKILL.md": "---\nname: summary\n---\nSum up long threads in three lines.\n",
    }
    propose(stack.repositories, PROPOSAL, "Say more clearly what I know", files)
    jobs.add_job("snapshot", actor="operator", state="done", result={})
    jobs.add_job("promotion", actor="octocat", source="webhook", state="running")
    return stack


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 390), ("dark", 390)])
def test_pages_fit_and_are_accessible(make_page, filled, scheme, width):
    page = make_page(scheme=scheme, width=width)
    page.goto(PAGES["security"])
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_role("heading", name="The last look is done")).to_be_visible()
    problems = []
    for name in PAGES:
        open_page(page, name)
        page.evaluate("for (const element of document.querySelectorAll('details')) element.open = true")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            problems.append(f"{name} is wider than the window")
        problems += serious(page)
    assert problems == []


def test_every_page_has_its_picture_in_the_documentation():
    names = {f"{name}{end}.png" for name in PAGES for _, _, end in PICTURED} | {"login.png"}
    assert {path.name for path in DOCS.iterdir()} == names


def test_an_inaccessible_page_would_be_found(make_page):
    page = make_page()
    page.locator("main").evaluate("element => { element.innerHTML = '<input><img src=static/icon.svg>'; }")
    found = " ".join(serious(page))
    assert "label" in found and "image-alt" in found


def test_login_is_accessible(browser, address):
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/login")
    found = serious(page)
    context.close()
    assert found == []
