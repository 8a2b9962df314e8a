"""A test machine whose engine has no broker: what an attack does there, it would do here if it were let through."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import machines
from .broker_attacks.attack import Attack
from .broker_attacks.scene import STRANGERS, TARGETS
from .broker_client import Client, Wire
from .broker_stage import NETWORK, TAG, VOLUME, Machine, Stage

NAME = "clawfactory-test-peer"
IMAGE = "clawfactory-test/engine"
# 304: the engine would have done it, but it is so already.
WORKS = frozenset({101, 200, 201, 204, 304})
# What these do where they work is to make a container, which is not even started.
_HARMLESS = ("mounts", "namespaces", "privileges", "devices and runtimes", "JSON tricks")
_BOT, _UID = "e2e", 20001
_DIRECTORY = f"/srv/clawfactory/bot_repos/{_BOT}"
_FOREIGN = "victim-image:tag"
_CONTEXT = Path(__file__).resolve().parent / "testengine"


class Peer(Stage):
    """The stage on the test machine; the bot's own parts are containers that do nothing."""

    def set_up_parts(self) -> None:
        """Make the bot's parts, and an image that is not for sandboxes."""
        for part in TARGETS:
            self._part(part)
        self.machine.run("commit", f"clawfactory-{_BOT}-gateway", _FOREIGN)

    def try_out(self, attacks: Sequence[Attack]) -> dict[str, list[int]]:
        """Make every attack on the raw socket; the statuses of each by its id.

        Every attack makes containers of its own names, which go with the machine; what it breaks is made again.
        """
        found, first = {}, dict(self.scene.words)
        for number, attack in enumerate(attacks):
            self.scene.words = {**self.scene.words, **{key: f"{first[key]}{number}" for key in ("new", "evil")}}
            wire = attack.wire(self.scene)
            reply = self.scene.client.send(wire if isinstance(wire, Wire) else Wire(((wire, 0),), len(attack.expected)))
            found[attack.id] = reply.statuses
            if reply.status in WORKS and attack.kind not in _HARMLESS:
                self._mend()
        return found

    def _mend(self) -> None:
        words, ask = self.scene.words, self.scene.client.ask
        lasting = (f"/networks/{NETWORK}", f"/volumes/{VOLUME}", f"/images/{TAG}/json")
        if any(ask("GET", path).status != 200 for path in lasting):
            self.set_up()
            return
        states = {each["Names"][0][1:]: each["State"] for each in ask("GET", "/containers/json?all=1").json()}
        makers: list[tuple[Callable[[str], None], Sequence[str], str]] = [
            (self.make_stranger, STRANGERS, "running"),
            (self._part, TARGETS, "running"),
            (self.make_own, ("sandbox",), "running"),
            (self.make_own, ("stopped",), "created"),
        ]
        broken = [(make, key) for make, keys, state in makers for key in keys if states.get(words[key]) != state]
        for make, key in broken:
            if words[key] in states:
                ask("DELETE", f"/containers/{words[key]}?force=1")
            make(key)
        if broken:
            self.learn()

    def _part(self, part: str) -> None:
        self.machine.run(
            "run", "--detach", "--name", f"clawfactory-{_BOT}-{part}", "--network", "none", "--init",
            f"--label=clawfactory.bot={_BOT}", f"--label=clawfactory.service={part}",
            "--entrypoint", "sleep", self.scene.words["image"], "infinity",
        )  # fmt: skip


@contextmanager
def peer(gateway: str, image: str, nested: Sequence[str]) -> Iterator[Peer]:
    """The machine, with containers and directories named as on a machine with the bot.

    :param gateway: a container here that has node.
    :param image: sandbox image of this engine.
    :param nested: names of the approved entries of the workspace.
    :raises machines.MachineError: it could not be made.
    """
    machines.build()
    machines.docker("build", "--quiet", "--tag", IMAGE, str(_CONTEXT))
    machines.destroy(NAME)
    machines.create(NAME, IMAGE)
    try:
        machines.load(NAME, [image])
        with subprocess.Popen(["docker", "cp", f"{gateway}:/opt/node/bin/node", "-"], stdout=subprocess.PIPE) as copied:
            subprocess.run(["docker", "cp", "-", f"{NAME}:/opt"], stdin=copied.stdout, check=True)
        with Client(
            ["docker", "exec", "-i", NAME, "/opt/node", "--input-type=module", "-e"], "/run/docker.sock"
        ) as client:
            stage = Peer(
                Machine(["docker", "exec", NAME, "docker"], client), client, bot=_BOT, uid=_UID, image=image,
                foreign_image=_FOREIGN, nested=_directories(nested),
            )  # fmt: skip
            stage.set_up_parts()
            stage.set_up()
            yield stage
    finally:
        machines.destroy(NAME)


def _directories(nested: Sequence[str]) -> list[tuple[str, str]]:
    """The bot's tree on the machine; every approved entry is a directory, which is as good a mount as a file."""
    made = [f"{_DIRECTORY}/approved/workspace/{name}" for name in nested]
    script = "\n".join(
        [
            f"mkdir -p {' '.join(made)} {_DIRECTORY}/approved/.git {_DIRECTORY}/origin.git {_DIRECTORY}/config",
            f"mkdir -p {_DIRECTORY}/state/workspace/skills {_DIRECTORY}/state/agents",
            f"mkdir -p {_DIRECTORY}/state/sandboxes/attacked/x",
            "mkdir -p /srv/clawfactory/bot_repos/victim/state/workspace /srv/clawfactory/secrets/e2e",
            "mkdir -p /srv/clawfactory/run/e2e /srv/clawfactory/locks /srv/clawfactory/audit",
        ]
    )
    machines.docker("exec", NAME, "sh", "-c", script)
    return list(zip(made, nested, strict=True))
