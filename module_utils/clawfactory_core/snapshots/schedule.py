"""What the last scheduled run of a bot came to: ``<root>/snapshots/<bot>.run``, for the status and for the next run.

The last copying of its snapshots to another place is noted in the same way in ``<bot>.copied``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from ..errors import InvalidInput
from ..files import write_atomic
from .records import timestamp

_MAX_BYTES = 1 << 14
_MAX_PROBLEM = 500


@dataclass(frozen=True)
class ScheduledRun:
    """One run.

    :param began: time as records have it; ``finished`` is empty while it goes on, and stays so if it is killed.
    :param pid: the process.
    :param snapshot: id of what it made, empty if it made none.
    :param verified: ``digest`` or ``content`` if that was done and passed.
    :param problem: why it failed, empty if it did not.
    :param broken: whether the chain of what it made cannot be restored: what follows must not build upon it.
    """

    began: str
    finished: str = ""
    pid: int = 0
    snapshot: str = ""
    verified: str = ""
    problem: str = ""
    broken: bool = False

    @property
    def state(self) -> str:
        """``running``, ``failed``, ``verified`` or ``made``."""
        if not self.finished:
            return "running" if self.pid > 0 and Path("/proc", str(self.pid)).is_dir() else "failed"
        return "failed" if self.problem else "verified" if self.verified else "made"

    @property
    def why(self) -> str:
        """Why it failed, empty if it did not."""
        return self.problem or ("it ended in the middle" if self.state == "failed" else "")


def begin_run() -> ScheduledRun:
    """One that begins now, in this process."""
    return ScheduledRun(timestamp(datetime.now(timezone.utc)), pid=os.getpid())


#: Kinds of runs, by the ends of the files' names.
SNAPSHOT, COPY = "run", "copied"


def run_path(root: Path, bot: str, kind: str = SNAPSHOT) -> Path:
    """Where it is noted: beside the settings, where the bot's controller cannot write."""
    return root / "snapshots" / f"{bot}.{kind}"


def write_run(root: Path, bot: str, run: ScheduledRun, kind: str = SNAPSHOT) -> None:
    """Note a run in place of the one before.

    :raises OSError: the one before is still noted.
    """
    # A problem may have names in it that the bot chose.
    problem = "".join(letter if letter.isprintable() else "?" for letter in run.problem[:_MAX_PROBLEM])
    write_atomic(
        run_path(root, bot, kind), json.dumps({**asdict(run), "problem": problem}).encode() + b"\n", mode=0o600
    )


def read_run(root: Path, bot: str, kind: str = SNAPSHOT) -> ScheduledRun | None:
    """The last run; ``None`` if there was none yet.

    :raises InvalidInput: what is noted is not what :func:`write_run` writes.
    """
    path = run_path(root, bot, kind)
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
        types = {item.name: str(item.type) for item in fields(ScheduledRun)}
        if {name: type(value).__name__ for name, value in found.items()} != types:
            raise ValueError("keys or types are others")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; the next scheduled snapshot writes it anew") from error
    return ScheduledRun(**found)


def describe_schedule(root: Path, bot: str) -> dict[str, str]:
    """What the bot's last scheduled snapshot came to; empty if there was none yet."""
    try:
        run = read_run(root, bot)
    except InvalidInput as error:
        return {"state": "failed", "time": "", "snapshot": "", "problem": str(error)}
    if run is None:
        return {}
    return {"state": run.state, "time": run.began, "snapshot": run.snapshot, "problem": run.why}
