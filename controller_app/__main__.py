"""Entry point: ``python -m controller_app``."""

from __future__ import annotations

import gc
import logging
import os
import sys

from clawfactory_core.errors import CoreError

from .agent import create_agent_app
from .config import load_settings
from .dependencies import get_app_services
from .main import create_app
from .serving import serve


def main() -> int:
    """Run the controller; return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per probe of the gateway says nothing
    try:
        settings = load_settings()
        operator = create_app(settings)
        agent = create_agent_app(settings, get_app_services(operator))
        # What is there for good is not looked through again and again while everybody who asks waits.
        gc.collect()
        gc.freeze()
        serve(operator, settings.socket, agent, settings.agent_address)
    except CoreError as error:
        sys.stderr.write(f"controller: {error}\n")
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
