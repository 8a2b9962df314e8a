from __future__ import annotations

import copy
import os.path
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_app.binds import (
    Bind,
    GatewayMount,
    check_binds,
    created_binds,
    engine_mount,
    gateway_mounts,
    parse_bind,
)
from broker_app.refusal import Refused
from tests.support.broker_samples import BASE, GATEWAY_INSPECT, make_settings, mounts

STATE, APPROVED = f"{BASE}/state", f"{BASE}/approved/workspace"
SETTINGS = make_settings()
SOUL, SKILLS = f"{APPROVED}/SOUL.md:/workspace/SOUL.md:ro,z", f"{APPROVED}/skills:/workspace/skills:ro,z"
WORKSPACE = f"{STATE}/workspace:/workspace:z"
SANDBOX = f"{STATE}/sandboxes/x"
MATERIALISED = f"{STATE}/sandbox/skills-workspaces/x/.openclaw/sandbox-skills/skills"


def check(*texts, gateway=None, settings=SETTINGS):
    check_binds(settings, [parse_bind(text) for text in texts], mounts() if gateway is None else gateway)


def reason(*texts, **kwargs):
    with pytest.raises(Refused) as refusal:
        check(*texts, **kwargs)
    return refusal.value.reason


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/a:/b", Bind("/a", "/b", False)),
        ("/a:/b:rw", Bind("/a", "/b", False)),
        ("/a:/b:z", Bind("/a", "/b", False)),
        ("/a:/b:ro,Z", Bind("/a", "/b", True)),
        ("/a b/ä:/workspace/a b:ro", Bind("/a b/ä", "/workspace/a b", True)),
    ],
)
def test_bind_is_read(text, bind):
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        ":/b",
        "/a:",
        "a:/b",
        "/a:b",
        "volume:/workspace",
        "/a:/b:",
        "/a:/b:ro,",
        "/a:/b:ro,rw",
        "/a:/b:ro,ro",
        "/a:/b:RO",
        "/a:/b: ro",
        "/a:/b:ro:z",
        "/a:/b:/c",
        "/a:/b:nocopy",
        "/a:/b:shared",
        "/a:/b:rslave",
        "/a:/b:exec",
        "/a/../b:/b",
        "/a/./b:/b",
        "/a//b:/b",
        "//a:/b",
        "/a/:/b",
        "/:/b",
        "/a:/",
        "/a:/b/..",
        "/a:/b/",
        "/a:/b//c",
        "/a,b:/b",
        "/a\n:/b",
        "/a\x00:/b",
        "/a\u202e:/b",
        "/a\\b:/b",
        "C:\\a:/b",
        "/a:/b\t",
    ],
)
def test_bind_that_is_written_otherwise_is_refused(text):
    with pytest.raises(Refused):
        parse_bind(text)


@given(st.text(max_size=40) | st.text(alphabet="/.:ab,roz ", max_size=30))
def test_what_is_read_as_a_bind_is_absolute_and_normalised(text):
    try:
        bind = parse_bind(text)
    except Refused:
        return
    for path in (bind.source, bind.target):
        assert path.startswith("/") and path != "/"
        assert os.path.normpath(path) == path
        assert not set(path) & set(":,\n\0")
    assert bind.read_only == ("ro" in text.rpartition(":")[2].split(","))


@pytest.mark.parametrize(
    "binds",
    [
        (WORKSPACE, SOUL, SKILLS),  # workspaceAccess rw
        (WORKSPACE, SOUL, SKILLS, f"{MATERIALISED}:/workspace/.openclaw/sandbox-skills/skills:ro,z"),
        (f"{SANDBOX}:/workspace:z",),  # workspaceAccess none
        (f"{SANDBOX}:/workspace:z", f"{SANDBOX}/skills:/workspace/skills:ro,z"),
        (f"{SANDBOX}:/workspace:z", f"{SANDBOX}/.agents/skills:/workspace/.agents/skills:ro,z"),
        (  # workspaceAccess ro
            f"{SANDBOX}:/workspace:ro,z",
            f"{STATE}/workspace:/agent:ro,z",
            f"{APPROVED}/SOUL.md:/agent/SOUL.md:ro,z",
            f"{APPROVED}/skills:/agent/skills:ro,z",
        ),
        (f"{STATE}/workspace-second:/workspace:z",),
        (f"{STATE}/workspace/memory:/workspace:rw",),
        (f"{STATE}/workspace:/workspace:ro",),
        (f"{SANDBOX}:/workspace:z", f"{SANDBOX}/a:/openclaw/attachments:ro,z"),
        (),
    ],
)
def test_binds_of_openclaw_are_allowed(binds):
    check(*binds)


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "/var/run/docker.sock",
        "/srv/clawfactory",
        BASE,
        f"{BASE}/config",
        f"{BASE}/approved",
        APPROVED,
        f"{APPROVED}/TOOLS.md",
        f"{APPROVED}/SOUL.md/more",
        f"{APPROVED}/skills/one",
        f"{BASE}/origin.git",
        STATE,
        f"{BASE}/state2/workspace",
        f"{BASE}/stateworkspace",
        f"{STATE}/agents",
        f"{STATE}/agents/main/agent",
        f"{STATE}/sandboxes",
        f"{STATE}/sandbox",
        f"{STATE}/sandbox/containers.json",
        f"{STATE}/sandbox/skills-workspaces",
        f"{STATE}/workspaces",
        f"{STATE}/Workspace",
        f"{STATE}/a/workspace",
        "/srv/clawfactory/bot_repos/bot2/state/workspace",
        "/srv/clawfactory/secrets/bot1/run/gateway.env",
    ],
)
@pytest.mark.parametrize("options", ["ro", "rw"])
def test_other_source_is_refused(source, options):
    assert "source" in reason(f"{source}:/workspace:{options}")


