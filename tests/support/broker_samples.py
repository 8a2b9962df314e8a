"""What the tests of the broker's policy share: settings, a gateway, and the request the real client sends."""

from __future__ import annotations

import copy
import json
from pathlib import PurePosixPath
from typing import Any

from broker_app.binds import GatewayMount, gateway_mounts
from broker_app.json_strict import parse_object
from broker_app.models import ContainerCreate, read_model
from broker_app.settings import Settings

BASE = "/srv/clawfactory/bot_repos/bot1"
IMAGE = "clawfactory-sandbox:1"
IMAGE_ID = "sha256:" + "a" * 64
NAME = "clawfactory-bot1-sbx-workspace-" + "0" * 32
PROBE = ["/opt/node/bin/node", "-e", "probe"]

SETTINGS_DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "bot": "bot1",
    "engine_socket": "/run/engine/docker.sock",
    "audit_file": "/audit/broker.jsonl",
    "lock_file": "/run/locks/bot1",
    "clients": {
        "gateway": {"socket": "/run/broker/gateway/docker.sock", "uid": 20001},
        "controller": {"socket": "/run/broker/controller/docker.sock", "uid": 30001},
    },
    "gateway_probe": PROBE,
    "bot_directory": BASE,
    "sandbox": {
        "images": {IMAGE: IMAGE_ID, "clawfactory-sandbox:2": "sha256:" + "b" * 64},
        "uid": 20001,
        "max_count": 8,
        "memory_bytes": 1073741824,
        "nano_cpus": 1000000000,
        "pids": 256,
        "tmpfs_bytes": 67108864,
        "sources": ["workspace", "workspace-*", "sandboxes/*", "sandbox/skills-workspaces/*"],
        "network": None,
    },
    "stream_seconds": 21600,
}

# As the Docker client 26.1.5 sent it for the arguments of OpenClaw's sandbox backend, with this sample's paths.
CAPTURED = (
    '{"Hostname":"","Domainname":"","User":"20001:20001","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,'
    '"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["X=1"],"Cmd":["sleep","infinity"],"Image":"' + IMAGE + '",'
    '"Volumes":{},"WorkingDir":"/workspace","Entrypoint":null,"OnBuild":null,"Labels":{"openclaw.createdAtMs":"12",'
    '"openclaw.sandbox":"1","openclaw.sessionKey":"agent:main"},"HostConfig":{"Binds":["' + BASE + "/state/workspace"
    ':/workspace:z","' + BASE + '/approved/workspace/SOUL.md:/workspace/SOUL.md:ro,z","' + BASE + "/approved/workspace/"
    'skills:/workspace/skills:ro,z"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"none",'
    '"PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"",'
    '"VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":["ALL"],"CgroupnsMode":"","Dns":[],"DnsOptions":[],'
    '"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",'
    '"Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":true,"SecurityOpt":["no-new-privileges"],"Tmpfs":{'
    '"/run":"","/tmp":"","/var/tmp":""},"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":'
    '1073741824,"NanoCpus":1000000000,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],'
    '"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,'
    '"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,'
    '"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,'
    '"PidsLimit":256,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,'
    '"ReadonlyPaths":null,"Init":true},"NetworkingConfig":{"EndpointsConfig":{}}}\n'
)

GATEWAY_INSPECT: dict[str, Any] = {
    "Mounts": [
        {"Type": "bind", "Source": source, "Destination": target, "Mode": "", "RW": writable, "Propagation": "rprivate"}
        for source, target, writable in [
            (f"{BASE}/config", "/etc/openclaw", False),
            (f"{BASE}/state", "/home/node/.openclaw", True),
            (f"{BASE}/state/workspace", "/home/node/.openclaw/workspace", True),
            (f"{BASE}/approved/workspace/SOUL.md", "/home/node/.openclaw/workspace/SOUL.md", False),
            (f"{BASE}/approved/workspace/skills", "/home/node/.openclaw/workspace/skills", False),
            ("/srv/clawfactory/secrets/bot1/run/gateway.env", "/run/secrets/gateway.env", False),
        ]
    ],
    "HostConfig": {"Tmpfs": {"/tmp": "rw,exec", "/home/node/.cache": "rw"}},
}


def make_settings(**sandbox: Any) -> Settings:
    """Settings of bot1; ``sandbox`` replaces keys of that section."""
    document = copy.deepcopy(SETTINGS_DOCUMENT)
    document["sandbox"].update(sandbox)
    return Settings.model_validate(document)


def make_network() -> dict[str, str]:
    return {"name": "clawfactory-bot1-sandbox", "proxy": "http://10.213.0.66:3128"}


def mounts() -> list[GatewayMount]:
    return gateway_mounts(GATEWAY_INSPECT)


def captured() -> dict[str, Any]:
    return json.loads(CAPTURED)


def read_create(document: dict[str, Any]) -> ContainerCreate:
    return read_model(ContainerCreate, parse_object(json.dumps(document).encode(), 262144))


def problems(body: dict[str, Any], settings: Settings, gateway: list[GatewayMount]) -> list[str]:
    """What is wrong with a body for the engine, by rules written down a second time and without the broker's code."""
    return [*_container_problems(body, settings), *_mount_problems(body, settings, gateway)]


