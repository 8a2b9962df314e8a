"""Names the bots that failed at the end of a run, and the command that tries just those again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook import Playbook
from ansible.playbook.play import Play
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: clawfactory_summary
type: aggregate
short_description: Bots that failed, why, and how to try them again
description:
  - Says nothing of a run in which no host failed. It writes to stderr, so that what is made of stdout stays as it is.
"""

_MOST = 400
_FROM_SSH = re.compile(r"^(?:Shared c|C)onnection to \S+ closed\.?\s*$", re.MULTILINE)


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible-core has no type information
    """Ansible's entry point."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clawfactory_summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._playbook = ""
        self._targets: dict[str, None] = {}
        self._why: dict[str, str] = {}

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Remember which one it is."""
        self._playbook = playbook._file_name

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember whom it is about; of a play in steps Ansible tells only of those whose turn came."""
        found = play.get_variable_manager().get_vars(play=play, include_hostvars=False)
        self._targets.update(dict.fromkeys(found.get("ansible_play_hosts_all", [])))

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """The last failure of a host is the one that its tasks say when they give up."""
        if not ignore_errors:
            self._why[result.host.get_name()] = _message(result.result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Another kind of failure."""
        self._why[result.host.get_name()] = f"its machine cannot be reached: {_message(result.result)}"

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """The summary."""
        reached = {host: stats.summarize(host) for host in stats.processed}
        failed = [host for host, counts in sorted(reached.items()) if counts["failures"] or counts["unreachable"]]
        if not failed:
            return
        left = [host for host in self._targets if host not in reached]
        lines = [f"{len(failed)} of {len(self._targets)} failed:"]
        lines += [f"  {host}: {self._why.get(host, 'see above')}" for host in failed]
        lines += [f"not tried: {', '.join(left)}"] if left else []
        lines += [f"once that is corrected: {self._command([*failed, *left])}"]
        self._display.display("\n".join(lines), color="red", stderr=True)

    def _command(self, hosts: list[str]) -> str:
        given = context.CLIARGS
        words = ["ansible-playbook", *(str(name) for name in given.get("args") or [self._playbook])]
        words += [word for path in given.get("inventory") or () for word in ("-i", path)]
        words += ["--limit", ",".join(hosts)]
        words += ["--ask-become-pass"] if given.get("become_ask_pass") else []
        words += ["--ask-vault-pass"] if given.get("ask_vault_pass") else []
        # A value may be a secret.
        return shlex.join(words) + (" (and the same --extra-vars)" if given.get("extra_vars") else "")


def _message(result: Mapping[str, Any]) -> str:
    """The first words of why; of a loop those of the item that failed."""
    items = [item for item in result.get("results", ()) if isinstance(item, Mapping) and item.get("failed")]
    own = (items or [result])[0]
    # A command that was sent as it is may have had a terminal, which makes one stream of two. The rest is ssh's own.
    lines = str(own.get("stdout") or "").splitlines() if own.get("rc") else []
    said = _FROM_SSH.sub("", str(own.get("stderr") or "")).strip() or "".join(lines[-1:])
    parts = (str(part or "") for part in (own.get("msg"), said, own.get("censored")))
    text = " ".join(" ".join(parts).split()) or "see above"
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"