SEGMENT = st.sampled_from(
    ["workspace", "workspace-a", "sandboxes", "sandbox", "skills-workspaces", "state", "..", ".", ""]
)
PATH = st.lists(SEGMENT | st.text("abc.*-", max_size=3), max_size=5).map("/".join)


@given(st.sampled_from([BASE, STATE, f"{BASE}/approved", "/etc", "/"]), PATH, st.sampled_from(["ro", "rw", "z"]))
def test_source_outside_of_the_allowed_directories_is_never_accepted(start, rest, options):
    text = f"{start}/{rest}"
    try:
        check(f"{text}:/workspace/deep:{options}")
    except Refused:
        return
    real = os.path.normpath(text)
    parts = posixpath.relpath(real, STATE).split("/")
    assert parts[0] != ".."
    assert (
        parts[0] == "workspace"
        or parts[0].startswith("workspace-")
        or (parts[0] == "sandboxes" and len(parts) > 1)
        or (parts[:2] == ["sandbox", "skills-workspaces"] and len(parts) > 2)
    )


@pytest.mark.parametrize(
    ("pattern", "source", "allowed"),
    [
        ("a*c", "abbc", True),
        ("a*c", "abb", False),
        ("a*c", "ab/c", False),
        ("*", ".hidden", True),
        ("*/b", "a/b/c", True),
        ("*/b", "a/c", False),
        ("a.b", "axb", False),
        ("a", "a/b/c", True),
        ("a", "ab", False),
    ],
)
def test_star_stands_for_part_of_one_component(pattern, source, allowed):
    settings = make_settings(sources=[pattern])
    if allowed:
        check(f"{STATE}/{source}:/workspace", settings=settings)
    else:
        assert "source" in reason(f"{STATE}/{source}:/workspace", settings=settings)


@pytest.mark.parametrize(
    "target",
    [
        "/etc",
        "/workspaces",
        "/proc/self",
        "/usr/bin",
        "/agents",
        "/home",
        "/openclaw",
        "/openclaw/attachments/a",
        "/m/0",
    ],
)
def test_other_target_is_refused(target):
    assert "target" in reason(f"{SANDBOX}:{target}:ro")


def test_attachments_are_only_to_read():
    assert "attachments" in reason(f"{SANDBOX}:/openclaw/attachments")


def test_target_twice_is_refused():
    assert "same target" in reason(f"{SANDBOX}:/workspace", f"{SANDBOX}:/workspace:ro")


@pytest.mark.parametrize("options", ["rw", "z"])
def test_approved_source_is_only_to_read(options):
    assert "approved" in reason(f"{APPROVED}/SOUL.md:/workspace:{options}")


@pytest.mark.parametrize(
    "binds",
    [
        (WORKSPACE,),
        (WORKSPACE, SOUL),
        (WORKSPACE, SKILLS),
        (WORKSPACE, SOUL.replace(":ro,z", ":z"), SKILLS),
        (WORKSPACE, f"{SANDBOX}:/workspace/SOUL.md:ro", SKILLS),
        (WORKSPACE, f"{APPROVED}/skills:/workspace/SOUL.md:ro", SKILLS),
        (WORKSPACE, SOUL.replace("/workspace/SOUL.md:", "/workspace/soul.md:"), SKILLS),
        (f"{STATE}/workspace:/workspace/deep", SOUL, SKILLS),
        (WORKSPACE, SOUL, SKILLS, f"{STATE}/workspace:/agent"),
        (WORKSPACE, SOUL, SKILLS, f"{STATE}/workspace:/agent", f"{APPROVED}/SOUL.md:/agent/SOUL.md:ro"),
    ],
)
def test_writable_workspace_without_every_mount_of_the_gateway_is_refused(binds):
    reason(*binds)