def _container_problems(body: dict[str, Any], settings: Settings) -> list[str]:
    host, limits = body["HostConfig"], settings.sandbox
    exact = {
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Init": True,
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "AutoRemove": False,
        "PublishAllPorts": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "OomScoreAdj": 500,
        "OomKillDisable": False,
    }
    found = [f"HostConfig.{key} is {host.get(key)!r}" for key, value in exact.items() if host.get(key) != value]
    known = {*exact, "Mounts", "NetworkMode", "Memory", "MemorySwap", "NanoCpus", "PidsLimit", "Tmpfs", "LogConfig"}
    found += [f"HostConfig.{key} is not of ours" for key in host.keys() - known - {"ShmSize", "Ulimits"}]
    top = {"Image", "Cmd", "Entrypoint", "User", "Env", "WorkingDir", "Labels", "Healthcheck", "HostConfig", "Tty"}
    top |= {"OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"}
    found += [f"{key} is not of ours" for key in body.keys() - top]
    found += [f"{key} is set" for key in ("Tty", "OpenStdin", "StdinOnce", "AttachStdin") if body[key] is not False]
    if body["Image"] not in limits.images.values():
        found.append("image")
    if body["Cmd"] != ["sleep", "infinity"] or body["Entrypoint"] != [] or body["User"] != "20001:20001":
        found.append("command, entry point or user")
    if not 6 * 2**20 <= host["Memory"] <= limits.memory_bytes or host["MemorySwap"] != host["Memory"]:
        found.append("memory")
    if not 0 < host["NanoCpus"] <= limits.nano_cpus or not 0 < host["PidsLimit"] <= limits.pids:
        found.append("processors or processes")
    own = {"clawfactory.bot": "bot1", "clawfactory.service": "sandbox"}
    if any(body["Labels"].get(key) != value for key, value in own.items()):
        found.append("owner labels")
    if any(not key.startswith("openclaw.") and key not in {*own, "clawfactory.image"} for key in body["Labels"]):
        found.append("labels")
    networks = {"none"} | ({limits.network.name} if limits.network else set())
    if host["NetworkMode"] not in networks:
        found.append("network")
    environment = [entry.split("=", 1) for entry in body["Env"]]
    if host["NetworkMode"] != "none" and limits.network:
        wanted = {"http_proxy": limits.network.proxy, "https_proxy": limits.network.proxy}
        for name, value in environment:
            if name.lower() in wanted and value != wanted[name.lower()]:
                found.append("proxy")
        if not {"HTTP_PROXY", "https_proxy"} <= {name for name, _ in environment}:
            found.append("proxy missing")
    for target, options in host["Tmpfs"].items():
        chosen = set(options.split(","))
        needed = {"nosuid", "nodev", f"size={limits.tmpfs_bytes}", f"uid={limits.uid}"}
        if target not in {"/tmp", "/var/tmp", "/run"} or not needed <= chosen or not {"exec", "noexec"} & chosen:
            found.append(f"tmpfs {target}")
    return found


def _mount_problems(body: dict[str, Any], settings: Settings, gateway: list[GatewayMount]) -> list[str]:
    found = []
    made = body["HostConfig"]["Mounts"]
    state, approved = PurePosixPath(BASE, "state"), PurePosixPath(BASE, "approved")
    by_target = {mount["Target"]: mount for mount in made}
    if len(by_target) != len(made):
        found.append("a target twice")
    places = [(place, mount) for mount in gateway if (place := _place(mount, gateway))]
    for mount in made:
        source, target = PurePosixPath(mount["Source"]), PurePosixPath(mount["Target"])
        if mount["Type"] != "bind" or mount["BindOptions"] != {"Propagation": "rprivate", "NonRecursive": True}:
            found.append(f"kind of {target}")
        if ".." in (*source.parts, *target.parts) or "//" in mount["Source"] or str(source) != mount["Source"]:
            found.append(f"path of {target}")
        if target.parts[1] not in ("workspace", "agent") and (
            str(target) != "/openclaw/attachments" or not mount["ReadOnly"]
        ):
            found.append(f"target {target}")
        if source.is_relative_to(state):
            parts = source.relative_to(state).parts
            allowed = parts[:1] == ("workspace",) or (parts and parts[0].startswith("workspace-"))
            allowed = allowed or (len(parts) > 1 and parts[0] == "sandboxes")
            allowed = allowed or (len(parts) > 2 and parts[:2] == ("sandbox", "skills-workspaces"))
        else:
            allowed = source.is_relative_to(approved) and mount["ReadOnly"]
            allowed = allowed and any(other.source == str(source) and other.read_only for other in gateway)
        if not allowed:
            found.append(f"source {source}")
        if not mount["ReadOnly"]:
            found += _writable_problems(source, target, by_target, places)
    return found


def _writable_problems(
    source: PurePosixPath,
    target: PurePosixPath,
    by_target: dict[str, Any],
    places: list[tuple[PurePosixPath, GatewayMount]],
) -> list[str]:
    found = []
    for place, gateway_mount in places:
        if gateway_mount.read_only and source.is_relative_to(place):
            found.append(f"{source} is read-only in the gateway")
        if place != source and place.is_relative_to(source):
            there = by_target.get(str(target / place.relative_to(source)))
            if there is None:
                found.append(f"nothing at {target / place.relative_to(source)}")
            elif gateway_mount.read_only and not there["ReadOnly"]:
                found.append(f"writable at {target / place.relative_to(source)}")
    return found


def _place(mount: GatewayMount, gateway: list[GatewayMount]) -> PurePosixPath | None:
    target = PurePosixPath(mount.target)
    for parent in target.parents:
        for other in gateway:
            if other.target == str(parent):
                return PurePosixPath(other.source) / target.relative_to(parent) if other.source else None
    return None
