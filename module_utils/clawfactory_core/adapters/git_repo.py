"""Git by GitPython, with nothing of the machine's own configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import CoreError, MissingDependency

#: No prompt, no system or user configuration, no hooks or filters from a template of somebody else.
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    # Not the ignore and attribute files of whoever runs Ansible either.
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "GIT_AUTHOR_NAME": "ClawFactory",
    "GIT_AUTHOR_EMAIL": "clawfactory@localhost",
    "GIT_COMMITTER_NAME": "ClawFactory",
    "GIT_COMMITTER_EMAIL": "clawfactory@localhost",
}


def run_git(directory: Path, *arguments: str, uid: int) -> str:
    """Run one git command in ``directory``.

    :param uid: user (and group) id that git runs as: a repository is never read with more rights than its owner has.
    :returns: what it printed.
    :raises CoreError: git fails; the message is git's.
    :raises MissingDependency: GitPython cannot be imported.
    """
    try:
        import git
    except ImportError as error:
        raise MissingDependency("git") from error
    if not directory.is_dir():
        # GitPython would run git where the process happens to be.
        raise CoreError(f"git {arguments[0]}: {directory} is not a directory")
    command: Any = git.Git(str(directory))
    command.update_environment(**ENVIRONMENT)
    try:
        identity = {} if os.geteuid() == uid else {"user": uid, "group": uid, "extra_groups": []}
        return str(command.execute(["git", *arguments], **identity))
    except git.CommandError as error:
        raise CoreError(f"git {arguments[0]}: {str(error.stderr).strip() or error}") from error
