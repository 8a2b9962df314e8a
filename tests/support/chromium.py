"""The browser of the tests."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page, sync_playwright

#: It runs as whoever runs the tests, also as root, and looks at this machine alone.
_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
]  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run it while the block is open. A process has one at a time; see :func:`launched` for another."""
    with sync_playwright() as playwright, launched(playwright.chromium) as browser:
        yield browser


@contextlib.contextmanager
def launched(kind: BrowserType, *arguments: str) -> Iterator[Browser]:
    """Run a browser of this kind while the block is open, by the Playwright that runs already.

    :param arguments: of its command line, besides those of all tests.
    """
    path = shutil.which("chromium")
    assert path, "there is no chromium; './clawfactory test browser' installs it"
    browser = kind.launch(executable_path=path, args=[*_ARGUMENTS, *arguments])
    try:
        yield browser
    finally:
        browser.close()


def serious(page: Page) -> list[str]:
    """What axe finds on a page that keeps somebody from using it."""
    return [
        f"{page.url}: {one['id']}, {one['nodes'][0]['html'][:200]}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


#: What browser and htmx say of a server that is away for a moment.
_AWAY = ("Failed to load resource", "net::ERR_", "htmx:sendError", "htmx:responseError", "htmx:sseError")


def is_complaint(message: ConsoleMessage, *, restarts: bool = False) -> bool:
    """An error of a page or of the server; that a request was refused is what some tests are about.

    :param restarts: gateway and controller are restarted meanwhile: that they do not answer then is no error.
    """
    if message.type != "error" or "responded with a status of 4" in message.text:
        return False
    return not (restarts and message.text.startswith(_AWAY))
