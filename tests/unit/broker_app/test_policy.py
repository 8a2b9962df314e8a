from __future__ import annotations

import copy
import hashlib
import json
import posixpath
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker_app import mountinfo
from broker_app.binds import GatewayMount, engine_mount, parse_bind
from broker_app.json_strict import parse_object
from broker_app.models import ContainerCreate, ExecCreate, ExecStart, read_model
from broker_app.policy import (
    CONTROLLER_COMMANDS,
    compare_check,
    is_sandbox_name,
    plan_check,
    plan_controller_exec,
    plan_create,
    plan_exec,
    plan_exec_start,
    plan_gateway_exec,
    recheck_sandbox,
    sandbox_sources,
)
from broker_app.refusal import Refused
from broker_app.settings import Settings
from tests.support.broker_samples import (
    BASE,
    CAPTURED,
    IMAGE,
    IMAGE_ID,
    NAME,
    PROBE,
    SETTINGS_DOCUMENT,
    captured,
    make_network,
    make_settings,
    mounts,
    problems,
    read_create,
)

SETTINGS, EGRESS = make_settings(), make_settings(network=make_network())
STATE, APPROVED = f"{BASE}/state", f"{BASE}/approved/workspace"
MANY = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def plan(document: dict[str, Any], chosen: Settings = SETTINGS, name: str = NAME) -> dict[str, Any]:
    return plan_create(chosen, name, read_create(document), mounts())


def test_what_is_said_of_all_sandboxes_stays_readable():
    """Or the broker could not read the engine's list of them any more, and would serve nobody."""
    labels = {f"openclaw.{number}": "é" * 4096 for number in range(8)}
    few, many = make_settings(), make_settings()
    few, many = (
        one.model_copy(update={"sandbox": one.sandbox.model_copy(update={"max_count": count})})
        for one, count in ((few, 8), (many, 64))
    )
    assert plan(changed(Labels=labels), few)["Labels"]["openclaw.7"] == "é" * 4096
    with pytest.raises(Refused, match="larger than they may be"):
        plan(changed(Labels=labels), many)


def changed(**values: Any) -> dict[str, Any]:
    """The captured request with other values; ``host__Name`` is a field of HostConfig."""
    document = captured()
    for name, value in values.items():
        if name.startswith("host__"):
            document["HostConfig"][name.removeprefix("host__")] = value
        else:
            document[name] = value
    return document


def test_request_of_the_real_client_is_inside_of_the_policy():
    body = plan(captured())
    assert problems(body, SETTINGS, mounts()) == []
    assert body["Image"] == IMAGE_ID
    assert body["Labels"]["clawfactory.image"] == IMAGE
    assert body["Env"] == ["X=1"]
    assert [mount["Target"] for mount in body["HostConfig"]["Mounts"]] == [
        "/workspace",
        "/workspace/SOUL.md",
        "/workspace/skills",
    ]


