"""Changing the operator's own layer of the configuration, ``operator.json5``, while the bot runs.

The text is kept as it is, comments included. OpenClaw validates it first; what was there is kept as known good; a
gateway that does not get ready with the new one gets the old one back. ``config-change.json`` beside the settings of
promotion says that this is going on, for whoever comes after a crash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config_check import LARGEST_TEXT, Ask, Problem, asking_image, check_text
from .config_install import KNOWN_GOOD, MANAGED, OPERATOR, keep_known_good
from .errors import Conflict, CoreError, InvalidInput
from .files import sync_directory, write_atomic
from .promotion.events import audit, last_words
from .promotion.gateway import GatewayControl
from .promotion.recovery import gateway_of
from .promotion.state import BotPromotion, now, promotion_lock, refuse_locked
from .snapshots.progress import Progress

_NAMED = 3
_JOURNAL = "config-change.json"


class Outdated(Conflict):
    """Somebody else changed the file since it was read."""


class Refused(InvalidInput):
    """OpenClaw or we refuse the text; nothing has changed."""

    def __init__(self, problems: list[Problem]) -> None:
        shown = "; ".join(f"{_where(problem)}{problem.message}" for problem in problems[:_NAMED])
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        super().__init__(f"the configuration is refused, nothing has been changed: {shown}{more}")


class PutBack(CoreError):
    """The gateway did not get ready with the new text and has the old one again."""


@dataclass(frozen=True)
class ConfigChange:
    """A wanted change.

    :param text: the new text; ``None`` takes the one that is known to work.
    :param base: digest of the text that it was made from.
    :param actor: who asked.
    :param source: where from, for the log of decisions.
    """

    text: str | None
    base: str
    actor: str
    source: str = "dashboard"


def directory_of(bot: BotPromotion) -> Path:
    """Where the bot's configuration is."""
    return bot.repositories / "config"


