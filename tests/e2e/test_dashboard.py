"""The operator in a real browser, the real OpenClaw behind it: what is decided on a page is what becomes of the bot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from playwright.sync_api import Page, expect

from clawfactory_core import audit
from tests.support.bots import Bot, http
from tests.support.chromium import serious
from tests.support.pictures import PAGES, PICTURED, PROPOSAL, open_page, picture
from tests.support.polling import wait_for

from .proposing import approved_commit, play, propose, seen
from .test_controller_gateway import ask_in

#: Milliseconds for what the machine does: a promotion makes a snapshot and starts the gateway.
_LONG = 400_000
#: In the gateway; a note of the bot is no approved file.
_NOTE = "/home/node/.openclaw/workspace/note-of-the-dashboard.md"
_REMEMBERED, _CHANGED = "as it was", "changed since"
_CLEAR = "I say what I know, and what I do not."
_KIND, _LOUD = "I am kind, says the dashboard's test.", "I SHOUT."


def decisions(bot: Bot) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bot.root / "audit" / f"{bot.name}.jsonl").read_text().splitlines()]


class TestDashboard:
    """In this order: a bot that is locked at the end is unlocked for whatever comes next."""

    def test_a_diff_is_read_and_promoted_and_the_bot_changes(self, bot: Bot, page: Page) -> None:
        answer = propose(bot, "dashboard-kind", f'echo "{_KIND}" >> workspace/SOUL.md', "Be kind")
        assert "status=0" in answer, answer
        assert _KIND not in seen(bot, "SOUL.md")
        before = approved_commit(bot)
        page.goto("/pages/proposals")
        page.get_by_role("link", name="Be kind").click()
        expect(page.locator("td.new").filter(has_text=_KIND)).to_be_visible()
        page.get_by_role("button", name="Promote this change").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Promotion is done", timeout=_LONG)
        assert _KIND in seen(bot, "SOUL.md")
        assert approved_commit(bot) != before
        page.goto("/")
        expect(page.get_by_text(approved_commit(bot))).to_be_visible()

    def test_a_proposal_is_denied_with_a_reason(self, bot: Bot, page: Page) -> None:
        propose(bot, "dashboard-loud", f'echo "{_LOUD}" >> workspace/SOUL.md', "Be loud")
        page.goto("/pages/proposals/dashboard-loud")
        page.get_by_label("Reason").fill("Nobody likes that.")
        page.get_by_role("button", name="Deny this change").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Denial is done", timeout=_LONG)
        assert _LOUD not in seen(bot, "SOUL.md")

    def test_a_device_asks_is_approved_and_gets_in(self, bot: Bot, page: Page) -> None:
        key = SigningKey(os.urandom(32))
        request = ask_in(bot, key)["error"]["details"]["requestId"]
        page.goto("/pages/devices")
        expect(page.get_by_text("this controller")).to_be_visible()
        card = page.get_by_role("listitem").filter(has_text=request)
        card.get_by_text("Let in, or turn away").click()
        card.get_by_role("button", name="Approve e2e").click()
        expect(page.get_by_role("status")).to_contain_text("The device is let in")
        assert ask_in(bot, key)["ok"]
        lines = [line for line in decisions(bot) if line.get("request") == request]
        assert [(line["event"], line["actor"], line["outcome"]) for line in lines] == [
            ("device.approve", "operator", "asked"),
            ("device.approve", "operator", "done"),
        ]
        assert lines[0]["subject"].endswith(" operator operator.read operator.write")

    def test_the_log_is_followed(self, bot: Bot, page: Page) -> None:
        page.goto("/pages/logs?tail=1000")
        log = page.get_by_role("log")
        expect(log).to_contain_text("[gateway] ready")
        lines = log.locator("p").count()
        ask_in(bot, SigningKey(os.urandom(32)))  # a device that is not let in is worth a line to the gateway
        expect(log.locator("p").nth(lines)).to_be_visible(timeout=30_000)
        assert bot.token not in log.inner_text()

    def test_openclaws_own_audit_is_shown(self, page: Page) -> None:
        page.goto("/pages/security")
        page.get_by_role("button", name="Look now").click()
        expect(page.get_by_role("heading", name="It is looked at")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="The last look is done")).to_be_visible(timeout=130_000)
        expect(page.get_by_role("heading", name="What was found")).to_be_visible()

    def test_a_snapshot_is_made(self, bot: Bot, page: Page) -> None:
        assert bot.sh(f"echo '{_REMEMBERED}' > {_NOTE}").returncode == 0
        page.goto("/pages/snapshots")
        page.get_by_label("Label (letters").fill("dashboard")
        page.get_by_role("button", name="Make a snapshot").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Snapshot is done", timeout=_LONG)
        assert list((bot.root / "snapshots" / bot.name).glob("dashboard--*.tar.zst.age"))

    def test_that_snapshot_is_restored_and_the_bot_is_as_it_was(self, bot: Bot, page: Page) -> None:
        assert bot.sh(f"echo '{_CHANGED}' > {_NOTE} && cat {_NOTE}").stdout.strip() == _CHANGED
        page.goto("/pages/snapshots")
        card = page.get_by_role("listitem").filter(has_text="dashboard--")
        card.get_by_text("Restore, rename or delete").click()
        restore = card.get_by_role("region", name="Restore dashboard--")
        restore.get_by_label("Type e2e to confirm").fill(bot.name)
        restore.get_by_role("button", name="Restore").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Restore is done", timeout=_LONG)
        assert bot.sh(f"cat {_NOTE}").stdout.strip() == _REMEMBERED

    def test_every_page_is_usable_and_pictured(self, bot: Bot, page: Page, tmp_path: Path) -> None:
        propose(bot, PROPOSAL, f'echo "{_CLEAR}" >> workspace/SOUL.md', "Say more clearly what I know")
        logged_in = page.context.storage_state()
        problems = []
        for scheme, width, ending in PICTURED:
            looks = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
            with page.context.browser.new_context(base_url=bot.controller_url, storage_state=logged_in, **looks) as one:
                for name in PAGES:
                    opened = one.new_page()
                    open_page(opened, name)
                    picture(opened, f"{name}{ending}", tmp_path)
                    problems += serious(opened)
                    opened.close()
        with page.context.browser.new_context(base_url=bot.controller_url) as stranger:
            opened = stranger.new_page()
            opened.goto("/login")
            picture(opened, "login", tmp_path)
        assert problems == []

    def test_the_bot_is_locked_and_its_logs_are_whole(self, bot: Bot, page: Page) -> None:
        page.goto("/pages/lock")
        page.get_by_label("Type e2e to confirm").fill("e2e")
        page.get_by_role("button", name="Lock e2e now").click()
        try:
            expect(page.get_by_role("heading", level=1)).to_have_text("e2e is locked")
            wait_for("the end of the gateway", lambda: not bot.inspect("gateway")["State"]["Running"], 30)
            assert audit.verify(bot.root / "audit" / f"{bot.name}.jsonl").problems == ()
            play(bot, "verify-audit").succeeded()
        finally:
            play(bot, "unlock").succeeded()
        wait_for("a ready gateway", lambda: http(f"{bot.gateway_url}/readyz", timeout=10).status == 200, 120)
