from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from broker_app import responses
from tests.support.broker_samples import BASE, IMAGE, IMAGE_ID, NAME, make_settings

SETTINGS = make_settings()
SECRET = "5f2a9c0e7b1d48f6"
STATE_OF = {
    "Status": "running",
    "Running": True,
    "Paused": False,
    "Restarting": False,
    "OOMKilled": False,
    "Dead": False,
    "Pid": 4242,
    "ExitCode": 0,
    "Error": f"error of {SECRET}",
    "StartedAt": "2026-11-22T20:04:04.0Z",
    "FinishedAt": "0001-01-01T00:00:00Z",
    "Health": {"Status": "healthy", "FailingStreak": 0, "Log": [{"Output": SECRET}]},
}
MOUNT = {
    "Type": "bind",
    "Source": f"{BASE}/state/workspace",
    "Destination": "/workspace",
    "Mode": "",
    "RW": True,
    "Propagation": "rprivate",
}


def inspect(service: str, **labels: str) -> dict[str, Any]:
    """The engine's answer, with a secret wherever a client must not look."""
    return {
        "Id": "1" * 64,
        "Created": "2026-11-22T20:04:03.8Z",
        "Path": SECRET,
        "Args": [SECRET],
        "State": copy.deepcopy(STATE_OF),
        "Image": IMAGE_ID,
        "ResolvConfPath": f"/var/lib/docker/{SECRET}",
        "LogPath": SECRET,
        "Name": f"/{NAME}" if service == "sandbox" else f"/clawfactory-bot1-{service}",
        "RestartCount": 2,
        "GraphDriver": {"Data": {"LowerDir": SECRET}},
        "HostConfig": {"NetworkMode": "none", "Tmpfs": {"/tmp": "rw"}, "Runtime": SECRET, "ExtraHosts": [SECRET]},
        "Mounts": [{**MOUNT, "Driver": SECRET}],
        "Config": {
            "Hostname": SECRET,
            "User": "20001:20001",
            "Tty": False,
            "Env": [f"TOKEN={SECRET}"],
            "Cmd": ["sleep", "infinity"],
            "Image": "sha256:" + "a" * 64,
            "WorkingDir": "/workspace",
            "Labels": {
                "clawfactory.bot": "bot1",
                "clawfactory.service": service,
                "com.example.secret": SECRET,
                **labels,
            },
        },
        "NetworkSettings": {"IPAddress": "10.213.0.3", "Networks": {"x": {"IPAddress": SECRET}}},
    }


def test_sandbox_shows_what_openclaw_looks_at():
    labels = {"openclaw.sessionKey": "agent:main", "clawfactory.image": IMAGE}
    shown = responses.container(inspect("sandbox", **labels), SETTINGS, "gateway")
    assert (shown["Id"], shown["Name"], shown["Image"]) == ("1" * 64, f"/{NAME}", IMAGE_ID)
    assert shown["Created"].startswith("2026")
    assert shown["State"]["Running"] is True and shown["State"]["Status"] == "running"
    assert shown["Mounts"] == [MOUNT]
    assert shown["HostConfig"]["Tmpfs"] == {"/tmp": "rw"}
    config = shown["Config"]
    assert config["Image"] == IMAGE, "OpenClaw compares it with its configuration"
    assert config["Labels"]["openclaw.sessionKey"] == "agent:main"
    assert config["Env"] == [f"TOKEN={SECRET}"], "its own"
    assert (config["Tty"], config["User"], config["WorkingDir"]) == (False, "20001:20001", "/workspace")
    shown["Config"]["Env"] = []
    assert SECRET not in json.dumps(shown)


@pytest.mark.parametrize("asked", ["clawfactory-sandbox:2", "debian", None])
def test_reference_is_that_of_the_pinned_id_whatever_a_label_says(asked):
    labels = {} if asked is None else {"clawfactory.image": asked}
    shown = responses.container(inspect("sandbox", **labels), SETTINGS, "gateway")
    assert shown["Config"]["Image"] == IMAGE


