"""What the command line remembers between two calls: the default bot, and the password file of the vault it made.

Both are files of a directory that Git ignores: ``.clawfactory/`` in the repository, or the one that
``CLAWFACTORY_SETTINGS`` names.
"""

from __future__ import annotations

import os
from pathlib import Path

from clawfactory_core.errors import CoreError
from clawfactory_core.files import write_atomic
from clawfactory_core.names import check_bot_name

REPOSITORY = Path(__file__).resolve().parent.parent
GITHUB_API = "https://api.github.com"


def directory() -> Path:
    """Where the settings are; it need not exist."""
    return Path(os.environ.get("CLAWFACTORY_SETTINGS") or REPOSITORY / ".clawfactory").absolute()


def default_bot() -> str | None:
    """The bot that is meant where none is named.

    :raises CoreError: the file cannot be read, or holds no name.
    """
    path = directory() / "instance"
    try:
        return check_bot_name(path.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, CoreError) as error:
        raise CoreError(f"{path}: {error}; choose a bot anew with 'clawfactory use BOT'") from None


def remember_bot(bot: str) -> None:
    """Make ``bot`` the one that is meant where none is named.

    :raises OSError: the directory cannot be written.
    """
    write_private(directory() / "instance", f"{check_bot_name(bot)}\n")


def vault_password_file() -> Path:
    """Where ``init`` keeps the password it made; it need not exist."""
    return directory() / "vault-password"


def write_private(path: Path, text: str) -> None:
    """Replace a file of the operator as a whole, 0600, in a directory that is made with 0700.

    :raises OSError: it cannot be written; the file is as it was then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, text.encode(), mode=0o600)
