from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_app.json_strict import parse_object
from broker_app.models import ContainerCreate, ExecCreate, ExecStart, HostConfig, NetworkingConfig, read_model
from broker_app.refusal import Refused
from tests.support.broker_samples import CAPTURED, captured, read_create

# As the Docker client 26.1.5 sent them.
EXECS = [
    '{"User":"","Privileged":false,"Tty":false,"AttachStdin":true,"AttachStderr":true,"AttachStdout":true,'
    '"Detach":false,"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["cat"]}\n',
    '{"User":"","Privileged":false,"Tty":false,"AttachStdin":true,"AttachStderr":true,"AttachStdout":true,'
    '"Detach":false,"DetachKeys":"","Env":["A=b"],"WorkingDir":"/workspace",'
    '"Cmd":["/bin/sh","-lc","echo out; echo err \\u003e\\u00262; exit 3"]}\n',
    '{"User":"","Privileged":false,"Tty":true,"AttachStdin":false,"AttachStderr":true,"AttachStdout":true,'
    '"Detach":false,"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["/bin/sh","-lc","echo tty"]}\n',
]


def refusal_of(document):
    with pytest.raises(Refused) as refusal:
        read_create(document)
    return refusal.value


def test_request_of_the_real_client_is_read():
    request = read_model(ContainerCreate, parse_object(CAPTURED.encode(), 262144))
    assert request.HostConfig.Memory == 1073741824
    assert request.HostConfig.Binds is not None and len(request.HostConfig.Binds) == 3


@pytest.mark.parametrize("text", EXECS)
def test_exec_of_the_real_client_is_read(text):
    assert read_model(ExecCreate, parse_object(text.encode(), 262144)).Cmd


@pytest.mark.parametrize("tty", ["true", "false"])
def test_exec_start_of_the_real_client_is_read(tty):
    text = f'{{"Detach":false,"Tty":{tty}}}\n'
    assert read_model(ExecStart, parse_object(text.encode(), 4096)).Tty is (tty == "true")


def test_every_declared_field_is_one_the_client_sends():
    sent = captured()
    assert set(ContainerCreate.model_fields) == set(sent)
    assert set(HostConfig.model_fields) == set(sent["HostConfig"])
    assert set(NetworkingConfig.model_fields) == set(sent["NetworkingConfig"])
    assert set(ExecCreate.model_fields) == set(json.loads(EXECS[0]))


HOST_ATTACKS = {
    "ContainerIDFile": ["/tmp/id"],
    "LogConfig": [
        {"Type": "syslog", "Config": {}},
        {"Type": "", "Config": {"syslog-address": "tcp://x"}},
        {"type": ""},
    ],
    "PortBindings": [{"80/tcp": [{"HostPort": "80"}]}],
    "RestartPolicy": [{"Name": "always"}, {"Name": "no", "MaximumRetryCount": 3}, {"Name": "no\n"}],
    "AutoRemove": [True],
    "VolumeDriver": ["local"],
    "VolumesFrom": [["clawfactory-bot2-gateway"]],
    "ConsoleSize": [[1, 1], [0]],
    "CapAdd": [["SYS_ADMIN"], ["ALL"]],
    "CgroupnsMode": ["host", "private"],
    "Dns": [["10.0.0.1"]],
    "DnsOptions": [["a"]],
    "DnsSearch": [["a"]],
    "ExtraHosts": [["a:127.0.0.1"]],
    "GroupAdd": [["0"], ["docker"]],
    "IpcMode": ["host", "shareable", "container:x"],
    "Cgroup": ["container:x"],
    "Links": [["a:b"]],
    "OomScoreAdj": [-1000, 1],
    "PidMode": ["host", "container:x"],
    "Privileged": [True],
    "PublishAllPorts": [True],
    "UTSMode": ["host"],
    "UsernsMode": ["host"],
    "ShmSize": [2**40],
    "Isolation": ["process"],
    "CpuShares": [1024],
    "CgroupParent": ["/", "/docker"],
    "BlkioWeight": [1000],
    "BlkioWeightDevice": [[{"Path": "/dev/sda", "Weight": 10}]],
    "BlkioDeviceReadBps": [[{"Path": "/dev/sda", "Rate": 1}]],
    "BlkioDeviceWriteBps": [[{"Path": "/dev/sda", "Rate": 1}]],
    "BlkioDeviceReadIOps": [[{"Path": "/dev/sda", "Rate": 1}]],
    "BlkioDeviceWriteIOps": [[{"Path": "/dev/sda", "Rate": 1}]],
    "CpuPeriod": [100000],
    "CpuQuota": [-1, 1],
    "CpuRealtimePeriod": [1],
    "CpuRealtimeRuntime": [1],
    "CpusetCpus": ["0"],
    "CpusetMems": ["0"],
    "Devices": [[{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]],
    "DeviceCgroupRules": [["a *:* rwm"]],
    "DeviceRequests": [[{"Count": -1, "Capabilities": [["gpu"]]}]],
    "MemoryReservation": [1],
    "MemorySwappiness": [0, 100],
    "OomKillDisable": [True],
    "Ulimits": [[{"Name": "nofile", "Soft": 1, "Hard": 1}]],
    "CpuCount": [1],
    "CpuPercent": [1],
    "IOMaximumIOps": [1],
    "IOMaximumBandwidth": [1],
    "MaskedPaths": [[], ["/proc/kcore"]],
    "ReadonlyPaths": [[]],
    "Mounts": [[], [{"Type": "bind", "Source": "/", "Target": "/workspace"}], None],
    "Runtime": ["runc", "io.containerd.runtime.v1.linux"],
    "Sysctls": [{"kernel.msgmax": "1"}, {}],
    "StorageOpt": [{"size": "1G"}],
    "Annotations": [{"a": "b"}],
    "KernelMemory": [0],
    "KernelMemoryTCP": [0],
    "Capabilities": [["CAP_SYS_ADMIN"]],
    "Memory": [-1, 2**53 + 1, "1g", 1.0, True],
    "PidsLimit": [-2, "1"],
    "CapDrop": [["all\n"], "ALL", [None]],
    "NetworkMode": [None, 1],
    "Binds": ["/:/workspace", [1], [None], {"0": "/:/workspace"}],
    "Tmpfs": [["/tmp"], {"/tmp": None}],
    "SecurityOpt": [["a", "b", "c", "d", "e"]],
}
TOP_ATTACKS = {
    "Hostname": ["host"],
    "Domainname": ["host"],
    "AttachStdin": [True],
    "Tty": [True, 0, None, "false"],
    "OpenStdin": [True],
    "StdinOnce": [True],
    "Volumes": [{"/etc": {}}, []],
    "Entrypoint": [["/bin/sh"], "/bin/sh", [""]],
    "OnBuild": [["RUN a"]],
    "ExposedPorts": [{"80/tcp": {}}],
    "Healthcheck": [{"Test": ["CMD-SHELL", "id"]}],
    "ArgsEscaped": [True],
    "NetworkDisabled": [False],
    "MacAddress": [""],
    "StopSignal": ["SIGKILL"],
    "StopTimeout": [1],
    "Shell": [["/bin/sh"]],
    "Platform": ["linux"],
    "Image": [None, "", 1, "a" * 256],
    "Cmd": [None, "sleep infinity", [1], []],
    "Env": ["A=b", [1], ["A=b"] * 65, ["A=" + "b" * 20000] * 2, {"A": "b"}],
    "Labels": [["a"], {"openclaw.a": 1}, {f"openclaw.{number}": "" for number in range(65)}],
    "NetworkingConfig": [{"EndpointsConfig": {"bridge": {}}}, {"endpointsConfig": {}}, None],
    "HostConfig": [None, [], ...],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in HOST_ATTACKS for value in HOST_ATTACKS[name]])
