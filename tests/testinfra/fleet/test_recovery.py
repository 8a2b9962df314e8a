"""A bot whose machine is gone comes up on the other one from its copies, and a clone of it beside it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.polling import wait_for

from .conftest import PARTS, Play, cut_off, machine, running

ROOT = "/srv/clawfactory"
BOT, CLONE = "north2", "south3"
PLANTED = "workspace/memory/planted"
# What the bot wrote: contents, names, modes, times and links of every kind that an archive has to bring.
PLANT = f"""set -e
cd {ROOT}/bot_repos/{BOT}/state/workspace && rm -rf memory/planted
mkdir -p memory/planted/deep && cd memory/planted
head -c 3000000 /dev/urandom > 'a name with spaces and ü'
: > empty && truncate -s 5M holes && echo end >> holes
echo '#!/bin/sh' > deep/program && chmod 0755 deep/program && ln -s ../empty deep/link
touch -d 2024-02-29T12:00:00Z deep/program
chown -R --reference=../.. ..
"""
SKILL = "---\nname: planted\ndescription: Was approved.\n---\n"
IDENTITIES = """
import sqlite3, sys
with sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=30) as database:
    print(*sorted(map(str, database.execute("SELECT * FROM device_identities"))), sep="\\n")
"""


def planted(name: str, bot: str) -> str:
    """Digest of all that was planted: every byte, name, mode, time and link, but for whose uid it is."""
    options = "--create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner"
    state = f"{ROOT}/bot_repos/{bot}/state"
    return str(machine(name).check_output(f"tar {options} -C {state} {PLANTED} > /tmp/tar && sha256sum < /tmp/tar"))


def files(name: str, bot: str) -> dict[str, str]:
    """Digests of the state's files, without databases, to which OpenClaw writes as soon as it runs, and without what is
    told of the new machine's repository.
    """
    kept = "-type f ! -name '*.sqlite*' ! -path './workspace/proposals/*'"
    script = f"cd {ROOT}/bot_repos/{bot}/state && find . {kept} -exec sha256sum {{}} +"
    lines = machine(name).check_output(script).splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def identities(name: str, bot: str) -> set[str]:
    """Device identities of a bot, as its OpenClaw has them."""
    database = f"{ROOT}/bot_repos/{bot}/state/state/openclaw.sqlite"
    return set(machine(name).check_output("python3 -c %s %s", IDENTITIES, database).splitlines())


def approved(name: str, bot: str) -> str:
    """The commit that is approved, if its files are what the gateway reads too."""
    path = "/home/node/.openclaw/workspace/skills/planted/SKILL.md"
    assert machine(name).check_output("docker exec %s cat %s", f"clawfactory-{bot}-gateway", path) == SKILL.strip()
    return str(machine(name).check_output(f"cat {ROOT}/bot_repos/{bot}/origin.git/refs/heads/main")).strip()


def tokens(name: str, bot: str) -> dict[str, str]:
    """A bot's lines of the machine's registry of tokens, without its name."""
    prefix = f"{bot.upper()}_"
    lines = machine(name).file(f"{ROOT}/secrets/tokens.env").content_string.splitlines()
    return dict(line.removeprefix(prefix).split("=", 1) for line in lines if line.startswith(prefix))


def answer(name: str, bot: str, token: str) -> str:
    """Status of the controller's answer to somebody with a token."""
    inspected = json.loads(machine(name).check_output("docker inspect %s", f"clawfactory-{bot}-proxy"))[0]
    published = inspected["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"]
    curl = "curl --silent --output /dev/null --write-out '%{http_code}' --header @/dev/stdin"
    url = f"http://127.0.0.1:{published}/status"
    return str(machine(name).check_output(f"echo 'authorization: Bearer {token}' | {curl} {url}"))


@dataclass(frozen=True)
class Lost:
    """What is known of a bot whose machine is gone.

    :param key: its private key, in the safe place where its operator had it.
    :param approved: the commit that was approved; its repository has no remote.
    """

    key: Path
    approved: str
    planted: str
    files: dict[str, str]
    identities: set[str]
    tokens: dict[str, str]


def approve(play: Play, clone: Path) -> None:
    """Have the bot get a skill that the template does not have."""
    play("playbooks/clone.yml", "--limit", BOT, "--extra-vars", f"clone_to={clone}").succeeded()
    skill = clone / "workspace" / "skills" / "planted" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text(SKILL)
    author = ("-c", "user.name=operator", "-c", "user.email=operator@localhost")
    for command in (("add", "--all"), (*author, "commit", "--quiet", "--message", "A skill")):
        subprocess.run(["git", "-C", str(clone), *command], check=True, timeout=60)
    play("playbooks/promote.yml", "--limit", BOT, "--extra-vars", f"promote_from={clone}").succeeded()


@pytest.fixture(scope="module")
def lost(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Lost:
    approve(play, tmp_path_factory.mktemp("clone") / BOT)
    host = machine("north")
    host.check_output(PLANT)
    play("playbooks/snapshot.yml", "--limit", BOT).succeeded()
    play("playbooks/copy-snapshots.yml", "--limit", BOT).succeeded()
    key = tmp_path_factory.mktemp("safe") / f"{BOT}.key"
    key.touch(0o600)
    key.write_text(host.file(f"{ROOT}/secrets/{BOT}/snapshot.key").content_string)
    return Lost(
        key,
        approved("north", BOT),
        planted("north", BOT),
        files("north", BOT),
        identities("north", BOT),
        tokens("north", BOT),
    )


def test_bot_comes_up_on_the_other_machine_with_its_state_and_new_tokens(play: Play, lost: Lost) -> None:
    moved = {"test_machine": "clawfactory-test-south", "restore_key_file": str(lost.key)}
    with cut_off("north"):
        play("playbooks/recover.yml", "--limit", BOT, "--extra-vars", json.dumps(moved)).succeeded()
    assert running(BOT, "south") == PARTS
    assert planted("south", BOT) == lost.planted
    assert approved("south", BOT) == lost.approved
    found = files("south", BOT)
    assert {path for path, digest in lost.files.items() if path in found and found[path] != digest} == set()
    assert identities("south", BOT) == lost.identities != set()
    given = tokens("south", BOT)
    assert given.keys() == lost.tokens.keys()
    assert not {*given.values()} & {*lost.tokens.values()}
    token = "CONTROLLER_TOKEN"
    assert [answer("south", BOT, each[token]) for each in (given, lost.tokens)] == ["200", "401"]
    # The key opens what is on its way, and does not stay.
    secret = lost.key.read_text().split()[-1]
    assert machine("south").run(f"grep -rqF -- {secret} {ROOT}").rc == 1


def test_clone_has_the_state_and_an_identity_and_tokens_of_its_own(play: Play, lost: Lost, tmp_path: Path) -> None:
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"bots": {"children": {"south": {"hosts": {CLONE: {}}}}}}))
    options = {"restore_from": BOT, "restore_key_file": str(lost.key)}
    with cut_off("north"):
        run = play(
            "playbooks/recover.yml", "--inventory", str(more), "--limit", CLONE, "--extra-vars", json.dumps(options)
        )
    run.succeeded()
    assert running(CLONE, "south") == PARTS
    assert planted("south", CLONE) == lost.planted
    assert approved("south", CLONE) == lost.approved
    wait_for("an identity of its own", lambda: identities("south", CLONE) != set(), 60)
    assert not identities("south", CLONE) & lost.identities
    others = {*lost.tokens.values(), *tokens("south", BOT).values()}
    assert not {*tokens("south", CLONE).values()} & others
