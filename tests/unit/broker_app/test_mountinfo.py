from __future__ import annotations

import pytest

from broker_app.mountinfo import Mount, locate, parse

# Of a container of Docker 20.10, shortened.
TEXT = r"""512 400 0:49 / / ro,relatime master:150 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A
513 512 0:52 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
520 512 259:1 /srv/clawfactory/bot_repos/bot1 /m/base ro,relatime - ext4 /dev/root rw
521 520 7:3 / /m/base/state ro,relatime shared:9 master:2 - ext4 /dev/loop3 rw
522 512 7:3 /workspace /m/0 ro,relatime - ext4 /dev/loop3 rw
523 512 7:3 /a\040b\011c\012d\134e /m/1 ro,relatime - ext4 /dev/loop3 rw
524 512 7:3 /sandboxes/x//deleted /m/2 ro,relatime - ext4 /dev/loop3 rw
"""


def test_lines_are_read():
    entries = parse(TEXT)
    assert len(entries) == 7
    assert entries[0] == Mount("0:49", "/", "/")
    assert entries[4] == Mount("7:3", "/workspace", "/m/0")
    assert entries[5].root == "/a b\tc\nd\\e"
    assert entries[6].root == "/sandboxes/x//deleted"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", ("0:49", "/")),
        ("/etc/passwd", ("0:49", "/etc/passwd")),
        ("/m/base", ("259:1", "/srv/clawfactory/bot_repos/bot1")),
        ("/m/base/approved/a", ("259:1", "/srv/clawfactory/bot_repos/bot1/approved/a")),
        ("/m/base/state", ("7:3", "/")),
        ("/m/base/state/workspace", ("7:3", "/workspace")),
        ("/m/base/statement", ("259:1", "/srv/clawfactory/bot_repos/bot1/statement")),
        ("/m/0", ("7:3", "/workspace")),
        ("/m/0/a", ("7:3", "/workspace/a")),
        ("/m/00", ("0:49", "/m/00")),
    ],
)
def test_longest_mount_point_decides(path, place):
    assert locate(parse(TEXT), path) == place


def test_mount_over_a_mount_is_not_judged():
    entries = [*parse(TEXT), Mount("8:1", "/etc", "/m/0")]
    with pytest.raises(ValueError, match="not exactly one"):
        locate(entries, "/m/0")
    assert locate(entries, "/m/1")


def test_nothing_mounted_is_not_judged():
    with pytest.raises(ValueError, match="not exactly one"):
        locate([], "/m/0")


def test_name_of_other_bytes_than_utf8_keeps_them():
    text = "1 1 7:3 /\\303\\050 /m/0 ro - ext4 /dev/loop3 rw\n"
    assert parse(text)[0].root.encode("utf-8", "surrogateescape") == b"/\xc3("


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "512 400 0:49 / / ro",
        "512 400 0:49 / / ro,relatime overlay overlay rw more more",
        "512 400 device / / ro,relatime - overlay overlay rw",
        "512 400 0:49 root / ro,relatime - overlay overlay rw",
        "512 400 0:49 / point ro,relatime - overlay overlay rw",
        "512 400 0:4\uff19 / / ro,relatime - overlay overlay rw",
    ],
)
def test_unknown_form_is_an_error(line):
    with pytest.raises(ValueError, match="mountinfo"):
        parse(line + "\n")
