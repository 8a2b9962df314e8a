"""How figures are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"))
_UNKNOWN = "unknown"


def size(count: float) -> str:
    """Bytes in the unit that is easiest to read."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for length, name in _SPANS:
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "less than a minute"


def moment(value: datetime | str | None) -> str:
    """A time as a person reads it, in UTC; what is no time is shown as it is."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return str(value)
    if value is None:
        return "–"
    time = _in_utc(value)
    return _UNKNOWN if time is None else time.strftime("%Y-%m-%d %H:%M UTC")


def age(value: datetime | str | None, now: datetime) -> str:
    """How long ago a time was."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return ""
    if value is None:
        return ""
    time = _in_utc(value)
    return _UNKNOWN if time is None else f"{span((now - time).total_seconds())} ago"


def short(commit: str | None) -> str:
    """The part of a commit that tells it from the others."""
    return (commit or "")[:12] or "–"


def _in_utc(value: datetime) -> datetime | None:
    """The same time in UTC, ``None`` if it has none there; a gateway may send any, also one without a zone."""
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return None
