"""What a client may see of the engine's answers: fields by name; whatever else the engine says is left out.

Parts of the Docker client read some fields without looking whether they are there; those are present and empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .policy import COMMAND, is_sandbox_name
from .settings import BOT_LABEL, CHECK_LABEL, IMAGE_LABEL, PARTS, SANDBOX_SERVICE, SERVICE_LABEL, Profile, Settings

API_VERSION = "1.41"

_OWN_LABELS = ("openclaw.", "clawfactory.")
_STATE_FLAGS = ("Running", "Paused", "Restarting", "OOMKilled", "Dead")
_MOUNT_FIELDS = {"Type": "", "Source": "", "Destination": "", "Mode": "", "RW": False, "Propagation": ""}


def container(inspect: Mapping[str, Any], settings: Settings, profile: Profile) -> dict[str, Any]:
    """Answer of container inspect. The caller has decided that the client may see the container.

    Only sandboxes show their environment, and only to the gateway, which gave it; only the gateway sees mounts.
    """
    config = _mapping(inspect.get("Config"))
    labels = _mapping(config.get("Labels"))
    is_sandbox = labels.get(SERVICE_LABEL) == SANDBOX_SERVICE
    host = _mapping(inspect.get("HostConfig"))
    to_gateway = profile == "gateway"
    answer: dict[str, Any] = {
        "Id": _text(inspect.get("Id")),
        "Name": _text(inspect.get("Name")),
        "Created": _text(inspect.get("Created")),
        "State": _state(_mapping(inspect.get("State"))),
        "Image": "",
        "RestartCount": _number(inspect.get("RestartCount")),
        "Mounts": _mounts(inspect.get("Mounts")) if to_gateway else [],
        "HostConfig": {"Tmpfs": _texts(host.get("Tmpfs")) if to_gateway else {}},
        "Config": {
            "Labels": _labels(labels),
            "Env": [],
            "Tty": config.get("Tty") is True,
        },
        "NetworkSettings": {"Ports": {}, "Networks": {}},
    }
    if is_sandbox:
        image_id = _text(inspect.get("Image"))
        answer["Image"] = image_id
        answer["HostConfig"]["NetworkMode"] = _text(host.get("NetworkMode"))
        answer["Config"] |= {
            "Image": _reference(settings, image_id, labels),
            "User": _text(config.get("User")),
            "WorkingDir": _text(config.get("WorkingDir")),
            "Env": _list_of_text(config.get("Env")) if to_gateway else [],
            "Cmd": _list_of_text(config.get("Cmd")),
        }
    elif not to_gateway:
        answer["Image"] = _text(inspect.get("Image"))
        answer["Config"]["Image"] = _text(config.get("Image"))
    return answer


def container_list(items: Sequence[Mapping[str, Any]], settings: Settings, profile: Profile) -> list[dict[str, Any]]:
    """Answer of container list: the gateway sees the bot's sandboxes, the controller all containers of the bot.

    Whatever is not the bot's, by labels and by name, is left out even if the engine lists it; so are checkers.
    """
    return [_item(item, settings) for item in items if _is_listed(item, settings, profile)]


def image(inspect: Mapping[str, Any], settings: Settings, reference: str) -> dict[str, Any]:
    """Answer of image inspect.

    :param reference: as the client asked: an allowed reference or a pinned id.
    """
    image_id = _text(inspect.get("Id"))
    tags = [reference] if reference in settings.sandbox.images else []
    return {
        "Id": image_id,
        "RepoTags": tags or [name for name, pinned in settings.sandbox.images.items() if pinned == image_id],
        "RepoDigests": [],
        "Created": _text(inspect.get("Created")),
        "Architecture": _text(inspect.get("Architecture")),
        "Os": _text(inspect.get("Os")),
        "Size": _number(inspect.get("Size")),
        "Config": {"Env": [], "Labels": {}},
    }


def info(answer: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Answer of ``/info``.

    :param own: what this client's own list of all containers answers (:func:`container_list`).
    """
    states = Counter(_text(item.get("State")) for item in own)
    return {
        "ID": "",
        "Containers": len(own),
        "ContainersRunning": states["running"],
        "ContainersPaused": states["paused"],
        "ContainersStopped": len(own) - states["running"] - states["paused"],
        "Images": 0,
        "ServerVersion": _text(answer.get("ServerVersion")),
        "OSType": _text(answer.get("OSType")),
        "Architecture": _text(answer.get("Architecture")),
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": ""},
        "Warnings": None,
    }


