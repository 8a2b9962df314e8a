"""The pages in the order of the navigation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One entry.

    :param path: below the prefix.
    :param title: what the operator reads.
    """

    path: str
    title: str


PAGES = (
    Page("/", "Overview"),
    Page("/pages/proposals", "Proposals"),
    Page("/pages/history", "History"),
    Page("/pages/snapshots", "Snapshots"),
    Page("/pages/memory", "Memory"),
    Page("/pages/devices", "Devices"),
    Page("/pages/logs", "Logs"),
    Page("/pages/security", "Security"),
    Page("/pages/config", "Configuration"),
    Page("/pages/audit", "Audit"),
    Page("/pages/jobs", "Jobs"),
)


def current_page(path: str) -> str:
    """Path of the entry that a page belongs to, empty if to none.

    :param path: of the request, below the prefix.
    """
    if path == "/controller":
        return "/"
    return next((page.path for page in PAGES if path == page.path or path.startswith(f"{page.path}/")), "")