def test_sandbox_of_an_image_that_is_allowed_no_more_shows_its_id():
    shown = responses.container({**inspect("sandbox"), "Image": "sha256:" + "c" * 64}, SETTINGS, "gateway")
    assert shown["Config"]["Image"] == "sha256:" + "c" * 64


def test_gateway_shows_itself_where_it_is_mounted_and_nothing_else():
    shown = responses.container(inspect("gateway"), SETTINGS, "gateway")
    assert shown["Mounts"] == [MOUNT]
    assert shown["HostConfig"] == {"Tmpfs": {"/tmp": "rw"}}
    assert shown["Config"]["Env"] == []
    assert shown["Config"]["Labels"] == {"clawfactory.bot": "bot1", "clawfactory.service": "gateway"}
    text = json.dumps(shown)
    assert SECRET not in text and "10.213" not in text and "4242" not in text


@pytest.mark.parametrize("service", ["gateway", "proxy", "egress", "controller", "broker", "sandbox"])
def test_controller_sees_no_environment_and_no_mount(service):
    shown = responses.container(inspect(service), SETTINGS, "controller")
    text = json.dumps(shown)
    assert SECRET not in text and BASE not in text and "10.213" not in text
    assert shown["State"]["Health"] == {"Status": "healthy", "FailingStreak": 0, "Log": []}
    assert shown["RestartCount"] == 2


@pytest.mark.parametrize("profile", ["gateway", "controller"])
@pytest.mark.parametrize("broken", [{}, {"Config": None, "State": [], "Mounts": {}, "HostConfig": 1, "Id": 5}])
def test_answer_of_another_form_shows_nothing(profile, broken):
    shown = responses.container(broken, SETTINGS, profile)
    assert shown["Id"] == "" and shown["Mounts"] == [] and shown["Config"]["Env"] == []


def item(name: str, service: str = "sandbox", bot: str = "bot1", **labels: str) -> dict[str, Any]:
    return {
        "Id": "1" * 64,
        "Names": [f"/{name}"],
        "Image": IMAGE_ID,
        "ImageID": IMAGE_ID,
        "Command": SECRET,
        "Created": 1795377843,
        "Ports": [{"IP": SECRET}],
        "Labels": {"clawfactory.bot": bot, "clawfactory.service": service, "x": SECRET, **labels},
        "State": "running",
        "Status": "Up 2 seconds",
        "HostConfig": {"NetworkMode": SECRET},
        "NetworkSettings": {"Networks": {SECRET: {"IPAddress": SECRET}}},
        "Mounts": [{"Source": SECRET}],
    }


EVERY = [
    item(NAME),
    item("clawfactory-bot1-sbx-shared"),
    item("clawfactory-bot1-gateway", "gateway"),
    item("clawfactory-bot1-egress", "egress"),
    item("clawfactory-bot2-sbx-shared", bot="bot2"),
    item("clawfactory-bot2-gateway", "gateway", bot="bot2"),
    item("clawfactory-bot2-sbx-shared"),  # labels of bot1, name of bot2
    item("clawfactory-bot1-sbx-shared", bot="bot2"),
    item("clawfactory-bot1-sbx-check-1", **{"clawfactory.check": "1"}),
    item("clawfactory-bot1-sbx-check-2"),
    item("clawfactory-bot1-sbx-a", **{"clawfactory.check": "1"}),
    item("clawfactory-bot1-gateway", "proxy"),
    item("clawfactory-bot1-other", "other"),
    {**item(NAME), "Names": []},
    {**item(NAME), "Names": [f"/{NAME}", "/clawfactory-bot2-sbx-shared"]},
    {**item(NAME), "Labels": None},
    {},
]


def names(profile) -> list[str]:
    return [entry["Names"][0] for entry in responses.container_list(EVERY, SETTINGS, profile)]