def digest_of(text: str) -> str:
    """By which a text is named."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def describe(bot: BotPromotion) -> dict[str, Any]:
    """Both layers as they are, and what is known to work."""
    directory = directory_of(bot)
    text, known = _read(directory / OPERATOR), directory / KNOWN_GOOD / OPERATOR
    kept = _read(known) if known.is_file() else None
    return {
        "text": _shown(text),
        "digest": digest_of(text),
        "managed": _shown(_read(directory / MANAGED)),
        "known_good": None if kept is None else {"text": _shown(kept), "digest": digest_of(kept)},
    }


def check(bot: BotPromotion, text: str | None, ask: Ask | None = None) -> list[Problem]:
    """What speaks against a text, or against the one that is installed.

    :param ask: ``None`` for the bot's own image on this machine's engine.
    """
    directory = directory_of(bot)
    wanted = _read(directory / OPERATOR) if text is None else text
    if len(wanted.encode("utf-8", "surrogateescape")) > LARGEST_TEXT:
        return [Problem("", f"the file may have {LARGEST_TEXT} bytes at most", 1, 1)]
    asked = ask or asking_image(bot.directory / "gateway.json", bot.bot, bot.gateway_uid)
    return check_text(wanted, _read(directory / MANAGED), bot.root / "build", asked)


def save(
    bot: BotPromotion,
    change: ConfigChange,
    report: Callable[[Progress], None] | None = None,
    gateway: GatewayControl | None = None,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """Validate, keep what was there, install, restart, wait; or put back what was there.

    :param report: gets the phases.
    :param gateway: ``None`` for the bot's container on this machine's engine.
    :param ask: as in :func:`check`.
    :raises Outdated: it was not made from what is there now.
    :raises Refused: the text is; nothing has changed.
    :raises PutBack: the gateway did not get ready with it.
    """
    say = report or (lambda progress: None)
    control = gateway or gateway_of(bot)
    with promotion_lock(bot, f"a change of the configuration by {change.actor}"):
        refuse_locked(bot)
        _settle(bot, control)
        current = _current(bot, change.base)
        wanted = _known_good(bot) if change.text is None else change.text
        fields = {"actor": change.actor, "source": change.source, "from": digest_of(current), "to": digest_of(wanted)}
        if wanted == current:
            return {"result": "unchanged", "from": fields["from"], "to": fields["to"], "restarted": False}
        say(Progress("validating"))
        problems = check(bot, wanted, ask)
        if problems:
            raise Refused(problems)
        _current(bot, change.base)  # a run of site.yml may have come meanwhile
        running = control.running()
        _begin(bot, fields)
        known = directory_of(bot) / KNOWN_GOOD / OPERATOR
        older = known.read_bytes() if known.is_file() else None
        keep_known_good(directory_of(bot))
        _install(bot, wanted)
        if running:
            say(Progress("restarting"))
            reason = _restart(bot, control)
            if reason:
                say(Progress("putting back"))
                _put_back(bot, control, current, {**fields, "reason": reason})
                if older is not None:  # else going back would lead to where we are
                    write_atomic(known, older, mode=0o640, owner=0, group=0)
                raise PutBack(f"the gateway did not get ready with it and has the configuration of before: {reason}")
        _end(bot)
        audit(bot, "config.saved", {**fields, "reverted": change.text is None})
    return {"result": "saved", "from": fields["from"], "to": fields["to"], "restarted": running}


def settle(bot: BotPromotion, gateway: GatewayControl | None = None, *, wait_seconds: float = 0.0) -> bool:
    """Undo a change that a crash left in the middle.

    :param wait_seconds: for a promotion or change that goes on.
    :returns: whether there was one.
    :raises Conflict: something goes on.
    """
    if not _journal(bot).exists():
        return False
    with promotion_lock(bot, "the end of an interrupted change of the configuration", wait_seconds):
        return _settle(bot, gateway or gateway_of(bot))


def _journal(bot: BotPromotion) -> Path:
    return bot.directory / _JOURNAL


def _settle(bot: BotPromotion, control: GatewayControl) -> bool:
    try:
        fields = json.loads(_journal(bot).read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        fields = {}
    known = directory_of(bot) / KNOWN_GOOD / OPERATOR
    kept = _read(known) if known.is_file() else ""
    # It was cut short before anything was kept, else what was kept is what it began with.
    if digest_of(kept) == fields.get("from") and _read(directory_of(bot) / OPERATOR) != kept:
        _put_back(bot, control, kept, {**fields, "reason": "the change was interrupted"})
    else:
        _end(bot)
    return True


def _current(bot: BotPromotion, base: str) -> str:
    text = _read(directory_of(bot) / OPERATOR)
    if digest_of(text) != base:
        raise Outdated(
            f"{bot.bot}: the configuration is another one than when it was loaded ({digest_of(text)[:12]}, not "
            f"{base[:12]}); load it again and make the change there"
        )
    return text


def _known_good(bot: BotPromotion) -> str:
    known = directory_of(bot) / KNOWN_GOOD / OPERATOR
    if not known.is_file():
        raise Conflict(f"{bot.bot} has no configuration of before; it is kept with the first change")
    return _read(known)


def _restart(bot: BotPromotion, control: GatewayControl) -> str:
    """Why the gateway did not get ready; empty if it did."""
    seconds = bot.settings.ready_seconds
    try:
        control.restart()
        if control.ready(seconds):
            return ""
    except CoreError as error:
        return str(error)
    return f"it was not ready within {seconds} s; {last_words(bot, control)}"


def _put_back(bot: BotPromotion, control: GatewayControl, text: str, fields: dict[str, Any]) -> None:
    _install(bot, text)
    problem = _restart(bot, control) if control.running() else ""
    _end(bot)
    audit(bot, "config.put_back", {**fields, **({"problem": problem} if problem else {})})


def _begin(bot: BotPromotion, fields: dict[str, Any]) -> None:
    write_atomic(_journal(bot), json.dumps({**fields, "started": now()}).encode(), mode=0o600)


def _end(bot: BotPromotion) -> None:
    _journal(bot).unlink(missing_ok=True)
    sync_directory(bot.directory)


def _install(bot: BotPromotion, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    write_atomic(directory_of(bot) / OPERATOR, data, mode=0o640, owner=0, group=bot.gateway_uid)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""


def _shown(text: str) -> str:
    """A text that JSON can carry, whatever somebody wrote into the file."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _where(problem: Problem) -> str:
    line = f"line {problem.line}: " if problem.line else ""
    return f"{line}{problem.path} " if problem.path else line