def version(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Answer of ``/version``: one API version, the one the broker reads."""
    return {
        "Version": _text(answer.get("Version")),
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION,
        "Os": _text(answer.get("Os")),
        "Arch": _text(answer.get("Arch")),
        "Platform": {"Name": ""},
        "Components": [],
    }


def exec_state(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Answer of exec inspect."""
    exit_code = answer.get("ExitCode")
    return {
        "ID": _text(answer.get("ID")),
        "ContainerID": _text(answer.get("ContainerID")),
        "Running": answer.get("Running") is True,
        "ExitCode": _number(exit_code) if exit_code is not None else None,  # null until the command has ended
        "Pid": 0,
    }


def created(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Answer of container create. The engine's warnings speak of the host."""
    return {"Id": _text(answer.get("Id")), "Warnings": []}


def exec_created(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Answer of exec create."""
    return {"Id": _text(answer.get("Id"))}


def _item(item: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    labels = _mapping(item.get("Labels"))
    is_sandbox = labels.get(SERVICE_LABEL) == SANDBOX_SERVICE
    image_id = _text(item.get("ImageID"))
    return {
        "Id": _text(item.get("Id")),
        "Names": _list_of_text(item.get("Names")),
        "Image": _reference(settings, image_id, labels) if is_sandbox else _text(item.get("Image")),
        "ImageID": image_id,
        "Command": " ".join(COMMAND) if is_sandbox else "",
        "Created": _number(item.get("Created")),
        "State": _text(item.get("State")),
        "Status": _text(item.get("Status")),
        "Labels": _labels(labels),
        "Ports": [],
        "Mounts": [],
        "HostConfig": {"NetworkMode": ""},
        "NetworkSettings": {"Networks": {}},
    }


def _is_listed(item: Mapping[str, Any], settings: Settings, profile: Profile) -> bool:
    labels = _mapping(item.get("Labels"))
    service, names = labels.get(SERVICE_LABEL), _list_of_text(item.get("Names"))
    if labels.get(BOT_LABEL) != settings.bot or CHECK_LABEL in labels or not names:
        return False
    plain = [name.removeprefix("/") for name in names]
    if service == SANDBOX_SERVICE:
        return all(is_sandbox_name(settings, name) for name in plain)
    return profile == "controller" and service in PARTS and plain == [settings.part_name(str(service))]


def _reference(settings: Settings, image_id: str, labels: Mapping[str, Any]) -> str:
    """The reference OpenClaw asked for: it compares it with its configuration. The engine only knows the id."""
    asked = labels.get(IMAGE_LABEL)
    if isinstance(asked, str) and settings.sandbox.images.get(asked) == image_id:
        return asked
    return next((name for name, pinned in settings.sandbox.images.items() if pinned == image_id), image_id)


def _state(state: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {flag: state.get(flag) is True for flag in _STATE_FLAGS}
    answer |= {
        "Status": _text(state.get("Status")),
        "Pid": 0,  # of the host
        "ExitCode": _number(state.get("ExitCode")),
        "Error": "",  # in the engine's words, with paths of the host
        "StartedAt": _text(state.get("StartedAt")),
        "FinishedAt": _text(state.get("FinishedAt")),
    }
    health = _mapping(state.get("Health"))
    if health:
        streak = _number(health.get("FailingStreak"))
        answer["Health"] = {"Status": _text(health.get("Status")), "FailingStreak": streak, "Log": []}
    return answer


def _mounts(mounts: Any) -> list[dict[str, Any]]:
    if not isinstance(mounts, list):
        return []
    return [
        {
            name: mount[name] if isinstance(mount.get(name), type(empty)) else empty
            for name, empty in _MOUNT_FIELDS.items()
        }
        for mount in mounts
        if isinstance(mount, Mapping)
    ]


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in _texts(labels).items() if name.startswith(_OWN_LABELS)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> dict[str, str]:
    return {name: item for name, item in _mapping(value).items() if isinstance(item, str)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _list_of_text(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
