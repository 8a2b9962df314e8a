"""An image of the gateway that says it is a newer OpenClaw, changes the state as one may, and ends."""

from __future__ import annotations

VERSION = "2099.1.1"
#: Where it writes ``newer``, below the state.
NOTE = "workspace/kept.md"
_DOCKERFILE = """FROM {image}
USER root
RUN sed -i '0,/"version": *"[^"]*"/s//"version": "{version}"/' /opt/openclaw/node_modules/openclaw/package.json \\
 && start=/opt/clawfactory/bin/gateway-start \\
 && printf '#!/bin/sh\\necho newer > $OPENCLAW_STATE_DIR/{note}\\nexit 1\\n' > $start
"""


def dockerfile(image: str) -> str:
    """What it is built from, on the image that a bot runs now."""
    return _DOCKERFILE.format(image=image, version=VERSION, note=NOTE)


def reference(image: str) -> str:
    """What a deployment with ``gateway_version`` set to :data:`VERSION` looks for where it builds ``image`` now."""
    name, _, tag = image.rpartition(":")
    return f"{name}:{VERSION}-{tag.rpartition('-')[2]}"
