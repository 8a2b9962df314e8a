"""Decisions about project quotas; whether a kernel enforces them is shown where one can (``test_quota_kernel``)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clawfactory_core import disk, disk_limit, quota
from clawfactory_core.errors import InvalidInput

MOUNTS = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 22 254:2 / /srv rw,relatime shared:9 - ext4 /dev/vdb rw,prjquota
31 30 254:3 / /srv/a\040b rw - xfs /dev/mapper/x-y rw,attr2,prjquota
32 22 0:40 / /run rw,nosuid - tmpfs tmpfs rw,size=1000k
33 30 254:4 / /srv/plain rw master:3 propagate_from:2 - xfs /dev/vdc rw,noquota
"""


@pytest.mark.parametrize(
    ("path", "point"),
    [("/srv/x", "/srv"), ("/srv/a b/c", "/srv/a b"), ("/srvx", "/"), ("/", "/"), ("/srv", "/srv")],
)
def test_mount_of_finds_the_innermost(path, point):
    mount = quota.mount_of(Path(path), quota.parse_mounts(MOUNTS))
    assert mount is not None
    assert mount.point == point


@pytest.mark.parametrize(
    ("path", "word"), [("/run/x", "tmpfs"), ("/home", "without prjquota"), ("/srv/plain", "without pquota or prjquota")]
)
def test_detect_says_why_there_is_no_quota(path, word):
    support = quota.detect_quota(Path(path), quota.parse_mounts(MOUNTS))
    assert support.device is None
    assert word in support.reason


def test_detect_falls_back_when_the_device_cannot_be_asked():
    text = "22 1 254:1 / / rw,relatime - ext4 /dev/does-not-exist rw,prjquota"
    support = quota.detect_quota(Path("/"), quota.parse_mounts(text))
    assert support.device is None
    assert "cannot be used here" in support.reason


def request_for(tmp_path: Path, limit_bytes: int = 2**20) -> disk_limit.DiskRequest:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    return disk_limit.DiskRequest(disk.DiskLimit("bot1", state, limit_bytes, 1, "c"), 20001)


def test_without_quota_the_limit_is_left_to_the_watcher(tmp_path):
    plan = disk_limit.plan_disk(tmp_path, request_for(tmp_path), [])
    assert plan.changed
    assert not disk.limit_file(tmp_path, "bot1").exists()
    disk_limit.apply_disk(tmp_path, plan)
    limit = disk.read_limit(tmp_path, "bot1")
    assert limit is not None
    assert limit.method == "watch"
    assert not disk_limit.plan_disk(tmp_path, request_for(tmp_path), []).changed
    assert disk_limit.plan_disk(tmp_path, request_for(tmp_path, 2**21), []).changed


def test_remove_takes_limit_and_mark_away(tmp_path):
    plan = disk_limit.plan_disk(tmp_path, request_for(tmp_path), [])
    disk_limit.apply_disk(tmp_path, plan)
    disk.write_mark(tmp_path, plan.limit, "limit", "x")
    assert disk_limit.remove_disk(tmp_path, "bot1", 20001, [], check_only=True)
    assert disk.mark_file(tmp_path, "bot1").exists()
    assert disk_limit.remove_disk(tmp_path, "bot1", 20001, [])
    assert not disk_limit.remove_disk(tmp_path, "bot1", 20001, [])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_project_of_zero_is_refused(tmp_path):
    request = disk_limit.DiskRequest(request_for(tmp_path).limit, 0)
    with pytest.raises(InvalidInput, match="project id 0"):
        disk_limit.plan_disk(tmp_path, request, [])


@pytest.fixture
def ext4(tmp_path):
    """A file system with project quotas, where this kernel has them and we may mount."""
    image, point = tmp_path / "image", tmp_path / "mnt"
    point.mkdir()
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        yield None
        return
    with image.open("wb") as handle:
        handle.truncate(64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop,prjquota", image, point], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        yield None
        return
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.mark.integration
def test_quota_kernel_enforces_the_limit_or_the_watcher_alone_does(tmp_path, ext4):
    state = (ext4 or tmp_path) / "bot1" / "state"
    (state / "sub").mkdir(parents=True)
    (state / "sub" / "old").write_bytes(b"x" * 2**20)
    for path in (state, state / "sub") if ext4 else ():
        os.chown(path, 20001, 20001)
    request = disk_limit.DiskRequest(disk.DiskLimit("bot1", state, 8 * 2**20, 1, "c"), 20001)
    mounts = quota.read_mounts()
    plan = disk_limit.plan_disk(tmp_path, request, mounts)
    assert plan.limit.method == ("quota" if ext4 else "watch")
    if ext4 is None:  # a kernel without project quotas, or a user who may not mount
        return
    disk_limit.apply_disk(tmp_path, plan)
    assert not disk_limit.plan_disk(tmp_path, request, mounts).changed
    command = ["dd", "if=/dev/zero", f"of={state}/sub/new", "bs=64k", "count=256"]
    filled = subprocess.run(command, user=20001, group=20001, capture_output=True, text=True, check=False)
    assert "Disk quota exceeded" in filled.stderr
    assert disk.measure(state).used_bytes <= 8 * 2**20
    disk_limit.remove_disk(tmp_path, "bot1", 20001, mounts)
    assert subprocess.run(command, user=20001, group=20001, capture_output=True, check=False).returncode == 0