def test_gateway_lists_its_sandboxes():
    assert names("gateway") == [f"/{NAME}", "/clawfactory-bot1-sbx-shared"]


def test_controller_lists_the_containers_of_the_bot():
    assert names("controller") == [
        f"/{NAME}",
        "/clawfactory-bot1-sbx-shared",
        "/clawfactory-bot1-gateway",
        "/clawfactory-bot1-egress",
    ]


def test_list_says_no_more_than_the_client_prints():
    (shown,) = responses.container_list([item(NAME, **{"openclaw.sandbox": "1"})], SETTINGS, "gateway")
    assert SECRET not in json.dumps(shown)
    assert shown["Image"] == IMAGE and shown["State"] == "running"
    assert shown["Labels"] == {"clawfactory.bot": "bot1", "clawfactory.service": "sandbox", "openclaw.sandbox": "1"}
    assert shown["Ports"] == [] and shown["Mounts"] == []


@pytest.mark.parametrize("reference", [IMAGE, IMAGE_ID])
def test_image_shows_that_it_is_there(reference):
    engine = {"Id": IMAGE_ID, "Architecture": "amd64", "Os": "linux", "Size": 5, "Parent": SECRET, "RepoTags": [SECRET]}
    engine["Config"] = {"Env": [SECRET]}
    shown = responses.image(engine, SETTINGS, reference)
    assert (shown["Id"], shown["RepoTags"], shown["Size"]) == (IMAGE_ID, [IMAGE], 5)
    assert SECRET not in json.dumps(shown)


def test_info_says_nothing_of_the_host():
    engine = {
        "ID": SECRET,
        "Name": SECRET,
        "KernelVersion": SECRET,
        "OperatingSystem": SECRET,
        "NCPU": 2,
        "MemTotal": 25276063744,
        "Containers": 14,
        "Images": 154,
        "DockerRootDir": SECRET,
        "ServerVersion": "20.10.24",
        "OSType": "linux",
        "Architecture": "x86_64",
        "Swarm": {"LocalNodeState": "active", "NodeID": SECRET},
    }
    own = responses.container_list(
        [item(NAME), {**item("clawfactory-bot1-sbx-a"), "State": "exited"}], SETTINGS, "gateway"
    )
    shown = responses.info(engine, own)
    assert (shown["ServerVersion"], shown["OSType"], shown["Architecture"]) == ("20.10.24", "linux", "x86_64")
    assert [shown[key] for key in ("Containers", "ContainersRunning", "ContainersStopped", "Images")] == [2, 1, 1, 0]
    assert shown["Swarm"]["LocalNodeState"] == "inactive"
    assert SECRET not in json.dumps(shown) and "25276063744" not in json.dumps(shown)


def test_version_offers_one_version_of_the_api():
    engine = {
        "Version": "20.10.24",
        "ApiVersion": "1.52",
        "MinAPIVersion": "1.12",
        "Os": "linux",
        "KernelVersion": SECRET,
    }
    shown = responses.version(engine)
    assert (shown["Version"], shown["ApiVersion"], shown["MinAPIVersion"]) == ("20.10.24", "1.41", "1.41")
    assert SECRET not in json.dumps(shown)


def test_exec_shows_how_it_ended():
    engine = {
        "ID": "e",
        "Running": False,
        "ExitCode": 3,
        "ContainerID": "c",
        "Pid": 22480,
        "ProcessConfig": {"user": SECRET},
    }
    assert responses.exec_state(engine) == {"ID": "e", "ContainerID": "c", "Running": False, "ExitCode": 3, "Pid": 0}
    assert responses.exec_state({"Running": True, "ExitCode": None})["ExitCode"] is None


def test_created_things_show_their_id():
    engine = {"Id": "a", "Warnings": [SECRET], "more": SECRET}
    assert responses.created(engine) == {"Id": "a", "Warnings": []}
    assert responses.exec_created(engine) == {"Id": "a"}