def test_the_independent_rules_find_what_is_wrong():
    """They judge the tests below, so they have to be able to fail."""
    wrong: list[tuple[list[str | int], Any]] = [
        (["Image"], IMAGE),
        (["User"], "0:0"),
        (["Entrypoint"], ["/bin/sh"]),
        (["HostConfig", "Privileged"], True),
        (["HostConfig", "CapAdd"], ["SYS_ADMIN"]),
        (["HostConfig", "Binds"], ["/:/workspace"]),
        (["HostConfig", "NetworkMode"], "host"),
        (["HostConfig", "Memory"], 2**40),
        (["HostConfig", "PidsLimit"], -1),
        (["HostConfig", "Tmpfs", "/tmp"], "rw"),
        (["HostConfig", "Tmpfs", "/proc"], "rw"),
        (["Labels", "clawfactory.bot"], "bot2"),
        (["HostConfig", "Mounts", 0, "Source"], "/etc"),
        (["HostConfig", "Mounts", 0, "Target"], "/etc"),
        (["HostConfig", "Mounts", 1, "ReadOnly"], False),
        (["HostConfig", "Mounts", 1, "Target"], "/workspace/other"),
        (["HostConfig", "Mounts"], [engine_mount(parse_bind(f"{STATE}/workspace:/workspace"))]),
        (["HostConfig", "Mounts"], [engine_mount(parse_bind(f"{STATE}/workspace/skills:/workspace"))]),
    ]
    for path, value in wrong:
        body = plan(captured())
        place: Any = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert problems(body, SETTINGS, mounts()), path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Image": "debian:trixie"}, "image"),
        ({"Image": IMAGE_ID}, "image"),
        ({"Image": IMAGE + "@" + IMAGE_ID}, "image"),
        ({"Image": "docker.io/library/" + IMAGE}, "image"),
        ({"Cmd": []}, "command"),
        ({"Cmd": ["sleep"]}, "command"),
        ({"Cmd": ["sleep", "1"]}, "command"),
        ({"Cmd": ["/bin/sh", "infinity"]}, "command"),
        ({"User": "0"}, "user"),
        ({"User": "root"}, "user"),
        ({"User": "20001:0"}, "user"),
        ({"User": "020001"}, "user"),
        ({"User": "20002:20002"}, "user"),
        ({"WorkingDir": ""}, "working directory"),
        ({"WorkingDir": "/"}, "working directory"),
        ({"WorkingDir": "/proc/self/fd/8"}, "working directory"),
        ({"WorkingDir": "/workspace/../proc"}, "working directory"),
        ({"WorkingDir": "/workspace/"}, "working directory"),
        ({"WorkingDir": "/workspaces"}, "working directory"),
        ({"Env": ["PATH"]}, "environment"),
        ({"Env": ["=a"]}, "environment"),
        ({"Env": ["1A=a"]}, "environment"),
        ({"Env": ["A B=a"]}, "environment"),
        ({"Env": ["A=a\x1b[2J"]}, "environment"),
        ({"Labels": {"clawfactory.bot": "bot2"}}, "label"),
        ({"Labels": {"com.docker.compose.project": "a"}}, "label"),
        ({"Labels": {"openclaw": "a"}}, "label"),
        ({"Labels": {"openclaw.": "a"}}, "label"),
        ({"Labels": {"Openclaw.a": "a"}}, "label"),
        ({"Labels": {"openclaw.a": "a\nb"}}, "label"),
        ({"host__NetworkMode": ""}, "network"),
        ({"host__NetworkMode": "default"}, "network"),
        ({"host__NetworkMode": "bridge"}, "network"),
        ({"host__NetworkMode": "host"}, "network"),
        ({"host__NetworkMode": "container:clawfactory-bot1-gateway"}, "network"),
        ({"host__NetworkMode": "clawfactory-bot1-inside"}, "network"),
        ({"host__NetworkMode": "clawfactory-bot1-sandbox"}, "network"),
        ({"host__NetworkMode": "None"}, "network"),
        ({"host__SecurityOpt": ["seccomp=unconfined"]}, "security"),
        ({"host__SecurityOpt": ["no-new-privileges:false"]}, "security"),
        ({"host__SecurityOpt": ["no-new-privileges", "apparmor=unconfined"]}, "security"),
        ({"host__SecurityOpt": ["label=disable"]}, "security"),
        ({"host__SecurityOpt": ["systempaths=unconfined"]}, "security"),
        ({"host__Memory": 1024}, "limit"),
        ({"host__NanoCpus": 1}, "limit"),
        ({"host__Tmpfs": {"/workspace": ""}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp/": ""}}, "memory file system"),
        ({"host__Tmpfs": {"/proc": ""}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp": "size=1g"}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp": "suid"}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp": "dev"}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp": "exec,noexec"}}, "memory file system"),
        ({"host__Tmpfs": {"/tmp": "exec,"}}, "memory file system"),
        ({"host__Binds": ["/:/workspace"]}, "absolute"),
        ({"host__Binds": ["/etc:/workspace"]}, "source"),
        ({"host__Binds": ["/var/run/docker.sock:/workspace/docker.sock"]}, "source"),
        ({"host__Binds": [f"{STATE}/workspace:/workspace"]}, "lacks"),
    ],
)
def test_request_outside_of_the_policy_is_refused(values, reason):
    with pytest.raises(Refused, match=reason) as refusal:
        plan(changed(**values))
    assert refusal.value.status == 403


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"Memory": 0}, 1073741824),
        ({"Memory": 536870912}, 536870912),
        ({"Memory": 2**53}, 1073741824),
        ({"Memory": 536870912, "MemorySwap": -1}, 536870912),
        ({"Memory": 536870912, "MemorySwap": 2**50}, 536870912),
    ],
)
def test_memory_is_limited_swap_included(asked, made):
    host = plan(changed(**{f"host__{key}": value for key, value in asked.items()}))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (made, made)


@pytest.mark.parametrize(("asked", "made"), [(None, 256), (-1, 256), (0, 256), (1, 1), (255, 255), (10**6, 256)])
def test_processes_are_limited(asked, made):
    assert plan(changed(host__PidsLimit=asked))["HostConfig"]["PidsLimit"] == made


@pytest.mark.parametrize(("asked", "made"), [(0, 10**9), (5 * 10**8, 5 * 10**8), (64 * 10**9, 10**9)])
def test_processors_are_limited(asked, made):
    assert plan(changed(host__NanoCpus=asked))["HostConfig"]["NanoCpus"] == made


def test_what_is_not_asked_for_is_forced_all_the_same():
    document = {
        "Image": IMAGE,
        "Cmd": ["sleep", "infinity"],
        "WorkingDir": "/workspace",
        "HostConfig": {"ReadonlyRootfs": False, "Init": False, "CapDrop": None, "SecurityOpt": None},
    }
    body = plan(document)
    assert problems(body, SETTINGS, mounts()) == []
    assert body["HostConfig"]["Mounts"] == [] and body["HostConfig"]["Tmpfs"] == {}


