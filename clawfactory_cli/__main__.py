"""Entry point of ``./clawfactory`` and ``python -m clawfactory_cli``."""

from __future__ import annotations

from .app import app

if __name__ == "__main__":
    app(prog_name="clawfactory")
