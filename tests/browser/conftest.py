"""The real controller, and a real Chromium that looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.chromium import chromium, is_complaint
from tests.support.controller_stack import ControllerStack, controller_stack, serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[ControllerStack]:
    with controller_stack(tmp_path) as stack:
        yield stack


@pytest.fixture
def address(stack: ControllerStack) -> Iterator[str]:
    with serving(stack.app) as address:
        yield address


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about."""
    return []


@pytest.fixture
def make_page(
    browser: Browser, stack: ControllerStack, address: str, complaints: list[str]
) -> Iterator[Callable[..., Page]]:
    """Make the page of an operator who is logged in. What a browser complains about fails the test."""
    contexts: list[BrowserContext] = []

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