def test_memory_file_system_runs_programs_only_if_asked():
    tmpfs = plan(changed(host__Tmpfs={"/tmp": "exec", "/run": "rw,nosuid,nodev,noexec"}))["HostConfig"]["Tmpfs"]
    assert "exec" in tmpfs["/tmp"].split(",")
    assert "noexec" in tmpfs["/run"].split(",") and "exec" not in tmpfs["/run"].split(",")


def test_network_of_egress_brings_its_proxy():
    document = changed(
        host__NetworkMode="clawfactory-bot1-sandbox",
        Env=["A=b", "https_proxy=http://evil:1", "Http_Proxy=http://evil:1", "NO_PROXY=*", "ALL_PROXY=socks5://evil"],
    )
    body = plan(document, EGRESS)
    assert problems(body, EGRESS, mounts()) == []
    assert body["HostConfig"]["NetworkMode"] == "clawfactory-bot1-sandbox"
    assert not any("evil" in entry or "*" in entry for entry in body["Env"])
    assert {"A=b", "HTTPS_PROXY=http://10.213.0.66:3128", "http_proxy=http://10.213.0.66:3128"} <= set(body["Env"])


def test_sandbox_without_network_gets_no_proxy_even_where_there_is_one():
    assert plan(captured(), EGRESS)["Env"] == ["X=1"]


# Names. What OpenClaw 2026.9.6 makes of "clawfactory-longer-name-sbx-": buildSandboxContainerName.
LONG = Settings.model_validate({**SETTINGS_DOCUMENT, "bot": "longer-name"})
SLUG = "workspace-" + "0123456789abcdef" * 2


def shortened(prefix: str) -> str:
    return f"{prefix[:7]}-{SLUG}-{hashlib.sha256((prefix + SLUG).encode()).hexdigest()[:12]}"


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (SETTINGS, NAME),
        (SETTINGS, "clawfactory-bot1-sbx-shared"),
        (SETTINGS, "clawfactory-bot1-sbx-agent-main-1a2b3c4d"),
        (SETTINGS, "clawfactory-bot1-sbx-" + "a" * 64),
        (LONG, shortened("clawfactory-longer-name-sbx-")),
    ],
)
def test_name_of_a_sandbox_of_the_bot(chosen, name):
    assert is_sandbox_name(chosen, name)
    assert len(shortened("clawfactory-longer-name-sbx-")) == 63


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (SETTINGS, "clawfactory-bot1-sbx-"),
        (SETTINGS, "clawfactory-bot1-sbx-" + "a" * 65),
        (SETTINGS, "clawfactory-bot1-sbx-a/b"),
        (SETTINGS, "clawfactory-bot1-sbx-a\n"),
        (SETTINGS, "clawfactory-bot1-sbx-check-0123"),
        (SETTINGS, "clawfactory-bot1-gateway"),
        (SETTINGS, "clawfactory-bot2-sbx-shared"),
        (SETTINGS, "clawfactory-bot11-sbx-shared"),
        (SETTINGS, "openclaw-sbx-shared"),
        (SETTINGS, "/clawfactory-bot1-sbx-shared"),
        (SETTINGS, shortened("clawfactory-bot1-sbx-")),
        (SETTINGS, shortened("clawfactory-longer-name-sbx-")),
        (LONG, shortened("clawfactory-longer-name2-sbx-")),
        (LONG, shortened("clawfactory-longer-name-sbx-")[:-1] + "!"),
        (LONG, SLUG),
    ],
)
def test_name_of_something_else(chosen, name):
    assert not is_sandbox_name(chosen, name)
    with pytest.raises(Refused, match="name"):
        plan(captured(), chosen, name)