ENTRIES = st.lists(
    st.text("abcXYZ._-", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."}), unique=True
)


@given(ENTRIES.filter(bool), st.data())
def test_one_missing_or_writable_mount_is_enough_to_be_refused(entries, data):
    gateway = [
        GatewayMount(STATE, "/home/node/.openclaw", False),
        GatewayMount(f"{STATE}/workspace", "/home/node/.openclaw/workspace", False),
        *(GatewayMount(f"{APPROVED}/{name}", f"/home/node/.openclaw/workspace/{name}", True) for name in entries),
    ]
    nested = [f"{APPROVED}/{name}:/workspace/{name}:ro,z" for name in entries]
    check(WORKSPACE, *nested, gateway=gateway)
    chosen = data.draw(st.integers(0, len(nested) - 1))
    reason(WORKSPACE, *nested[:chosen], *nested[chosen + 1 :], gateway=gateway)
    writable = nested[chosen].replace(":ro,z", ":z")
    reason(WORKSPACE, *nested[:chosen], writable, *nested[chosen + 1 :], gateway=gateway)


@pytest.mark.parametrize("below", ["skills", "skills/one", "SOUL.md"])
def test_writable_bind_where_the_gateway_reads_only_is_refused(below):
    assert "read-only" in reason(f"{STATE}/workspace/{below}:/workspace")
    check(f"{STATE}/workspace/{below}:/workspace:ro")


def test_writable_bind_of_what_the_gateway_has_read_only_elsewhere_is_refused():
    gateway = [*mounts(), GatewayMount(f"{STATE}/workspace/frozen", "/opt/frozen", True)]
    assert "read-only" in reason(f"{STATE}/workspace/frozen/a:/workspace", gateway=gateway)


def test_mount_deeper_down_is_required_too():
    gateway = [*mounts(), GatewayMount(f"{APPROVED}/a", "/home/node/.openclaw/workspace-a/b/c", True)]
    bind = f"{STATE}/workspace-a:/workspace"
    assert "lacks" in reason(bind, gateway=gateway)
    assert "lacks" in reason(f"{STATE}/workspace-a/b:/workspace", gateway=gateway)
    check(bind, f"{APPROVED}/a:/workspace/b/c:ro", gateway=gateway)
    check(f"{STATE}/workspace-a/b:/workspace", f"{APPROVED}/a:/workspace/c:ro", gateway=gateway)


def test_mount_is_located_through_the_nearest_mount_above_it():
    gateway = [
        GatewayMount(STATE, "/home/node/.openclaw", False),
        GatewayMount(f"{STATE}/workspace-real", "/home/node/.openclaw/workspace", False),
        GatewayMount(f"{APPROVED}/SOUL.md", "/home/node/.openclaw/workspace/SOUL.md", True),
    ]
    check(WORKSPACE, gateway=gateway)
    assert "lacks" in reason(f"{STATE}/workspace-real:/workspace", gateway=gateway)


def test_writable_mount_of_the_gateway_may_come_along_writable():
    gateway = [*mounts(), GatewayMount(f"{STATE}/sandboxes/y", "/home/node/.openclaw/workspace/sub", False)]
    binds = (WORKSPACE, SOUL, SKILLS)
    assert "lacks" in reason(*binds, gateway=gateway)
    check(*binds, f"{STATE}/sandboxes/y:/workspace/sub", gateway=gateway)
    check(*binds, f"{STATE}/sandboxes/z:/workspace/sub:ro", gateway=gateway)
    reason(*binds, f"{STATE}/sandboxes/z:/workspace/sub", gateway=gateway)


def test_memory_of_the_gateway_in_a_workspace_asks_for_a_stand_in():
    inspect = copy.deepcopy(GATEWAY_INSPECT)
    inspect["HostConfig"]["Tmpfs"]["/home/node/.openclaw/workspace/tmp"] = "rw"
    gateway = gateway_mounts(inspect)
    assert "lacks" in reason(WORKSPACE, SOUL, SKILLS, gateway=gateway)
    check(WORKSPACE, SOUL, SKILLS, f"{SANDBOX}:/workspace/tmp:ro", gateway=gateway)


@pytest.mark.parametrize(
    "nested",
    [
        f"{SANDBOX}:/workspace/a",
        f"{SANDBOX}:/workspace/a:ro",
        f"{SANDBOX}/skills:/workspace/skills",
        f"{SANDBOX}/skills:/workspace/skills/a:ro",
        f"{SANDBOX}/skills:/workspace/.agents:ro",
        f"{SANDBOX}/skills:/workspace/.openclaw/sandbox-skills:ro",
        f"{SANDBOX}/skills:/workspace/Skills:ro",
    ],
)
def test_other_bind_inside_of_a_bind_is_refused(nested):
    assert "inside" in reason(f"{STATE}/sandboxes/y:/workspace", nested)


def test_skills_are_not_nested_twice():
    skills = f"{SANDBOX}/skills:/workspace/skills:ro"
    assert "inside" in reason(f"{STATE}/sandboxes/y:/workspace", skills, f"{SANDBOX}:/workspace/skills/skills:ro")


def test_skills_of_the_operator_are_not_stood_in_for():
    assert reason(WORKSPACE, SOUL, f"{SANDBOX}/skills:/workspace/skills:ro")


@pytest.mark.parametrize("gateway", [[], [GatewayMount("/data/bot_repos/bot1/state", "/home/node/.openclaw", False)]])
def test_gateway_that_is_not_mounted_as_deployed_refuses_everything(gateway):
    with pytest.raises(Refused) as refusal:
        check(f"{SANDBOX}:/workspace", gateway=gateway)
    assert refusal.value.status == 409


def test_gateway_mounts_are_read():
    found = mounts()
    assert GatewayMount(f"{APPROVED}/SOUL.md", "/home/node/.openclaw/workspace/SOUL.md", True) in found
    assert GatewayMount(STATE, "/home/node/.openclaw", False) in found
    assert GatewayMount("", "/tmp", False) in found
    assert len(found) == 8


def test_volume_of_the_gateway_has_no_source_to_bind():
    volume = {
        "Type": "volume",
        "Name": "v",
        "Source": "/var/lib/docker/volumes/v/_data",
        "Destination": "/v",
        "RW": False,
    }
    assert gateway_mounts({"Mounts": [volume], "HostConfig": {}}) == [GatewayMount("", "/v", True)]


@pytest.mark.parametrize(
    "inspect",
    [
        {},
        {"Mounts": None, "HostConfig": {}},
        {"Mounts": [], "HostConfig": None},
        {"Mounts": [None], "HostConfig": {}},
        {"Mounts": [{"Type": "bind", "Source": "a", "Destination": "/b", "RW": True}], "HostConfig": {}},
        {"Mounts": [{"Type": "bind", "Source": "/a", "Destination": "b", "RW": True}], "HostConfig": {}},
        {"Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b"}], "HostConfig": {}},
        {"Mounts": [], "HostConfig": {"Tmpfs": ["/tmp"]}},
    ],
)
def test_gateway_whose_mounts_are_not_readable_is_refused(inspect):
    with pytest.raises(Refused) as refusal:
        gateway_mounts(inspect)
    assert refusal.value.status == 409


