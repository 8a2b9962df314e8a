"""Entry point: ``python -m broker_app [settings file]``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from clawfactory_core.errors import CoreError

from .server import Broker
from .settings import DEFAULT_SETTINGS_FILE, Settings, load_settings


async def _run(settings: Settings) -> None:
    broker = Broker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, broker.stop)
    await broker.run()


def main() -> int:
    """Run the broker; return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load_settings(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_SETTINGS_FILE)
    except CoreError as error:
        sys.stderr.write(f"broker: {error}\n")
        return os.EX_CONFIG
    try:
        asyncio.run(_run(settings))
    except OSError as error:
        sys.stderr.write(
            f"broker: {error}; the directories of its sockets must exist and belong to uid {os.geteuid()}\n"
        )
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