# Properties.
SOURCES = st.sampled_from(
    [
        f"{STATE}/workspace",
        f"{STATE}/workspace/skills",
        f"{STATE}/workspace/memory",
        f"{STATE}/workspace-b",
        f"{STATE}/sandboxes/x",
        f"{STATE}/sandboxes/x/skills",
        f"{STATE}/sandboxes",
        f"{STATE}/agents",
        STATE,
        f"{APPROVED}/SOUL.md",
        f"{APPROVED}/skills",
        APPROVED,
        f"{BASE}/config",
        "/etc",
        "/",
        "/var/run/docker.sock",
        f"{STATE}/workspace/../../../bot2/state/workspace",
    ]
)
TARGETS = st.sampled_from(
    [
        "/workspace",
        "/agent",
        "/workspace/SOUL.md",
        "/workspace/skills",
        "/agent/SOUL.md",
        "/agent/skills",
        "/workspace/.agents/skills",
        "/workspace/a",
        "/openclaw/attachments",
        "/etc",
        "/",
        "/workspace/../etc",
    ]
)
OPTIONS = st.sampled_from(["", ":ro", ":rw", ":z", ":ro,z", ":ro,rw", ":shared"])
BIND = st.builds(lambda source, target, options: f"{source}:{target}{options}", SOURCES, TARGETS, OPTIONS)
# Binds as OpenClaw sends them, each of which may be lost or changed.
WHOLE = [
    f"{STATE}/workspace:/workspace:z",
    f"{APPROVED}/SOUL.md:/workspace/SOUL.md:ro,z",
    f"{APPROVED}/skills:/workspace/skills:ro,z",
    f"{STATE}/workspace:/agent:ro,z",
    f"{APPROVED}/SOUL.md:/agent/SOUL.md:ro,z",
]
BINDS = st.lists(BIND, max_size=4) | st.lists(st.sampled_from(WHOLE) | BIND, max_size=6, unique=True)
HOST_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Binds": st.none() | BINDS,
    "Tmpfs": st.none()
    | st.dictionaries(
        st.sampled_from(["/tmp", "/run", "/var/tmp", "/etc", "/workspace"]),
        st.sampled_from(["", "exec", "rw", "noexec,nosuid", "size=1g", "suid"]),
        max_size=3,
    ),
    "NetworkMode": st.sampled_from(["none", "none", "host", "bridge", "", "clawfactory-bot1-sandbox"]),
    "CapDrop": st.sampled_from([None, [], ["ALL"], ["NET_RAW", "CAP_CHOWN"]]),
    "CapAdd": st.sampled_from([None, [], ["SYS_ADMIN"]]),
    "SecurityOpt": st.sampled_from(
        [None, [], ["no-new-privileges"], ["no-new-privileges:true"], ["seccomp=unconfined"]]
    ),
    "Memory": st.sampled_from([0, 1, 2**22, 2**28, 2**40]),
    "MemorySwap": st.sampled_from([-1, 0, 2**40]),
    "NanoCpus": st.sampled_from([0, 1, 10**8, 10**12]),
    "PidsLimit": st.sampled_from([None, -1, 0, 1, 10**6]),
    "ReadonlyRootfs": st.booleans(),
    "Init": st.sampled_from([None, True, False]),
    "Privileged": st.sampled_from([False, False, False, True]),
    "OomScoreAdj": st.sampled_from([0, 0, 0, -1000]),
    "IpcMode": st.sampled_from(["", "", "", "host"]),
}
TOP_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Image": st.sampled_from([IMAGE, IMAGE, "clawfactory-sandbox:2", "debian"]),
    "User": st.sampled_from(["", "20001", "20001:20001", "0"]),
    "WorkingDir": st.sampled_from(["/workspace", "/agent", "/workspace/a", "/", "/etc"]),
    "Env": st.none() | st.lists(st.sampled_from(["A=b", "HTTP_PROXY=http://evil", "no_proxy=*", "A"]), max_size=3),
    "Labels": st.none()
    | st.dictionaries(st.sampled_from(["openclaw.a", "openclaw.b", "clawfactory.bot", "x"]), st.just("v"), max_size=2),
    "Entrypoint": st.sampled_from([None, [], ["sh"]]),
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """The captured request with a few fields replaced by values good and bad."""
    document = captured()
    for name in draw(st.lists(st.sampled_from(sorted(HOST_VALUES)), max_size=5, unique=True)):
        document["HostConfig"][name] = draw(HOST_VALUES[name])
    for name in draw(st.lists(st.sampled_from(sorted(TOP_VALUES)), max_size=2, unique=True)):
        document[name] = draw(TOP_VALUES[name])
    return document


@MANY
@given(requests(), st.sampled_from([SETTINGS, EGRESS]))
def test_no_accepted_request_leads_out_of_the_policy(document, chosen):
    try:
        body = plan(document, chosen)
    except Refused:
        return
    assert problems(body, chosen, mounts()) == []


@MANY
@given(BINDS)
def test_no_accepted_set_of_binds_leads_out_of_the_policy(binds):
    try:
        body = plan(changed(host__Binds=binds))
    except Refused:
        return
    assert problems(body, SETTINGS, mounts()) == []


def test_enough_of_the_drawn_requests_are_accepted():
    """Were all refused, the properties above would say nothing."""
    accepted = []

    @settings(max_examples=200, database=None, derandomize=True, deadline=None)
    @given(requests())
    def count(document):
        try:
            accepted.append(plan(document)["HostConfig"]["Mounts"])
        except Refused:
            assume(True)

    count()
    assert len(accepted) >= 20
    assert any(accepted)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.just(2**63)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "host", "none", "/", "/:/workspace", "ALL", "0", "container:x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "Binds", "a", "Type"]), inner, max_size=3)
    ),
    max_leaves=6,
)
Path = tuple[str | int, ...]


def paths(value: Any, above: Path = ()) -> list[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, item in inner for path in paths(item, (*above, key)))]