def test_engine_never_makes_a_missing_source():
    made = engine_mount(Bind("/a", "/b", True))
    assert made["Type"] == "bind" and made["ReadOnly"] is True
    assert made["BindOptions"] == {"Propagation": "rprivate", "NonRecursive": True}
    assert engine_mount(Bind("/a", "/b", True), recursive=True)["BindOptions"]["NonRecursive"] is False


def test_binds_of_a_made_sandbox_are_read_back():
    binds = [Bind("/a", "/workspace", False), Bind("/b", "/agent", True)]
    host = {"Binds": None, "Mounts": [engine_mount(bind) for bind in binds]}
    del host["Mounts"][0]["ReadOnly"]  # the engine leaves false out
    assert created_binds({"HostConfig": host, "Config": {"Volumes": None}}) == binds
    assert created_binds({"HostConfig": {"Binds": None}, "Config": {}}) == []


@pytest.mark.parametrize(
    "inspect",
    [
        {},
        {"HostConfig": {"Binds": ["/:/workspace"]}, "Config": {}},
        {"HostConfig": {"VolumesFrom": ["x"]}, "Config": {}},
        {"HostConfig": {}, "Config": {"Volumes": {"/v": {}}}},
        {"HostConfig": {"Mounts": [{"Type": "volume", "Source": "v", "Target": "/workspace"}]}, "Config": {}},
        {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a/..", "Target": "/workspace"}]}, "Config": {}},
        {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a"}]}, "Config": {}},
    ],
)
def test_sandbox_with_mounts_of_others_is_refused(inspect):
    with pytest.raises(Refused, match="did not make"):
        created_binds(inspect)
