"""The operator's configuration: to show it, to have it looked at, to change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .protocol import Refusal
from .work import Report, Work

CONFIG_KINDS = ("config", "config_revert")
_MAX_DETAIL = 4000
_JOURNAL = "config-change.json"


def has_unsettled_config(root: Path, bot: str) -> bool:
    """Whether a crash left a change in the middle."""
    return (root / "promotion" / bot / _JOURNAL).exists()


def settle_config(root: Path, bot: str, seconds: float) -> bool:
    """Undo it.

    :returns: whether there was one.
    """
    from ..config_edit import settle
    from ..promotion.state import load

    return has_unsettled_config(root, bot) and settle(load(root, bot), wait_seconds=seconds)


def _save(work: Work, report: Report) -> dict[str, Any]:
    from ..config_edit import ConfigChange, Outdated, PutBack, save
    from ..promotion.state import load

    text = work.options["text"] if work.kind == "config" else None
    change = ConfigChange(text, work.options["base"], work.actor, work.source)
    try:
        return save(load(work.root, work.bot), change, report)
    except Outdated as error:
        raise Refusal(412, "Changed meanwhile", str(error)) from error
    except PutBack as error:
        raise Refusal(422, "Put back", str(error)[:_MAX_DETAIL]) from error


def _info(work: Work, _report: Report) -> dict[str, Any]:
    from ..config_edit import describe
    from ..promotion.state import load

    return describe(load(work.root, work.bot))


def _check(work: Work, _report: Report) -> dict[str, Any]:
    from ..config_edit import check
    from ..promotion.state import load

    problems = check(load(work.root, work.bot), work.options.get("text"))
    return {"problems": [problem.to_dict() for problem in problems]}


def _ollama(work: Work, _report: Report) -> dict[str, Any]:
    from ..config_edit import describe
    from ..ollama import find_models
    from ..promotion.state import load

    return find_models(describe(load(work.root, work.bot))["managed"])


CONFIG_WORK: dict[str, Callable[[Work, Report], dict[str, Any]]] = {
    "config": _save,
    "config_revert": _save,
    "config_info": _info,
    "config_check": _check,
    "ollama_info": _ollama,
}
