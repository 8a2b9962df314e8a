"""The real controller, and a real Chromium that looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.controller_stack import ControllerStack, controller_stack, serving

#: It runs as whoever runs the tests, also as root, and looks at this machine alone.
_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
]  # fmt: skip


def is_complaint(message: ConsoleMessage) -> bool:
    """An error of a page or of the server; that a request was refused is what some tests are about."""
    return message.type == "error" and "responded with a status of 4" not in message.text


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "there is no chromium; './clawfactory test browser' installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[ControllerStack]:
    with controller_stack(tmp_path) as stack:
        yield stack


@pytest.fixture
def address(stack: ControllerStack) -> Iterator[str]:
    with serving(stack.app) as address:
        yield address


@pytest.fixture
def make_page(browser: Browser, stack: ControllerStack, address: str) -> Iterator[Callable[..., Page]]:
    """Make the page of an operator who is logged in. What a browser complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def make(*, scheme: str = "light", width: int = 1100, scripts: bool = True) -> Page:
        size = {"width": width, "height": 800}
        context = browser.new_context(color_scheme=scheme, viewport=size, java_script_enabled=scripts, base_url=address)
        contexts.append(context)
        context.add_init_script("window.alert = () => { document.title = 'code of the bot ran'; };")
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(address) else complaints.append(request.url))
        page.goto(f"/?token={stack.token}")
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []
