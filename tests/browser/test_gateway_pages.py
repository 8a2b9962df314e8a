"""An operator in a real browser, about the gateway: who may talk to the bot, what it says, and its restart."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from clawfactory_core.jobs.protocol import Refusal
from tests.support.broker_socket import piece
from tests.support.controller_stack import HOSTILE, fill_gateway

EXEC = "POST /containers/clawfactory-bot1-gateway/exec"
RESTART = "POST /containers/clawfactory-bot1-gateway/restart"


@pytest.mark.parametrize("scripts", [True, False])
def test_let_a_device_in(make_page, stack, scripts):
    page = make_page(scripts=scripts)
    page.get_by_role("link", name="Devices").click()
    card = page.get_by_role("listitem").filter(has_text="Firefox on Linux")
    expect(card.get_by_text("since 2026-11-28 19:15 UTC")).to_be_visible()
    expect(card.get_by_role("button", name="Approve Firefox on Linux")).to_be_hidden()
    card.get_by_text("Let in, or turn away").click()
    expect(card.get_by_text("everything that an operator of bot1's OpenClaw may")).to_be_visible()
    card.get_by_role("button", name="Approve Firefox on Linux").click()
    expect(page.get_by_role("status")).to_have_text("The device is let in, with all that it asked for.")
    assert [line["outcome"] for line in stack.jobs.asked("decided")] == ["asked", "done"]
    assert "device.pair.approve" in [request["method"] for request in stack.rpc.requests]


def test_turn_a_device_away_by_keyboard(make_page, stack):
    page = make_page()
    page.goto("/pages/devices")
    page.get_by_text("Let in, or turn away").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # the audit
    page.keyboard.press("Tab")  # Approve
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Reject Firefox on Linux")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The device is turned away. It may ask again.")
    assert stack.jobs.asked("decided")[-1]["decision"] == "device.reject"


def test_let_somebody_in_a_chat_talk_to_the_bot(make_page, stack):
    page = make_page()
    page.goto("/pages/devices")
    card = page.get_by_role("listitem").filter(has_text="Telegram account default")
    card.get_by_text("Let in").click()
    expect(card.get_by_text("They become no owner of it")).to_be_visible()
    card.get_by_label("Tell them in the chat").check()
    card.get_by_role("button", name="Approve 123456789 in telegram").click()
    expect(page.get_by_role("status")).to_have_text("Whoever asked may talk to bot1 in telegram now.")
    (request,) = [one for one in stack.rpc.requests if one["method"] == "channels.pairing.approve"]
    assert request["params"]["notify"] is True and request["params"]["requestId"] == "b3b4ab1b1f0d4c7f"


def test_what_cannot_be_written_down_is_a_page_that_says_so(make_page, stack):
    stack.jobs.answers["decided"] = Refusal(429, "Too many", "decide in 5 minutes")
    page = make_page()
    page.goto("/pages/devices")
    page.get_by_text("Let in, or turn away").first.click()
    page.get_by_role("button", name="Approve Firefox on Linux").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing was done, because it cannot be written down")
    assert "device.pair.approve" not in [request["method"] for request in stack.rpc.requests]


def test_a_log_is_followed_paused_and_chosen(make_page, stack):
    page = make_page()
    page.get_by_role("link", name="Logs").click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("ready (3 channels)")
    # A line of the bot's is text, over the stream too; what would steer a terminal is gone.
    expect(log).to_contain_text(HOSTILE)
    expect(log.locator("script, img")).to_have_count(0)
    assert "\x1b" not in log.inner_text()
    expect(log.locator("time").first).to_have_text("2026-11-22 10:00:00")
    # The stand-in's log ends; the page says so and offers to go on.
    expect(page.get_by_text("The log has ended: gateway does not run.")).to_be_visible()
    fill_gateway(stack, attack="")
    page.get_by_role("link", name="Follow again").click()
    expect(log).to_contain_text("cron: nothing is due")
    expect(log).not_to_contain_text(HOSTILE)
    page.get_by_role("link", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("Paused. These are the last 4 lines")
    stack.broker.log(piece(b"2026-11-22T10:00:00Z egress: nothing refused\n"), "egress")
    page.get_by_label("Part").select_option("egress")
    page.get_by_label("Lines from before").select_option("500")
    page.get_by_role("button", name="Show").click()
    expect(log).to_contain_text("egress: nothing refused")
    assert "tail=500" in stack.broker.requests[-1][1] and "-egress/logs" in stack.broker.requests[-1][0]


def test_lines_appear_while_one_looks_and_a_page_that_connects_again_shows_none_twice(make_page, stack):
    page = make_page()
    page.goto("/pages/logs")
    log = page.get_by_role("log")
    expect(page.get_by_text("The log has ended")).to_be_visible()
    count = log.locator("p").count()
    assert count == 5
    # What a browser does by itself after a broken connection.
    page.evaluate("htmx.ajax('GET', location.href, {target: 'main', select: 'main', swap: 'outerHTML'})")
    expect(page.get_by_text("The log has ended")).to_be_visible()
    expect(log.locator("p")).to_have_count(count)


def test_a_log_without_scripts(make_page, stack):
    page = make_page(scripts=False)
    page.goto("/pages/logs")
    page.get_by_role("link", name="Show the last lines").click()
    expect(page.get_by_role("log")).to_contain_text("ready (3 channels)")


def test_a_security_audit_survives_a_reload_and_tells_what_to_do(make_page, stack):
    stack.broker.held.add(EXEC)
    page = make_page()
    page.get_by_role("link", name="Security").click()
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_role("heading", name="It is looked at")).to_be_visible()
    page.reload()
    expect(page.get_by_role("progressbar")).to_be_visible()
    stack.broker.held.clear()
    # Nobody reloads it any more.
    expect(page.get_by_role("heading", name="The last look is done")).to_be_visible()
    finding = page.get_by_role("listitem").filter(has_text="State directory is readable by others")
    expect(finding).to_contain_text("What to do: chmod 700 ~/.openclaw")
    expect(finding).to_contain_text(HOSTILE)
    expect(page.locator("main script, main img")).to_have_count(0)
    headings = page.get_by_role("heading", level=3).all_inner_texts()
    assert headings == ["Critical", "Warnings", "For your information"]
    stack.broker.command(piece(b"no report"))
    page.get_by_role("button", name="Look again now").click()
    expect(page.get_by_role("heading", name="The last look failed")).to_be_visible()
    expect(page.get_by_text("did not print a report")).to_be_visible()
    expect(finding).to_be_visible()


def test_restart_says_before_and_after(make_page, stack):
    stack.broker.held.add(RESTART)
    page = make_page()
    page.get_by_role("link", name="Restart…").click()
    expect(page.get_by_text("Turns that go on get twenty seconds to end")).to_be_visible()
    page.get_by_role("button", name="Restart the gateway now").click()
    expect(page.get_by_role("status")).to_contain_text("is being restarted")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("is being restarted")
    stack.gateway.set_state(503, "starting")
    stack.broker.held.clear()
    expect(page.get_by_role("status")).to_contain_text("OpenClaw is still starting")
    stack.gateway.set_state(200, "started")
    expect(page.get_by_role("status")).to_contain_text("and OpenClaw is ready")
    assert [line["outcome"] for line in stack.jobs.asked("decided")] == ["asked", "done"]
