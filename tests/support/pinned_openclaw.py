"""Another image of the gateway that runs the OpenClaw of now, under the name that it has where a digest pins it."""

from __future__ import annotations

import json

from filter_plugins.clawfactory_deploy import image_reference
from tests.support.playbooks import REPOSITORY

_FILES = REPOSITORY / "roles" / "gateway" / "files" / "image"
#: Of no image: what is found under the name of one that it pins is not looked for in a registry.
DIGEST = f"sha256:{'e2' * 32}"
VERSION: str = json.loads((_FILES / "package.json").read_text())["dependencies"]["openclaw"]


def dockerfile(image: str) -> str:
    """What it is built from: all that ``image`` has, with Node where the official image has its own."""
    node, official = "/opt/node/bin/node", "/usr/local/bin/node"
    return f"FROM {image}\nUSER root\nRUN rm {official} && mv {node} {official} && ln -s {official} {node}\n"


def reference(base: str, version: str = VERSION, digest: str = DIGEST) -> str:
    """What a deployment that pulls the pinned image looks for.

    :param base: the machine's base image.
    """
    return image_reference(
        {
            "name": "clawfactory-gateway",
            "version": f"{version}-pull",
            "context": [{"src": str(_FILES), "dest": "."}],
            "args": {"UPSTREAM_IMAGE": f"ghcr.io/openclaw/openclaw@{digest}", "GATEWAY_VERSION": version},
        },
        base,
    )
