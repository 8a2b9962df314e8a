"""Keeps Python's garbage collector away from what the processes that Ansible forks share."""

from __future__ import annotations

import gc

from ansible.playbook.play import Play
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: clawfactory_collector
type: aggregate
short_description: Less work for the processes that Ansible forks
description:
  - Ansible forks a process for every task and host. The garbage collector of each would go through everything that was
    loaded before, and by that copy its memory, page for page.
  - Says nothing.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible-core has no type information
    """Ansible's entry point."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clawfactory_collector"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Inventory, playbook and roles are loaded by now, and stay until the end (https://docs.python.org/3/library/gc.html#gc.freeze)."""
        gc.freeze()
