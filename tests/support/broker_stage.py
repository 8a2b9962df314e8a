"""The stage of the attacks on a broker: neighbours to attack, own sandboxes to attack from, and a look at the engine.

The same is built on this machine, beside a deployed bot, and on a test machine whose raw socket shows what the attacks
would do without a broker.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from .broker_attacks.scene import STRANGERS, TARGETS, Scene, stranger_labels, stranger_names
from .broker_client import API, Client, Wire, http

NETWORK, VOLUME, TAG = "clawfactory-victim-net", "clawfactory-victim-volume", "clawfactory-victim:tag"
LABEL, BOT = "clawfactory.test-victim", "clawfactory.bot"
Fingerprint = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Machine:
    """An engine, seen by its administrator.

    :param docker: runs the docker CLI there.
    :param raw: writes to the engine's own socket there.
    """

    docker: Sequence[str]
    raw: Client

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run the docker CLI and return what it printed.

        :raises AssertionError: it failed.
        """
        done = subprocess.run([*self.docker, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        """The engine's inspect."""
        reply = self.raw.ask("GET", f"/containers/{container}/json")
        assert reply.status == 200, reply.raw
        found: dict[str, Any] = reply.json()
        return found

    def fingerprint(self, ignore: Collection[str] = (), images: Collection[str] = ()) -> Fingerprint:
        """Everything that an attack could make, change or remove.

        :param ignore: bots whose containers live their own life meanwhile.
        :param images: names of images; if given, others and containers of others are left out, unless they are labelled
            as ours. Whoever else works with the engine would be taken for an attack.
        """
        paths = ("/containers/json?all=1", "/images/json?all=1", "/networks", "/volumes")
        containers, listed, networks, volumes = (reply.json() for reply in self._ask(paths))

        def is_watched(name: str) -> bool:
            return not images or name.partition(":")[0] in images

        watched = [
            each for each in containers
            if (BOT in each["Labels"] and each["Labels"][BOT] not in ignore) or (
                BOT not in each["Labels"] and (LABEL in each["Labels"] or is_watched(each["Image"])))
        ]  # fmt: skip
        details = [reply.json() for reply in self._ask([f"/containers/{each['Id']}/json" for each in watched])]
        return {
            "containers": {each["Id"][:12]: _describe(each) for each in details if "Id" in each},
            "images": {tag: each["Id"] for each in listed for tag in each["RepoTags"] or () if is_watched(tag)},
            "networks": {each["Name"]: each["Id"][:12] for each in networks if not _is_of(each["Name"], ignore)},
            "volumes": {each["Name"]: each["Driver"] for each in volumes["Volumes"] or []},
        }

    def _ask(self, paths: Sequence[str]) -> list[Any]:
        return self.raw.send_all([Wire(((http("GET", API + path), 0),)) for path in paths])


def _is_of(name: str, bots: Collection[str]) -> bool:
    return any(name.startswith(f"clawfactory-{bot}-") for bot in bots)


def _describe(inspect: dict[str, Any]) -> str:
    state = inspect["State"]
    limits = hashlib.sha256(json.dumps(inspect["HostConfig"], sort_keys=True).encode()).hexdigest()[:8]
    networks = ",".join(sorted(inspect["NetworkSettings"]["Networks"]))
    return f"{inspect['Name']} {state['Status']} {state['StartedAt']} {state['Pid']} {networks} {limits}"


def differences(before: Fingerprint, after: Fingerprint) -> list[str]:
    """What two fingerprints do not share."""
    return [
        f"{part}: {key}: {before[part].get(key)} -> {after[part].get(key)}"
        for part in before
        for key in sorted({*before[part], *after[part]})
        if before[part].get(key) != after[part].get(key)
    ]


class Stage:
    """Builds it, and takes it down again.

    :param machine: where.
    :param client: the attacker there.
    :param root: ``clawfactory_root``.
    :param image: reference of the image that sandboxes may be made from.
    :param foreign_image: an image there that they may not be made from.
    """

    def __init__(
        self, machine: Machine, client: Client, *, bot: str, uid: int, image: str, foreign_image: str,
        nested: Sequence[tuple[str, str]], root: str = "/srv/clawfactory",
    ) -> None:  # fmt: skip
        self.machine = machine
        self._begun: Fingerprint = {}
        directory = f"{root}/bot_repos/{bot}"
        self.scene = Scene(client, {
            "bot": bot, "uid": str(uid), "root": root, "directory": directory, "state": f"{directory}/state",
            "approved": f"{directory}/approved/workspace", "source": f"{directory}/state/sandboxes/attacked",
            "image": image, "image_name": image.partition(":")[0], "foreign_image": foreign_image,
            "new": f"clawfactory-{bot}-sbx-new", "evil": f"clawfactory-{bot}-sbx-evil",
            "checker": f"clawfactory-{bot}-sbx-check-0123456789abcdef",
            "sandbox": f"clawfactory-{bot}-sbx-attacker", "stopped": f"clawfactory-{bot}-sbx-stopped",
            "victim_network": NETWORK, "victim_volume": VOLUME, "victim_tag": TAG,
            # {"label": ["nothing"]}: what is only to be asked for must not do harm where it works.
            "nothing": "%7B%22label%22%3A%5B%22nothing%22%5D%7D",
            **{part: f"clawfactory-{bot}-{part}" for part in TARGETS}, **stranger_names(bot),
        }, nested)  # fmt: skip

    def fingerprint(self, ignore: Collection[str] = ()) -> Fingerprint:
        """What of the engine an attack could have changed."""
        words = self.scene.words
        names = {words[key].partition(":")[0] for key in ("image", "foreign_image", "victim_tag")}
        return self.machine.fingerprint(ignore, {*names, "evil", "alpine"})

    def begin(self, ignore: Collection[str] = ()) -> None:
        """Remember what is there before the attacks."""
        self._begun = self.fingerprint(ignore)

    def lost(self, ignore: Collection[str] = ()) -> list[str]:
        """What was there when the attacks began, and is not as it was.

        What can be done only once, such as a removal, would not be seen by who looks whether it happens again.
        """
        now, own = self.fingerprint(ignore), {"networks": {NETWORK}, "volumes": {VOLUME}}
        return [
            f"{part}: {key}: {before} -> {now[part].get(key)}"
            for part, kept in self._begun.items()
            for key, before in kept.items()
            if before != now[part].get(key) and key in own.get(part, {key})
        ]

    def set_up(self) -> Scene:
        """Make the neighbours through the engine and the sandboxes through the attacker's socket."""
        self.tear_down()
        run = self.machine.run
        run("network", "create", "--internal", "--label", LABEL, NETWORK)
        run("volume", "create", "--label", LABEL, VOLUME)
        run("tag", self.scene.words["image"], TAG)
        for key in STRANGERS:
            self.make_stranger(key)
        for key in ("sandbox", "stopped"):
            self.make_own(key)
        return self.learn()

    def learn(self) -> Scene:
        """Ask for the ids of everything that is on the stage."""
        words, run = dict(self.scene.words), self.machine.run
        for key in (*STRANGERS, *TARGETS, "sandbox"):
            identity = self.machine.inspect(words[key])["Id"]
            words |= {f"{key}_id": identity, f"{key}_short": identity[:12]}
        for key, reference in (("image_id", words["image"]), ("foreign_image_id", words["foreign_image"])):
            words[key] = run("image", "inspect", "--format", "{{.Id}}", reference)
        words["foreign_image_short"] = words["foreign_image_id"].removeprefix("sha256:")[:12]
        for key in ("other", "gateway", "sandbox"):
            body = {"AttachStdout": True, "Cmd": ["true"]}
            made = self.machine.raw.ask("POST", f"/containers/{words[key]}/exec", body)
            words[f"exec_{key}"] = made.json()["Id"]
        words["exec_other_short"] = words["exec_other"][:12]
        digits = Counter(identity[0] for identity in run("ps", "--all", "--quiet").split())
        # The start of an id that several containers have; with those of the stage there is one.
        words["ambiguous"] = digits.most_common(1)[0][0]
        self.scene.words = words
        return self.scene

    def make_stranger(self, key: str) -> None:
        """Make a container that belongs to somebody else."""
        words = self.scene.words
        labels = [f"--label={name}={value}" for name, value in stranger_labels(words["bot"])[key].items()]
        network = NETWORK if key == "other" else "none"
        self.machine.run(
            "run",
            "--detach",
            "--name",
            words[key],
            "--network",
            network,
            f"--label={LABEL}",
            *labels,
            "--memory",
            "32m",
            "--init",
            "--entrypoint",
            "sleep",
            words["image"],
            "infinity",
        )

    def make_own(self, key: str) -> None:
        """Make one of the attacker's own sandboxes."""
        name, client = self.scene.words[key], self.scene.client
        made = client.ask("POST", f"/containers/create?name={name}", self.scene.create())
        assert made.status == 201, made.raw
        if key == "sandbox":
            started = client.ask("POST", f"/containers/{name}/start")
            assert started.status == 204, started.raw

    def tear_down(self) -> None:
        """Remove what :meth:`set_up` made, and what attacks may have left."""
        left = self.left()
        if left:
            self.machine.run("rm", "--force", "--volumes", *left)
        for what, name in (("network", NETWORK), ("volume", VOLUME), ("image", TAG)):
            self.machine.run(what, "rm", name, check=False)

    def left(self) -> list[str]:
        """Names of all containers that are there for these tests."""
        bot = self.scene.words["bot"]
        listed = self.machine.run("ps", "--all", "--format", "{{.Names}}").split()
        strays = {"evil", "openclaw-sbx-x", f"clawfactory-{bot}-broker2", f"CLAWFACTORY-{bot}-sbx-new"}
        prefixes = (f"clawfactory-{bot}-sbx-", "clawfactory-victim-")
        return [name for name in listed if name.startswith(prefixes) or name in strays]
