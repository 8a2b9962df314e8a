"""Before a bot starts: what a restore left that ended in the middle of its renames."""

from __future__ import annotations

from pathlib import Path

from ..adapters.engine_socket import EngineSocket
from ..errors import Conflict
from . import swap
from .journal import is_unsettled

_ALIVE = ("running", "paused", "restarting")


def settle_restore(root: Path, bot: str, engine: EngineSocket | None = None) -> bool:
    """Finish or undo such a restore; one that is staged, or waits for a decision, is left as it is.

    A bot that started with a half-way state would work in what the next restore deletes.

    :returns: whether there was one.
    :raises Conflict: the bot runs on what has to be moved, or something beside the state goes on.
    """
    state = root / "bot_repos" / bot / "state"
    if not is_unsettled(state):
        return False
    if swap.moves_the_state(state):
        refuse_running(bot, engine)
    swap.recover(state, keep_staged=True, patience=swap.PATIENCE)
    return True


def refuse_running(bot: str, engine: EngineSocket | None = None) -> None:
    """A gateway or sandbox that runs goes on writing to the state that is moved aside.

    :raises Conflict: one runs.
    """
    running = [
        container["Name"].lstrip("/")
        for container in (engine or EngineSocket()).containers(f"clawfactory.bot={bot}")
        if container["State"]["Status"] in _ALIVE
        and container["Config"]["Labels"].get("clawfactory.service") in ("gateway", "sandbox")
    ]
    if running:
        raise Conflict(f"{', '.join(running)} runs; stop the bot first: ansible-playbook playbooks/stop.yml -l {bot}")
