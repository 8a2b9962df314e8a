"""The configuration's editor in a real browser: it completes, explains and complains; nothing is saved unseen."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.config_machine import TEXT


@pytest.fixture
def editor(make_page):
    """Open the page and wait until the editor knows the schema."""

    def open_page(**options):
        page = make_page(**options)
        page.goto("/pages/config")
        expect(page.locator("#schema")).to_contain_text("OpenClaw 2026.9.6")
        return page

    return open_page


def content(page):
    return page.get_by_role("textbox", name="operator.json5")


def text_of(page):
    return page.locator("#text").input_value()


def write(page, text):
    """Replace the text as a person does, by the keyboard."""
    content(page).click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def test_the_editor_shows_what_is_saved(editor):
    page = editor()
    expect(content(page)).to_contain_text('logging: {level: "info"},')
    expect(page.locator("#text")).to_be_hidden()
    assert text_of(page) == TEXT
    expect(page.locator("#state")).to_contain_text("None found")


def test_a_syntax_error_is_seen_at_its_line(editor):
    page = editor()
    write(page, '{\n  logging: {\n    level "debug",\n  },\n}\n')
    entry = page.locator("#problem-list li")
    expect(entry).to_contain_text("Line 3")
    expect(entry).to_contain_text("a colon is missing after the key")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)
    expect(entry.get_by_role("link", name="Open in editor")).to_have_attribute(
        "href", "vscode://file/srv/clawfactory/bot_repos/bot1/config/operator.json5:3"
    )