ALL_PATHS = paths(captured())[1:]
FREE_KEYS = {("Labels",), ("HostConfig", "Tmpfs")}
INNER = [path for path in ALL_PATHS if isinstance(path[-1], str)]


def at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


@MANY
@given(st.lists(st.tuples(st.sampled_from(ALL_PATHS), JSON), min_size=1, max_size=3))
def test_replaced_values_are_refused_or_harmless(replacements):
    document = captured()
    for path, value in replacements:
        try:
            at(document, path[:-1])[path[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue  # an earlier replacement took the place away
    try:
        body = plan(document)
    except Refused:
        return
    assert problems(body, SETTINGS, mounts()) == []


@MANY
@given(st.sampled_from(INNER), st.sampled_from([str.lower, str.upper, str.swapcase, str.title]), JSON, st.booleans())
def test_other_spelling_of_a_key_is_refused_or_harmless(path, variant, value, keep):
    document = captured()
    place, key = at(document, path[:-1]), str(path[-1])
    assume(variant(key) != key)
    place[variant(key)] = value
    if not keep:
        del place[key]
    if path[:-1] not in FREE_KEYS:
        with pytest.raises(Refused):
            plan(document)
        return
    try:
        body = plan(document)
    except Refused:
        return
    assert problems(body, SETTINGS, mounts()) == []


@MANY
@given(
    st.sampled_from([path for path in [(), *ALL_PATHS] if isinstance(at(captured(), path), dict)]),
    st.text(max_size=12),
    JSON,
)
def test_additional_key_is_refused_or_harmless(path, key, value):
    document = captured()
    place = at(document, path)
    assume(key not in place)
    place[key] = value
    try:
        body = plan(document)
    except Refused:
        return
    assert path in FREE_KEYS, "elsewhere no key may be added"
    assert problems(body, SETTINGS, mounts()) == []


@pytest.mark.parametrize("path", INNER)
def test_key_twice_is_refused(path):
    """Who reads only the first does not see the second, and the other way round."""
    key = json.dumps(path[-1])
    section = at(captured(), path[:-1])
    before = CAPTURED.rstrip("\n")
    whole = json.dumps(section, separators=(",", ":"))
    assert whole in before
    for doubled in (whole[:-1] + f",{key}:null}}", "{" + f"{key}:null," + whole[1:]):
        with pytest.raises(Refused, match="key twice"):
            parse_object(before.replace(whole, doubled).encode(), 262144)


@MANY
@given(st.integers(0, len(CAPTURED)), st.integers(0, 8), st.binary(max_size=8))
def test_arbitrary_change_of_the_text_is_refused_or_harmless(start, length, replacement):
    raw = CAPTURED.encode()
    try:
        request = read_model(ContainerCreate, parse_object(raw[:start] + replacement + raw[start + length :], 262144))
        body = plan_create(SETTINGS, NAME, request, mounts())
    except Refused:
        return
    assert problems(body, SETTINGS, mounts()) == []


# Start.
def made(document: dict[str, Any] | None = None) -> dict[str, Any]:
    """The engine's inspect of a sandbox made of a body."""
    return {"HostConfig": {"Binds": None, **plan(document or captured())["HostConfig"]}, "Config": {"Volumes": None}}


def test_sources_of_a_made_sandbox():
    assert sandbox_sources(made()) == [f"{STATE}/workspace", f"{APPROVED}/SOUL.md", f"{APPROVED}/skills"]
    with pytest.raises(Refused, match="did not make"):
        sandbox_sources({"HostConfig": {"Binds": ["/:/workspace"]}, "Config": {}})


def test_sandbox_older_than_a_mount_of_the_gateway_is_not_started():
    recheck_sandbox(SETTINGS, made(), mounts())
    newer = GatewayMount(f"{APPROVED}/TOOLS.md", "/home/node/.openclaw/workspace/TOOLS.md", True)
    with pytest.raises(Refused, match="lacks"):
        recheck_sandbox(SETTINGS, made(), [*mounts(), newer])


def test_checker_sees_sources_and_can_do_nothing():
    body = plan_check(SETTINGS, [f"{STATE}/workspace", f"{APPROVED}/SOUL.md"])
    host = body["HostConfig"]
    assert [(mount["Source"], mount["Target"]) for mount in host["Mounts"]] == [
        (f"{STATE}/workspace", "/m/0"),
        (f"{APPROVED}/SOUL.md", "/m/1"),
        (BASE, "/m/base"),
    ]
    assert all(mount["ReadOnly"] and mount["Type"] == "bind" for mount in host["Mounts"])
    assert [mount["BindOptions"]["NonRecursive"] for mount in host["Mounts"]] == [True, True, False]
    assert body["Cmd"] == ["/bin/cat", "/proc/self/mountinfo"] and body["Entrypoint"] == []
    assert (body["Env"], body["User"], body["Image"]) == ([], "20001:20001", IMAGE_ID)
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges:true"] and host["Tmpfs"] == {} and not host["Privileged"]
    assert host["Memory"] == host["MemorySwap"] and 0 < host["PidsLimit"] <= 16
    assert body["Labels"] == {
        "clawfactory.bot": "bot1",
        "clawfactory.service": "sandbox",
        "clawfactory.check": "1",
    }


def table(*lines: tuple[str, str, str], base: tuple[str, str] = ("259:1", BASE)) -> str:
    """Text of mountinfo. ``lines``: device, root, mount point."""
    every = [("0:49", "/", "/"), (*base, "/m/base"), *lines]
    return "".join(f"{500 + n} 400 {d} {r} {p} ro,relatime - ext4 /dev/x rw\n" for n, (d, r, p) in enumerate(every))


SOURCE = f"{STATE}/workspace"


@pytest.mark.parametrize(
    "text",
    [
        table(("259:1", SOURCE, "/m/0")),
        # The bot's directory may be reached through a link that root made, ...
        table(("8:1", "/data/bot1/state/workspace", "/m/0"), base=("8:1", "/data/bot1")),
        # ... and its state may be a file system of its own.
        table(("7:3", "/", "/m/base/state"), ("7:3", "/workspace", "/m/0")),
        table(("7:3", "/", "/m/base/state/workspace"), ("7:3", "/", "/m/0")),
    ],
)
def test_source_that_lies_where_its_path_says_is_accepted(text):
    compare_check(SETTINGS, [SOURCE], text)


@pytest.mark.parametrize(
    "text",
    [
        table(("259:1", "/etc", "/m/0")),
        table(("259:1", f"{STATE}/workspace2", "/m/0")),
        table(("259:1", f"{STATE}", "/m/0")),
        table(("259:2", SOURCE, "/m/0")),
        table(("259:1", f"{SOURCE}//deleted", "/m/0")),
        table(("7:3", "/", "/m/base/state"), ("259:1", SOURCE, "/m/0")),
        table(("259:1", "/etc", "/m/0"), ("259:1", SOURCE, "/m/0")),
        table(("259:1", SOURCE, "/m/1")),
        table(("259:1", SOURCE, "/m")),
        table(),
        "",
        "garbage\n",
        table(("259:1", SOURCE, "/m/0")) + "torn line",
    ],
)
def test_source_that_leads_elsewhere_is_refused(text):
    with pytest.raises(Refused) as refusal:
        compare_check(SETTINGS, [SOURCE], text)
    assert refusal.value.status == 403


def test_one_wrong_source_among_many_is_refused():
    sources = [SOURCE, f"{APPROVED}/SOUL.md"]
    lines = [("259:1", SOURCE, "/m/0"), ("259:1", sources[1], "/m/1")]
    compare_check(SETTINGS, sources, table(*lines))
    with pytest.raises(Refused, match="elsewhere"):
        compare_check(SETTINGS, sources, table(lines[0], ("259:1", "/etc/shadow", "/m/1")))


def test_source_outside_of_the_bot_cannot_be_compared():
    with pytest.raises(Refused, match="out of the bot's directory"):
        compare_check(SETTINGS, ["/etc"], table(("259:1", "/etc", "/m/0")))


@given(st.text("ab /\\\n\té", min_size=1, max_size=8).map(lambda name: name.strip("/").replace("//", "/")))
def test_strange_names_are_compared_as_they_are(name):
    assume(name and not any(part in {"", ".", ".."} for part in name.split("/")))
    source = f"{STATE}/sandboxes/{name}"
    escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in source)
    text = table(("259:1", escaped, "/m/0"))
    assert mountinfo.parse(text)[2].root == source
    compare_check(SETTINGS, [source], text)
    with pytest.raises(Refused):
        compare_check(SETTINGS, [source + "x"], text)


# Exec.
def exec_request(**values: Any) -> ExecCreate:
    document = {
        "User": "",
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Env": None,
        "Cmd": ["cat"],
    }
    return read_model(ExecCreate, {**document, **values})


def test_exec_in_a_sandbox_is_built_anew():
    body = plan_exec(
        SETTINGS, exec_request(Env=["A=b\nc"], WorkingDir="/workspace/a", Cmd=["sh", "-c", "id", ""], Tty=True)
    )
    assert body == {
        "Cmd": ["sh", "-c", "id", ""],
        "Tty": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Detach": False,
        "DetachKeys": "",
        "Privileged": False,
        "User": "20001:20001",
        "Env": ["A=b\nc"],
        "WorkingDir": "/workspace/a",
    }


@pytest.mark.parametrize("user", ["", "20001", "20001:20001"])
def test_exec_is_always_the_sandbox_user(user):
    assert plan_exec(SETTINGS, exec_request(User=user))["User"] == "20001:20001"


@pytest.mark.parametrize(
    "values",
    [
        {"User": "0"},
        {"User": "root"},
        {"User": "20001:0"},
        {"Env": ["A"]},
        {"Env": ["A=\x00"]},
        {"WorkingDir": "workspace"},
        {"WorkingDir": "/workspace/.."},
        {"WorkingDir": "/proc/self/fd/8"},
        {"WorkingDir": "/sys"},
        {"WorkingDir": "/dev/fd"},
        {"Cmd": [""]},
    ],
)
def test_exec_outside_of_the_policy_is_refused(values):
    with pytest.raises(Refused):
        plan_exec(SETTINGS, exec_request(**values))


def test_probe_in_the_gateway_is_allowed():
    body = plan_gateway_exec(SETTINGS, exec_request(Cmd=PROBE, AttachStdin=False))
    assert body["Cmd"] == PROBE
    assert (body["Env"], body["User"], body["WorkingDir"], body["AttachStdin"]) == ([], "", "", False)


BARE = {"AttachStdin": False}


@pytest.mark.parametrize(
    "values",
    [
        {"Cmd": ["sh"]},
        {"Cmd": [*PROBE, ""]},
        {"Cmd": PROBE[:2]},
        {"Cmd": [PROBE[0], "-e", PROBE[2] + " "]},
        {"Cmd": ["/opt/node/bin/../bin/node", *PROBE[1:]]},
        {"Cmd": ["openclaw", "devices", "list", "--json"]},
        {"Cmd": PROBE, "Env": ["NODE_OPTIONS=--require=/home/node/.openclaw/x.js"]},
        {"Cmd": PROBE, "User": "0"},
        {"Cmd": PROBE, "WorkingDir": "/home/node/.openclaw"},
        {"Cmd": PROBE, "Tty": True},
        {"Cmd": PROBE, "AttachStdin": True},
    ],
)
def test_anything_else_in_the_gateway_is_refused(values):
    with pytest.raises(Refused):
        plan_gateway_exec(SETTINGS, exec_request(**{**BARE, **values}))


@pytest.mark.parametrize(
    "command",
    [
        "openclaw devices list --json",
        "openclaw devices approve 6f1c2d3e-aaaa-bbbb-cccc-0123456789ab",
        "openclaw devices reject abc_DEF-1",
        "openclaw devices revoke --device abc --role operator",
        "openclaw pairing list telegram --json",
        "openclaw pairing approve telegram ABCD2345",
        "openclaw config validate",
        "openclaw config schema",
        "openclaw cron list --json",
        "openclaw health --json",
        "openclaw security audit --json",
        "openclaw sandbox list --json",
        "openclaw sandbox explain --json",
        "openclaw status --json",
    ],
)
def test_fixed_command_of_the_controller_is_allowed(command):
    assert plan_controller_exec(SETTINGS, exec_request(**BARE, Cmd=command.split()))["Cmd"] == command.split()


@pytest.mark.parametrize(
    "command",
    [
        "sh",
        "openclaw",
        "openclaw devices list",
        "openclaw devices approve --latest",
        "openclaw devices approve -x",
        "openclaw devices approve a b",
        "openclaw devices revoke --device --json --role node",
        "openclaw devices revoke --device a --role root",
        "openclaw devices rotate --device a --role operator",
        "openclaw pairing approve Telegram ABCD",
        "openclaw pairing approve telegram --notify",
        "openclaw pairing approve telegram ABCD2345 --notify",
        "openclaw config set a b",
        "openclaw cron add --command id",
        "openclaw security audit --fix --json",
        "openclaw sandbox recreate --all",
        "/usr/bin/openclaw devices list --json",
    ],
)
def test_other_command_of_the_controller_is_refused(command):
    with pytest.raises(Refused):
        plan_controller_exec(SETTINGS, exec_request(**BARE, Cmd=command.split(" ")))


@pytest.mark.parametrize(
    "values",
    [
        {"Cmd": ["openclaw", "devices", "approve", "abc\n"]},
        {"Cmd": ["openclaw", "devices", "approve", ""]},
        {"Cmd": ["openclaw", "devices", "approve", "a" * 129]},
        {"Cmd": ["openclaw", "health", "--json"], "User": "0"},
        {"Cmd": ["openclaw", "health", "--json"], "Env": ["A=b"]},
        {"Cmd": ["openclaw", "health", "--json"], "Tty": True},
    ],
)
def test_command_of_the_controller_takes_nothing_along(values):
    with pytest.raises(Refused):
        plan_controller_exec(SETTINGS, exec_request(**{**BARE, **values}))


@given(st.sampled_from(CONTROLLER_COMMANDS), st.integers(0, 8), st.text(min_size=1, max_size=12))
def test_no_given_argument_of_a_command_is_an_option(command, place, text):
    arguments = [part if isinstance(part, str) else "abcd" for part in command]
    place %= len(arguments)
    assume(arguments[place] != text)
    arguments[place] = text
    try:
        plan_controller_exec(SETTINGS, exec_request(**BARE, Cmd=arguments))
    except Refused:
        return
    assert text.isascii() and text.replace("-", "a").replace("_", "a").isalnum() and not text.startswith(("-", "_"))


EXEC_KEYS = {
    "Cmd", "Tty", "AttachStdin", "AttachStdout", "AttachStderr", "Detach", "DetachKeys", "Privileged", "User", "Env",
    "WorkingDir",
}  # fmt: skip
EXECS = st.fixed_dictionaries(
    {"Cmd": st.sampled_from([["cat"], ["sh", "-c", "id"], PROBE, PROBE[:2], ["openclaw", "health", "--json"], []])},
    optional={
        "User": st.sampled_from(["", "20001", "20001:20001", "0", "root", "20001:0", "20001:20001\n"]),
        "WorkingDir": st.sampled_from(
            ["", "/", "/workspace", "/workspace/a", "/workspace/..", "/proc", "//sys", "/dev"]
        ),
        "Env": st.none() | st.lists(st.sampled_from(["A=b", "A=", "A", "=b", "A=\x00", "A=b\nC=d"]), max_size=3),
        "Tty": st.booleans(),
        "AttachStdin": st.booleans(),
        "AttachStdout": st.booleans(),
        "AttachStderr": st.booleans(),
        "Privileged": st.sampled_from([False, False, False, True]),
        "Detach": st.sampled_from([False, False, False, True]),
        "DetachKeys": st.sampled_from(["", "", "", "ctrl-p"]),
    },
)
REPLACED = st.dictionaries(
    st.sampled_from([*sorted(EXEC_KEYS), "cmd", "USER", "privileged", "Container", "ConsoleSize"]), JSON, max_size=2
)


def planned_exec(planner: Any, document: dict[str, Any]) -> tuple[ExecCreate, dict[str, Any]] | None:
    """What was read of a body and what is sent of it, ``None`` if it is refused."""
    try:
        request = read_model(ExecCreate, parse_object(json.dumps(document).encode(), 262144))
        return request, planner(SETTINGS, request)
    except Refused:
        return None


@MANY
@given(EXECS, REPLACED)
def test_no_accepted_exec_in_a_sandbox_leads_out_of_the_policy(document, replaced):
    accepted = planned_exec(plan_exec, document | replaced)
    if accepted is None:
        return
    asked, body = accepted
    assert {*body} == EXEC_KEYS
    assert (body["User"], body["Privileged"], body["Detach"], body["DetachKeys"]) == ("20001:20001", False, False, "")
    assert body["Cmd"] == asked.Cmd and body["Cmd"][0] and all(isinstance(part, str) for part in body["Cmd"])
    assert all(entry.partition("=")[0].isidentifier() and "=" in entry and "\x00" not in entry for entry in body["Env"])
    where = body["WorkingDir"]
    assert where == "" or (where == posixpath.normpath(where) and where.startswith("/"))
    assert where.split("/")[1:2] not in ([["proc"], ["sys"], ["dev"]])


@MANY
@given(EXECS, REPLACED)
def test_every_accepted_exec_in_the_gateway_is_the_probe_or_the_operators(document, replaced):
    probe = planned_exec(plan_gateway_exec, document | replaced)
    command = planned_exec(plan_controller_exec, document | replaced)
    fixed = exec_request(Cmd=PROBE, AttachStdin=False)
    assert probe is None or probe[1] == plan_gateway_exec(SETTINGS, fixed)
    assert command is None or command[1] == plan_gateway_exec(SETTINGS, fixed) | {
        "Cmd": ["openclaw", "health", "--json"]
    }


def test_enough_of_the_drawn_execs_are_accepted():
    """Were all refused, the properties above would say nothing."""
    accepted: dict[str, int] = {}

    @settings(max_examples=300, database=None, derandomize=True, deadline=None)
    @given(EXECS, REPLACED)
    def count(document, replaced):
        for planner in (plan_exec, plan_gateway_exec, plan_controller_exec):
            accepted[planner.__name__] = accepted.get(planner.__name__, 0) + (
                planned_exec(planner, document | replaced) is not None
            )

    count()
    assert accepted["plan_exec"] >= 15
    assert accepted["plan_gateway_exec"] and accepted["plan_controller_exec"], accepted


@pytest.mark.parametrize("tty", [True, False])
def test_exec_start_is_built_anew(tty):
    assert plan_exec_start(read_model(ExecStart, {"Detach": False, "Tty": tty})) == {"Detach": False, "Tty": tty}


def test_plans_share_nothing_that_can_be_changed():
    first = plan(captured())
    before = copy.deepcopy(first)
    first["HostConfig"]["CapDrop"].clear()
    first["HostConfig"]["Ulimits"][0]["Hard"] = 2**20
    assert plan(captured()) == before
    gateway = plan_gateway_exec(SETTINGS, exec_request(**BARE, Cmd=PROBE))
    gateway["Cmd"].append("x")
    assert SETTINGS.gateway_probe == PROBE
