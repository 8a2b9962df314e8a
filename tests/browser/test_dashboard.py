"""An operator in a real browser: reads, decides, and sees what came of it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from controller_app.navigation import PAGES
from tests.support.controller_stack import HOSTILE, NEWEST, propose


def test_log_in_and_out(browser, stack, address):
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/pages/snapshots")
    expect(page).to_have_url(f"{address}/login")
    page.get_by_label("Controller token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not this controller's token")
    page.get_by_label("Controller token").fill(stack.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("bot1 is running")
    page.get_by_role("button", name="Log out").click()
    page.goto("/")
    expect(page).to_have_url(f"{address}/login")
    context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_read_a_diff_and_promote_it(make_page, stack, scripts):
    soul = {"workspace/SOUL.md": "# Soul\n\nI am a careful and kind bot.\nI answer within a minute.\nI never guess.\n"}
    sha = propose(stack.repositories, "kinder", "Be kinder", soul)
    page = make_page(scripts=scripts)
    page.get_by_role("link", name="Read and decide").click()
    page.get_by_role("link", name="Be kinder").click()
    line = page.get_by_role("row").filter(has_text="careful").first
    expect(line.locator("del, ins")).to_have_text(["and kind "])
    expect(line.locator(".old")).to_have_text("I am a careful bot.")
    expect(line.locator(".new")).to_have_text("I am a careful and kind bot.")
    page.get_by_role("button", name="Promote this change").click()
    assert stack.jobs.asked("promotion") == [
        {"actor": "operator", "source": "dashboard", "proposal": "kinder", "expected_sha": sha}
    ]
    if scripts:
        # The page follows the job: nobody reloads it.
        expect(page.get_by_role("heading", level=1)).to_have_text("Promotion is done")
        expect(page.get_by_text("got ready with it")).to_be_visible()
    else:
        expect(page.get_by_role("heading", level=1)).to_have_text("Promotion waits for its turn")


def test_a_job_survives_a_reload_of_its_page(make_page, stack):
    job = stack.jobs.add_job("snapshot", actor="operator", state="running")
    page = make_page()
    page.goto(f"/pages/jobs/{job['id']}")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Snapshot is done")
    page.reload()
    expect(page.get_by_text(f"Snapshot {NEWEST} is made")).to_be_visible()


def test_deny_with_a_reason(make_page, stack):
    propose(stack.repositories, "louder", "Speak louder", {"workspace/SOUL.md": "I SHOUT.\n"})
    page = make_page()
    page.goto("/pages/proposals/louder")
    page.get_by_role("button", name="Deny this change").click()
    assert stack.jobs.asked("deny") == [], "without a reason the browser itself refuses"
    page.get_by_label("Reason").fill("Nobody likes that.")
    page.get_by_role("button", name="Deny this change").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Denial is done")
    assert stack.jobs.asked("deny") == [{"actor": "operator", "proposal": "louder", "reason": "Nobody likes that."}]


def test_roll_back(make_page, stack):
    page = make_page()
    page.goto("/pages/history")
    page.get_by_text("Roll back to this").click()
    expect(page.get_by_text("What it remembers stays")).to_be_visible()
    page.get_by_role("button", name="Roll back to 111111111111").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Rollback is done")
    assert stack.jobs.asked("rollback") == [{"actor": "operator", "sha": "1" * 40}]


def test_snapshots_are_made_verified_and_downloaded(make_page, stack):
    page = make_page()
    page.goto("/pages/snapshots")
    page.get_by_label("Label (letters").fill("by hand")
    page.get_by_role("button", name="Make a snapshot").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Snapshot is done")
    assert stack.jobs.asked("snapshot") == [{"actor": "operator", "label": "by hand"}]
    page.goto("/pages/snapshots")
    page.get_by_role("button", name=f"Verify {NEWEST}").click()
    expect(page.get_by_text("its archives are as they were recorded")).to_be_visible()
    page.goto("/pages/snapshots")
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {NEWEST}").click()
    assert download.value.suggested_filename == f"{NEWEST}.full.tar.zst.age"


def test_restore_asks_for_the_name_and_says_what_happened(make_page, stack):
    page = make_page()
    page.goto("/pages/snapshots")
    page.get_by_text("Restore, rename or delete").first.click()
    expect(page.get_by_text("bot1 is stopped, its state is replaced").first).to_be_visible()
    region = page.get_by_role("region", name=f"Restore {NEWEST}")
    region.get_by_label("Type bot1 to confirm").fill("bot2")
    region.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert stack.jobs.asked("snapshot_restore") == []
    page.go_back()
    page.get_by_text("Restore, rename or delete").first.click()
    region.get_by_label("Type bot1 to confirm").fill("bot1")
    region.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("before-restore--2026-11-22T11-00-00Z")).to_be_visible()
    assert stack.jobs.asked("snapshot_restore") == [{"actor": "operator", "snapshot": NEWEST}]


def test_without_the_key_the_page_names_the_playbook(make_page, stack):
    stack.jobs.answers["machine_info"] = {
        "machine": {"locked": False, "key": False, "free_bytes": 1 << 30, "total_bytes": 2 << 30}
    }
    page = make_page()
    page.goto("/pages/snapshots")
    page.get_by_text("Restore, rename or delete").first.click()
    expect(page.get_by_text(f"playbooks/restore.yml -l bot1 -e restore_name={NEWEST}")).to_be_visible()
    expect(page.get_by_role("button", name="Restore")).to_have_count(0)


def test_lock_sends_name_and_reason(make_page, stack):
    page = make_page()
    page.get_by_role("link", name="Lock…", exact=True).click()
    expect(page.get_by_text("It cannot be unlocked here")).to_be_visible()
    page.get_by_label("Type bot1 to confirm").fill("bot2")
    page.get_by_role("button", name="Lock bot1 now").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    page.goto("/pages/lock")
    page.get_by_label("Type bot1 to confirm").fill("bot1")
    page.get_by_label(re.compile("^Reason")).fill("it talks to strangers")
    page.get_by_role("button", name="Lock bot1 now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("bot1 is locked")
    expect(page.get_by_text("playbooks/unlock.yml -l bot1")).to_be_visible()
    assert stack.jobs.asked("lock") == [{"actor": "operator", "reason": "it talks to strangers"}]


def test_what_a_bot_writes_is_text_everywhere(make_page, stack):
    propose(stack.repositories, "hostile", f"{HOSTILE}\x1b[31m\u202e", {"workspace/<b>x.md": f"{HOSTILE}\n"})
    job = stack.jobs.add_job("snapshot", actor="operator", state="running", options={"label": HOSTILE})
    stack.jobs.add_job("deny", actor=HOSTILE, state="failed", error={"status": 500, "title": "x", "detail": HOSTILE})
    page = make_page()
    for path in ("/", "/pages/proposals", "/pages/proposals/hostile", "/pages/history", "/pages/snapshots",
                 "/pages/devices", "/pages/logs", "/pages/logs?follow=false", "/pages/audit", "/pages/jobs",
                 f"/pages/jobs/{job['id']}"):  # fmt: skip
        page.goto(path)
        expect(page.locator("main")).to_contain_text("alert(1)")
        assert page.locator("main script, main img, main b").count() == 0, path
        assert "code of the bot" not in page.title()
    # What came over the stream is text, too.
    expect(page.get_by_role("heading", level=1)).to_have_text("Snapshot is done")
    expect(page.locator("#job")).to_contain_text("alert(1)")
    assert page.locator("#job script, #job img").count() == 0


def test_the_overview_looks_again_by_itself(make_page, stack):
    page = make_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("bot1 is running")
    stack.gateway.set_state(503, "starting")
    # What happens every 15 seconds, every second: what is said of the gateway may be three seconds old.
    look = "htmx.ajax('GET', '/', {target: '#live', select: '#live', swap: 'outerHTML'})"
    page.evaluate(f"setInterval(() => {look}, 1000)")
    expect(page.get_by_role("heading", level=1)).to_have_text("bot1 is starting", timeout=30_000)


def test_every_page_can_be_reached_and_left_by_keyboard(make_page):
    page = make_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = []
    page.goto("/")
    for _ in range(len(PAGES) + 8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    for page_of_all in PAGES:
        assert page_of_all.title in reached
