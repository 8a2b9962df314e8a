"""What a sandbox may be, told by the engine's own words about it: a second opinion, without code of the broker."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

# What the engine says of a container that was given nothing special; the fields of HostConfig that name a power.
_EMPTY = (
    "Privileged",
    "CapAdd",
    "Binds",
    "VolumesFrom",
    "VolumeDriver",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "GroupAdd",
    "Links",
    "ExtraHosts",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "PortBindings",
    "PublishAllPorts",
    "Sysctls",
    "StorageOpt",
    "Cgroup",
    "CgroupParent",
    "OomKillDisable",
    "AutoRemove",
    "BlkioWeight",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "CpuShares",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "Isolation",
    "KernelMemory",
    "KernelMemoryTCP",
    "MemoryReservation",
    "ContainerIDFile",
)
_TMPFS = {"/tmp", "/var/tmp", "/run"}
_TARGETS = ("/workspace", "/agent", "/openclaw/attachments")


def violations(inspect: Mapping[str, Any], settings: Mapping[str, Any], approved: Sequence[str] = ()) -> list[str]:
    """What of a container lies outside of the broker's policy; empty if nothing does.

    :param inspect: the engine's inspect of it.
    :param settings: the broker's settings file.
    :param approved: sources of the gateway's read-only mounts.
    """
    host, config, sandbox = inspect["HostConfig"], inspect["Config"], settings["sandbox"]
    bot, uid, network = settings["bot"], sandbox["uid"], sandbox["network"]
    labels = config["Labels"] or {}
    wrong = [f"{key} is {host[key]!r}" for key in _EMPTY if host.get(key) not in (None, False, 0, "", [], {})]
    expected = {
        "label of the bot": (labels.get("clawfactory.bot"), bot),
        "label of the service": (labels.get("clawfactory.service"), "sandbox"),
        "user": (config["User"], f"{uid}:{uid}"),
        "command": (config["Cmd"], ["sleep", "infinity"]),
        "entry point": (config["Entrypoint"] or None, None),
        "volumes": (config["Volumes"] or None, None),
        "health check": ((config.get("Healthcheck") or {"Test": ["NONE"]})["Test"], ["NONE"]),
        "CapDrop": (host["CapDrop"], ["ALL"]),
        "ReadonlyRootfs": (host["ReadonlyRootfs"], True),
        "IpcMode": (host["IpcMode"], "private"),
        "Runtime": (host["Runtime"], "runc"),
        "RestartPolicy": (host["RestartPolicy"]["Name"] in ("", "no"), True),
        "log": (host["LogConfig"]["Type"], "json-file"),
        "log files": (host["LogConfig"]["Config"].get("max-file", "1"), "1"),
        "MemorySwap": (host["MemorySwap"], host["Memory"]),
        "Init": (host["Init"], True),
        "masked paths": (bool(host["MaskedPaths"]), True),
        "read-only paths": (bool(host["ReadonlyPaths"]), True),
    }
    wrong += [f"{name} is {found!r}" for name, (found, wanted) in expected.items() if found != wanted]
    if not inspect["Name"].startswith(f"/clawfactory-{bot}-sbx-"):
        wrong.append(f"name is {inspect['Name']}")
    if inspect["Image"] not in sandbox["images"].values():
        wrong.append(f"image is {inspect['Image']}")
    if [option.partition(":")[0] for option in host["SecurityOpt"] or []] != ["no-new-privileges"] or "false" in str(
        host["SecurityOpt"]
    ):
        wrong.append(f"SecurityOpt is {host['SecurityOpt']}")
    if host["NetworkMode"] not in ("none", network["name"] if network else "none"):
        wrong.append(f"NetworkMode is {host['NetworkMode']}")
    if "max-size" not in host["LogConfig"]["Config"]:
        wrong.append("the log has no bound")
    for key, limit in (("Memory", "memory_bytes"), ("NanoCpus", "nano_cpus"), ("PidsLimit", "pids")):
        if not 0 < (host[key] or 0) <= sandbox[limit]:
            wrong.append(f"{key} is {host[key]}")
    if host["ShmSize"] > 64 * 2**20:
        wrong.append(f"ShmSize is {host['ShmSize']}")
    if (host["OomScoreAdj"] or 0) < 0:
        wrong.append(f"OomScoreAdj is {host['OomScoreAdj']}")
    wrong += [
        f"ulimit {limit}" for limit in host["Ulimits"] or [] if limit["Name"] != "nofile" or limit["Hard"] > 65536
    ]
    wrong += [text for target, options in (host["Tmpfs"] or {}).items() for text in _tmpfs(target, options, sandbox)]
    mounts = [mount for mount in inspect["Mounts"] if mount["Type"] != "tmpfs"]
    wrong += [text for mount in mounts for text in _mount(mount, settings, approved)]
    return wrong


def _tmpfs(target: str, options: str, sandbox: Mapping[str, Any]) -> list[str]:
    given = options.split(",")
    sizes = [option.partition("=")[2] for option in given if option.startswith("size=")]
    wrong = [] if target in _TMPFS else [f"memory at {target}"]
    if not {"nosuid", "nodev"} <= set(given) or {"suid", "dev"} & set(given):
        wrong.append(f"memory at {target} with {options}")
    if len(sizes) != 1 or not sizes[0].isdigit() or int(sizes[0]) > sandbox["tmpfs_bytes"]:
        wrong.append(f"memory at {target} with size {sizes}")
    return wrong


def _mount(mount: Mapping[str, Any], settings: Mapping[str, Any], approved: Sequence[str]) -> list[str]:
    source, target = mount["Source"], mount["Destination"]
    wrong = []
    if mount["Type"] != "bind":
        wrong.append(f"{mount['Type']} at {target}")
    if mount["Propagation"] not in ("", "private", "rprivate"):
        wrong.append(f"propagation {mount['Propagation']} at {target}")
    if not any(target == top or target.startswith(f"{top}/") for top in _TARGETS):
        wrong.append(f"mount at {target}")
    state = f"{settings['bot_directory']}/state/"
    inside = source.startswith(state) and posixpath.normpath(source) == source
    parts = source.removeprefix(state).split("/")
    own = inside and any(
        len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in settings["sandbox"]["sources"])
    )
    if not own and not (source in approved and not mount["RW"]):
        wrong.append(f"mount of {source}")
    return wrong
