"""The approved workspace as the gateway sees it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import InvalidInput
from .promotion.tree_rules import WORKSPACE, workspace_name_problem


def workspace_entries(approved: Path) -> list[dict[str, str]]:
    """Top-level entries of the approved workspace, each of which is bound read-only over the live one.

    :returns: ``[{"name": …, "kind": "file"|"directory"}]``, sorted.
    :raises InvalidInput: an entry is a link or a special file (Docker would follow it on the host), or is badly named.
    """
    workspace = approved / WORKSPACE
    if workspace.is_symlink() or (workspace.exists() and not workspace.is_dir()):
        raise InvalidInput(f"{workspace} is not a directory; correct the bot's repository")
    entries = []
    for entry in sorted(os.scandir(workspace), key=lambda item: item.name) if workspace.exists() else []:
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InvalidInput(
                f"{entry.path!r} is a link or special file; a bot's workspace holds files and directories"
            )
        problem = workspace_name_problem(entry.name)
        if problem:
            raise InvalidInput(f"{entry.path!r} {problem}")
        entries.append({"name": entry.name, "kind": "directory" if stat.S_ISDIR(mode) else "file"})
    return entries