def test_field_of_the_host_takes_its_empty_value_only(name, value):
    document = captured()
    document["HostConfig"][name] = value
    assert refusal_of(document).status in (400, 403)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in TOP_ATTACKS for value in TOP_ATTACKS[name]])
def test_field_of_the_container_takes_its_empty_value_only(name, value):
    document = captured()
    if value is ...:
        del document[name]
    else:
        document[name] = value
    if name == "Cmd" and value == []:
        assert read_create(document).Cmd == [], "the policy refuses it"
        return
    assert refusal_of(document).status in (400, 403)


def test_every_unused_field_is_attacked_above():
    used = {"NanoCpus", "MemorySwap", "ReadonlyRootfs", "Init"}
    assert set(HostConfig.model_fields) - used <= HOST_ATTACKS.keys()
    used = {"User", "WorkingDir", "AttachStdout", "AttachStderr"}
    assert set(ContainerCreate.model_fields) - used <= TOP_ATTACKS.keys()


@pytest.mark.parametrize("name", list(captured()["HostConfig"]))
@pytest.mark.parametrize("variant", [str.lower, str.upper, str.swapcase])
def test_other_case_of_a_field_is_unknown(name, variant):
    """The engine would read ``privileged`` as ``Privileged``."""
    document = captured()
    document["HostConfig"][variant(name)] = document["HostConfig"].pop(name)
    refusal = refusal_of(document)
    assert (refusal.status, refusal.reason) == (400, "HostConfig has an unknown field")


@given(st.text(string.printable, min_size=1, max_size=20), st.sampled_from([None, "HostConfig", "NetworkingConfig"]))
def test_unknown_field_is_refused_and_not_repeated(name, section):
    document = captured()
    place = document if section is None else document[section]
    known = name in place
    place.setdefault(name, None)
    if not known:
        refusal = refusal_of(document)
        assert refusal.status == 400
        assert refusal.reason == f"{section or 'the body'} has an unknown field"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Privileged", True),
        ("Detach", True),
        ("DetachKeys", "ctrl-p"),
        ("Cmd", []),
        ("Cmd", None),
        ("Cmd", ["a"] * 257),
        ("Cmd", ["a" * (128 * 1024 + 1)]),
        ("Env", ["A=" + "b" * 40000]),
        ("WorkingDir", "/" + "a" * 1024),
        ("ConsoleSize", [24, 80]),
        ("privileged", False),
        ("Tty", 1),
        ("User", None),
    ],
)
def test_exec_takes_no_more_than_it_should(name, value):
    document = json.loads(EXECS[0])
    document[name] = value
    with pytest.raises(Refused):
        read_model(ExecCreate, document)


@pytest.mark.parametrize("document", [{"Detach": True}, {"Detach": 0}, {"Tty": "true"}, {"ConsoleSize": [1, 1]}])
def test_exec_start_takes_no_more_than_it_should(document):
    with pytest.raises(Refused):
        read_model(ExecStart, document)


def test_reason_names_the_field_and_no_value():
    document = captured()
    document["HostConfig"]["LogConfig"]["Config"] = {"secret": "value"}
    refusal = refusal_of(document)
    assert (refusal.status, refusal.reason) == (403, "HostConfig.LogConfig.Config has a value that is not allowed")
