"""The configuration's editor in a real browser, at the real OpenClaw: refused at the line, and put back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.bots import Bot, http
from tests.support.polling import wait_for

from .test_controller_gateway import call

#: OpenClaw validates it and refuses to start with it: hooks want a token.
BAD_BUT_VALID = "{hooks: {enabled: true}}"
#: Milliseconds until a gateway was given up and has its old configuration again.
_LONG = 400_000
_CHECK = 120_000  # OpenClaw looks at a text


@pytest.fixture
def editor(bot: Bot, page: Page, operator: dict[str, str]) -> Page:
    # The controller comes back to a gateway that has just started a moment after that is ready.
    wait_for("the schema", lambda: call(bot, operator, "GET", "/gateway/config/schema").status == 200, 180)
    page.goto("/pages/config")
    expect(page.locator("#schema")).to_contain_text("Names and values are those of OpenClaw", timeout=60_000)
    return page


def write(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="operator.json5").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def installed(bot: Bot) -> Path:
    return bot.root / "bot_repos" / bot.name / "config" / "operator.json5"


def test_the_schema_of_the_running_openclaw_helps(editor: Page) -> None:
    write(editor, "{\n  channels: {telegram: {enabled: true}},\n  logging: {level: 'loud'},\n}\n")
    expect(editor.locator("#problem-list li")).to_have_count(1)
    expect(editor.locator("#problem-list li")).to_contain_text('Line 3 logging.level has to be one of "silent"')
    editor.get_by_text("enabled", exact=True).hover()
    expect(editor.locator(".cm-tooltip .help")).to_contain_text("channels.telegram.enabled")


def test_a_broken_text_is_refused_at_its_line(bot: Bot, editor: Page) -> None:
    before = installed(bot).read_bytes()
    write(editor, "{\n  // mine\n  logging: {level: 'loud'},\n}\n")
    editor.get_by_role("button", name="Review and save…").click()
    editor.wait_for_url("**/pages/config/review", timeout=_CHECK)
    entry = editor.locator("#problem-list li").filter(has_text="logging.level").first
    expect(entry).to_contain_text("Line 3")
    entry.get_by_role("link", name="Line 3").click()
    expect(editor.locator(".cm-activeLine")).to_contain_text("loud")
    assert installed(bot).read_bytes() == before


def test_a_bad_but_valid_text_is_put_back(bot: Bot, editor: Page) -> None:
    before = installed(bot).read_bytes()
    write(editor, BAD_BUT_VALID)
    editor.get_by_role("button", name="Review and save…").click()
    expect(editor.get_by_role("heading", level=1)).to_have_text("Save this change?", timeout=_CHECK)
    editor.get_by_role("button", name=f"Save and restart {bot.name}").click()
    expect(editor.get_by_role("heading", level=1)).to_contain_text(
        "Change of the configuration has failed", timeout=_LONG
    )
    expect(editor.locator("#job")).to_contain_text("configuration of before")
    assert installed(bot).read_bytes() == before
    wait_for("a ready gateway", lambda: http(f"{bot.gateway_url}/readyz", timeout=10).status == 200, 120)
    editor.get_by_role("link", name="Back to the configuration").click()
    expect(editor.get_by_role("button", name="Take it up")).to_be_visible()


def test_a_good_change_is_saved_and_taken_back(bot: Bot, editor: Page) -> None:
    before = installed(bot).read_text()
    write(editor, before.rstrip().removesuffix("}") + "  logging: {level: 'debug'},\n}\n")
    editor.get_by_role("button", name="Review and save…").click()
    expect(editor.get_by_role("heading", level=1)).to_have_text("Save this change?", timeout=_CHECK)
    editor.get_by_role("button", name=f"Save and restart {bot.name}").click()
    expect(editor.get_by_role("heading", level=1)).to_have_text("Change of the configuration is done", timeout=_LONG)
    assert "debug" in installed(bot).read_text()
    editor.goto("/pages/config/revert")
    editor.get_by_role("button", name=f"Go back and restart {bot.name}").click()
    done = "Return to the configuration of before is done"
    expect(editor.get_by_role("heading", level=1)).to_have_text(done, timeout=_LONG)
    assert installed(bot).read_text() == before
