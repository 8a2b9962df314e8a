"""The pages of the dashboard, and their pictures in docs/."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

#: Those in docs/ are made anew with CLAWFACTORY_PICTURES=1; otherwise a run of the tests would change the repository.
DOCS = Path(__file__).parents[2] / "docs" / "screenshots"
#: ``proposal`` is of one that is open with this name.
PROPOSAL = "clearer"
PAGES = {
    "overview": "/",
    "proposals": "/pages/proposals",
    "proposal": f"/pages/proposals/{PROPOSAL}",
    "history": "/pages/history",
    "snapshots": "/pages/snapshots",
    "contents": "/pages/snapshots",
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
#: What a page shows when it has all.
_SETTLED = {"config": "#schema:not(:empty)", "contents": "#take"}
#: Pages whose address depends on what there is: the first link of this name leads there.
_BEHIND = {"contents": "Browse"}
#: What is shown in docs/: scheme, width, and how the names of the pictures end.
PICTURED = (("light", 1100, ""), ("dark", 390, "-phone"))
_LARGEST = 200_000  # bytes


def open_page(page: Page, name: str) -> None:
    """Go there, and wait until all of it is there."""
    page.goto(PAGES[name])
    if name in _BEHIND:
        page.get_by_role("link", name=_BEHIND[name]).first.click()
    page.locator(_SETTLED.get(name, "main")).wait_for()


def picture(page: Page, name: str, directory: Path) -> None:
    """Make the picture of what a page shows; in ``directory`` unless those in docs/ are wanted."""
    path = (DOCS if os.environ.get("CLAWFACTORY_PICTURES") else directory) / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size < _LARGEST
