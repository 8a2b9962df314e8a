"""The process that does a job, with the real promotion and a gateway that is a file. Started by path, with the root.

While ``<root>/hold`` is there, the gateway does not get ready.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "module_utils"), str(REPOSITORY)]

from clawfactory_core import allocation  # noqa: E402 - found by the path above
from clawfactory_core.jobs import child  # noqa: E402 - found by the path above
from clawfactory_core.promotion import apply, recovery  # noqa: E402 - found by the path above
from clawfactory_core.promotion.state import BotPromotion  # noqa: E402 - found by the path above
from tests.unit.core.promotion.promotion_machine import FileGateway  # noqa: E402 - found by the path above


class HeldGateway(FileGateway):
    """Gets ready when nobody holds it."""

    def ready(self, seconds: float) -> bool:
        hold = Path(sys.argv[1]) / "hold"
        hold.with_name("waiting").touch()
        while hold.exists():
            time.sleep(0.02)
        return super().ready(seconds)


def gateway_of(bot: BotPromotion) -> HeldGateway:
    return HeldGateway(bot.root.parent / "gateway.json", bot.approved)


if __name__ == "__main__":
    allocation._UIDS = dict.fromkeys(allocation._UIDS, os.geteuid())
    apply.gateway_of = recovery.gateway_of = gateway_of  # type: ignore[assignment]
    sys.exit(child.serve_parent(Path(sys.argv[1])))
