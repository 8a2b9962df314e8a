"""Where attacks take place: names and ids of a bot, of its neighbours, and of the attacker's own sandboxes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

from ..broker_client import API, Client, http

# OpenClaw's SELF_IDENTITY_PROBE (dist/docker-*.mjs, 2026.9.6), the one command it runs in its own container.
PROBE = (
    'const fs=require("node:fs");process.stdout.write(JSON.stringify([fs.readFileSync('
    '"/proc/sys/kernel/random/boot_id","utf8").trim(),fs.readlinkSync("/proc/self/ns/mnt")]));'
)
NODE = "/opt/node/bin/node"
TARGETS = ("gateway", "egress", "proxy", "controller", "broker")
# Every container of the scene that belongs to somebody else: another bot's gateway and sandbox, a part of a bot whose
# name begins as our sandboxes' names do, one with our labels and another name, one with our prefix and no labels.
STRANGERS = ("other", "other_sandbox", "lookalike", "forged", "unlabelled")


def stranger_names(bot: str) -> dict[str, str]:
    """Names of the containers of others."""
    return {
        "other": "clawfactory-victim-gateway",
        "other_sandbox": "clawfactory-victim-sbx-main",
        "lookalike": f"clawfactory-{bot}-sbx-x-gateway",
        "forged": f"clawfactory-victim-sbx-{bot}",
        "unlabelled": f"clawfactory-{bot}-sbx-unlabelled",
    }


def stranger_labels(bot: str) -> dict[str, dict[str, str]]:
    """Labels of the containers of others."""
    return {
        "other": {"clawfactory.bot": "victim", "clawfactory.service": "gateway"},
        "other_sandbox": {"clawfactory.bot": "victim", "clawfactory.service": "sandbox"},
        "lookalike": {"clawfactory.bot": f"{bot}-sbx-x", "clawfactory.service": "gateway"},
        "forged": {"clawfactory.bot": bot, "clawfactory.service": "sandbox"},
        "unlabelled": {},
    }


@dataclass
class Scene:
    """What the attacks' texts refer to as ``$name``.

    :param client: the attacker.
    :param words: values of the placeholders; see :meth:`fill`.
    :param nested: approved entries of the workspace: their sources, and where they are below the workspace.
    """

    client: Client
    words: Mapping[str, str]
    nested: Sequence[tuple[str, str]] = ()
    _execs: list[str] = field(default_factory=list)

    def fill(self, value: Any) -> Any:
        """Replace ``$name`` in all strings of a JSON value."""
        if isinstance(value, str):
            return Template(value).safe_substitute(self.words)
        if isinstance(value, Mapping):
            return {self.fill(key): self.fill(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(entry) for entry in value]
        return value

    def create(self, patch: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The body that the docker CLI sends for OpenClaw's ``docker create``, changed at these keys."""
        changes: dict[str, Any] = self.fill(patch or {})
        body: dict[str, Any] = {**json.loads(json.dumps(CREATE)), "Image": self.words["image"]}
        body["HostConfig"]["Binds"] = [f"{self.words['source']}:/workspace:z"]
        body["User"] = f"{self.words['uid']}:{self.words['uid']}"
        body["HostConfig"] |= changes.pop("HostConfig", {})
        return {**body, **changes}

    def creation(self, patch: Mapping[str, Any] | None = None, name: str = "$new") -> bytes:
        """The whole request for such a body."""
        return self.creation_of(json.dumps(self.create(patch)), name)

    def creation_of(self, body: str | bytes, name: str = "$new", *headers: str) -> bytes:
        """The whole request for a body as it is."""
        return http("POST", f"{API}/containers/create?name={self.fill(name)}", body, *headers)

    def workspace(self, *changes: str, without: str = "") -> dict[str, Any]:
        """Binds of the bot's workspace as OpenClaw makes them, plus others, without those whose target ends so."""
        nested = [f"{source}:/workspace/{place}:ro,z" for source, place in self.nested]
        kept = [bind for bind in nested if not without or not bind.split(":")[1].endswith(without)]
        return {"HostConfig": {"Binds": [f"{self.words['state']}/workspace:/workspace:z", *kept, *changes]}}

    def exec_body(self, *command: str, **changes: Any) -> dict[str, Any]:
        """The body that the docker CLI sends for ``docker exec -i``."""
        return {
            "User": "", "Privileged": False, "Tty": False, "AttachStdin": True, "AttachStderr": True,
            "AttachStdout": True, "Detach": False, "DetachKeys": "", "Env": None, "WorkingDir": "",
            "Cmd": list(command), **changes,
        }  # fmt: skip

    def probe_body(self, **changes: Any) -> dict[str, Any]:
        """The body of OpenClaw's probe in its own container."""
        filled: dict[str, Any] = self.fill(changes)
        return {**self.exec_body(NODE, "-e", PROBE, AttachStdin=False), **filled}

    def fresh_exec(self, *command: str) -> str:
        """A new exec in the attacker's own sandbox, not yet started."""
        reply = self.client.ask("POST", f"/containers/{self.words['sandbox']}/exec", self.exec_body(*command))
        assert reply.status == 201, reply
        identity: str = reply.json()["Id"]
        return identity


CREATE: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": True, "AttachStderr": True,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": ["X=1"], "Cmd": ["sleep", "infinity"], "Image": "",
    "Volumes": {}, "WorkingDir": "/workspace", "Entrypoint": None, "OnBuild": None,
    "Labels": {"openclaw.createdAtMs": "12", "openclaw.sandbox": "1", "openclaw.sessionKey": "agent:main"},
    "HostConfig": {
        "Binds": [], "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "none",
        "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False,
        "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": ["ALL"],
        "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None,
        "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
        "PublishAllPorts": False, "ReadonlyRootfs": True, "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": {"/run": "", "/tmp": "", "/var/tmp": ""}, "UTSMode": "", "UsernsMode": "", "ShmSize": 0,
        "Isolation": "", "CpuShares": 0, "Memory": 1073741824, "NanoCpus": 1000000000, "CgroupParent": "",
        "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None,
        "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": -1,
        "OomKillDisable": False, "PidsLimit": 256, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0, "MaskedPaths": None, "ReadonlyPaths": None, "Init": True,
    },
    "NetworkingConfig": {"EndpointsConfig": {}},
}  # fmt: skip
