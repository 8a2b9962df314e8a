"""Answer of ``GET /health``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """The controller itself is up."""

    status: Literal["ok"]
    #: Version of ``clawfactory_core`` in this image; the role compares it with the playbook's.
    version: str
    bot: str
