"""What is approved cannot be changed, replaced or shadowed by whoever has taken over the gateway.

Each attack is followed by a look at the files from both sides: the approved tree on the machine, and the workspace as
OpenClaw sees it. All attacks run as the gateway's own user in the running container.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.bots import Bot, engine, http
from tests.support.polling import wait_for

WORKSPACE = "/home/node/.openclaw/workspace"


def approved_files(bot: Bot) -> dict[str, str]:
    """Content digests of the approved workspace on the machine, by path."""
    top = bot.root / "bot_repos" / bot.name / "approved" / "workspace"
    return {str(path.relative_to(top)): _digest(path) for path in sorted(top.rglob("*")) if path.is_file()}


def seen_files(bot: Bot, names: list[str]) -> dict[str, str]:
    """The same, as a process in the gateway reads them."""
    listed = bot.run("sha256sum", *(f"{WORKSPACE}/{name}" for name in names)).stdout.splitlines()
    return {line.split("  ", 1)[1].removeprefix(f"{WORKSPACE}/"): line.split()[0] for line in listed}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def approved(bot: Bot) -> dict[str, str]:
    files = approved_files(bot)
    assert {"SOUL.md", "TOOLS.md"} <= set(files), f"the template lacks its files: {sorted(files)}"
    assert any(name.startswith("skills/") for name in files)
    assert seen_files(bot, list(files)) == files, "the gateway does not see the approved files"
    return files


def test_state_beside_the_approved_files_is_writable(bot: Bot) -> None:
    """Without this, the refusals below would prove nothing."""
    done = bot.sh(f"echo memory > {WORKSPACE}/memory-of-the-test.md && cat {WORKSPACE}/memory-of-the-test.md")
    assert done.stdout == "memory\n", done.stderr
    assert bot.sh(f"rm {WORKSPACE}/memory-of-the-test.md").returncode == 0


ATTACKS = {
    "write": f"echo evil >> {WORKSPACE}/SOUL.md",
    "truncate": f": > {WORKSPACE}/TOOLS.md",
    "delete": f"rm -f {WORKSPACE}/SOUL.md",
    "replace": f"echo evil > /tmp/evil && mv -f /tmp/evil {WORKSPACE}/SOUL.md",
    "replace by rename": f"echo evil > {WORKSPACE}/evil && mv -f {WORKSPACE}/evil {WORKSPACE}/SOUL.md",
    "move away": f"mv {WORKSPACE}/SOUL.md {WORKSPACE}/SOUL.old",
    "link over": f"ln -sf /tmp/evil {WORKSPACE}/SOUL.md",
    "hard link": f"ln {WORKSPACE}/SOUL.md {WORKSPACE}/SOUL.too && echo evil >> {WORKSPACE}/SOUL.too",
    "change mode": f"chmod 0777 {WORKSPACE}/SOUL.md",
    "change times": f"touch {WORKSPACE}/SOUL.md",
    "add a skill": f"mkdir -p {WORKSPACE}/skills/evil && echo evil > {WORKSPACE}/skills/evil/SKILL.md",
    "shadow the skills": f"mv {WORKSPACE}/skills {WORKSPACE}/s2 && mkdir {WORKSPACE}/skills",
    "shadow the workspace": f"mv {WORKSPACE} {WORKSPACE}2 && mkdir {WORKSPACE} && echo evil > {WORKSPACE}/SOUL.md",
    "shadow the state": "mv /home/node/.openclaw /home/node/.openclaw2 && mkdir /home/node/.openclaw",
    "link the workspace": f"rm -rf {WORKSPACE}; ln -sT /tmp {WORKSPACE}",
    "mount over": f"mount -t tmpfs none {WORKSPACE}",
    "unmount": f"umount {WORKSPACE}/SOUL.md",
    "mount in a user namespace": f"unshare -Urm sh -c 'mount -t tmpfs none {WORKSPACE}'",
    "write to the configuration": "echo '{}' > /etc/openclaw/openclaw.json",
    "replace the configuration": "mv /etc/openclaw /etc/openclaw2 && mkdir /etc/openclaw",
    "write to the program": "echo evil >> /usr/local/bin/openclaw",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_fails_and_leaves_everything_as_it_was(bot: Bot, approved: dict[str, str], attack: str) -> None:
    done = bot.sh(ATTACKS[attack])
    assert done.returncode != 0, f"it succeeded: {done.stdout}"
    assert seen_files(bot, list(approved)) == approved
    assert approved_files(bot) == approved


def test_attack_by_the_bots_own_tool_fails_too(bot: Bot, approved: dict[str, str]) -> None:
    said = bot.chat(f"RUN: sh -c 'echo evil > {WORKSPACE}/SOUL.md; echo status=$?'")
    assert "status=" in said
    assert "status=0" not in said
    assert approved_files(bot) == approved


def test_what_was_prepared_in_the_state_is_not_live_after_a_restart(bot: Bot, approved: dict[str, str]) -> None:
    """A bot may restart itself by ending; what it could write before must not stand in for what is approved then."""
    bot.sh(f"mkdir -p {WORKSPACE}/skills.new; for f in BOOTSTRAP.md AGENTS.md; do echo evil > {WORKSPACE}/$f; done")
    engine("restart", bot.container("gateway"))
    wait_for("a ready gateway", lambda: _ready(bot), 120, every=1)
    assert seen_files(bot, list(approved)) == approved
    assert approved_files(bot) == approved


def _ready(bot: Bot) -> bool:
    try:
        return http(f"{bot.gateway_url}/readyz", timeout=5).status == 200
    except OSError:
        return False
