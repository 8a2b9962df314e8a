"""A deployed bot's broker, as its operator sees it: settings, audit, and the stage for attacks on it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bots import Bot
from .broker_client import Client
from .broker_run import Audit
from .broker_stage import Machine, Stage
from .polling import wait_for

GATEWAY_SOCKET = "/var/run/docker.sock"
ENGINE_SOCKET = "/var/run/docker.sock"
_STATE = "/home/node/.openclaw"


@dataclass(frozen=True)
class Deployed:
    """A bot and its broker.

    :param settings: the broker's settings file.
    :param approved: sources of the gateway's read-only mounts.
    :param stage: neighbours and own sandboxes; the client is in the gateway.
    :param node: a node program that runs on this machine.
    :param sockets: the broker's sockets on this machine, by client.
    """

    bot: Bot
    settings: dict[str, Any]
    approved: list[str]
    stage: Stage
    audit: Audit
    node: Path
    sockets: dict[str, Path]

    @property
    def client(self) -> Client:
        """The attacker in the gateway."""
        return self.stage.scene.client

    @property
    def machine(self) -> Machine:
        """The engine, as root on this machine has it."""
        return self.stage.machine

    def docker(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The docker CLI in the gateway, which is what OpenClaw runs."""
        return self.bot.run("docker", *arguments, timeout=timeout)

    def calling_as(self, uid: int, client: str) -> Client:
        """A client on this machine that calls on one of the broker's sockets as some user."""
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", str(self.node)]
        return Client([*command, "--input-type=module", "-e"], str(self.sockets[client]))

    def make(self, name: str, patch: dict[str, Any] | None = None, *, start: bool = True) -> str:
        """A sandbox, made through the broker; its whole name."""
        whole = f"clawfactory-{self.bot.name}-sbx-{name}"
        made = self.client.ask("POST", f"/containers/create?name={whole}", self.stage.scene.create(patch))
        assert made.status == 201, made.raw
        if start:
            started = self.client.ask("POST", f"/containers/{whole}/start")
            assert started.status == 204, started.raw
        return whole

    def remove(self, *names: str) -> None:
        """Remove sandboxes behind the broker's back."""
        for name in names:
            self.machine.raw.ask("DELETE", f"/containers/{name}?force=1&v=1")

    def broker_process(self) -> int:
        """Process id of the broker itself, below the container's init, on this machine."""
        init = self.machine.inspect(self.bot.container("broker"))["State"]["Pid"]
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        return int(children[0]) if children else int(init)

    def wait_until_it_answers(self) -> None:
        """Wait until the broker answers the gateway."""
        wait_for("an answer of the broker", lambda: self.client.ask("GET", "/version", seconds=5).status == 200, 60)


@contextmanager
def deployed(bot: Bot, directory: Path) -> Iterator[Deployed]:
    """Look at a bot, and set the stage.

    :param directory: a scratch directory that other users may read.
    """
    mounts = {mount["Destination"]: mount["Source"] for mount in bot.inspect("broker")["Mounts"]}
    settings = json.loads((Path(mounts["/etc/clawfactory"]) / "broker.json").read_text())
    gateway = bot.inspect("gateway")
    state = f"{settings['bot_directory']}/state"
    read_only = [mount for mount in gateway["Mounts"] if not mount["RW"]]
    workspace = f"{_STATE}/workspace/"
    nested = [(each["Source"], each["Destination"].removeprefix(workspace)) for each in read_only
              if each["Destination"].startswith(workspace)]  # fmt: skip
    image = next(iter(settings["sandbox"]["images"]))
    foreign = bot.inspect("broker")["Config"]["Image"]
    made = bot.sh(f"mkdir -p {_STATE}/sandboxes/attacked/x")
    assert made.returncode == 0, made.stderr
    assert Path(state, "sandboxes/attacked").is_dir()
    node = directory / "node"
    subprocess.run(["docker", "cp", f"{bot.container('gateway')}:/opt/node/bin/node", str(node)], check=True)
    node.chmod(0o755)
    with ExitStack() as stack:
        raw = stack.enter_context(Client([str(node), "--input-type=module", "-e"], ENGINE_SOCKET))
        client = stack.enter_context(Client.in_container(bot.container("gateway"), GATEWAY_SOCKET))
        stage = Stage(
            Machine(["docker"], raw),
            client,
            bot=bot.name,
            uid=bot.uid,
            image=image,
            foreign_image=foreign,
            nested=nested,
            root=str(bot.root),
        )
        sockets = {
            name: Path(mounts[str(Path(each["socket"]).parent)]) / Path(each["socket"]).name
            for name, each in settings["clients"].items()
        }
        audit = Audit(Path(mounts[str(Path(settings["audit_file"]).parent)]) / Path(settings["audit_file"]).name)
        found = Deployed(bot, settings, [each["Source"] for each in read_only], stage, audit, node, sockets)
        found.wait_until_it_answers()
        stack.callback(stage.tear_down)
        stage.set_up()
        yield found
