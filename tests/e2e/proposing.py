"""A bot that proposes, its operator who decides, and what both of them see."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.support.bots import Bot
from tests.support.git_server import CLEAN
from tests.support.playbooks import PlaybookRun, ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY

SKILL = "sh skills/propose-change/propose.sh"


def play(bot: Bot, playbook: str, *options: str, **variables: object) -> PlaybookRun:
    """A playbook of the operator's, for one bot."""
    extra = ("--extra-vars", json.dumps(variables))
    return ansible_playbook(f"playbooks/{playbook}.yml", INVENTORY, "--limit", bot.name, *extra, *options)


def tool(bot: Bot, command: str, seconds: float = 180) -> str:
    """Have the real OpenClaw run a command by its own tool, in a sandbox; what it said, and ``status=…``.

    OpenClaw lets a command that takes long go on in the background: what counts is the file.
    """
    name = f"said-{uuid.uuid4().hex}"
    bot.chat(f"RUN: cd /workspace && {{ {command}; echo status=$?; }} > /workspace/{name} 2>&1")
    said = bot.root / "bot_repos" / bot.name / "state" / "workspace" / name
    text = wait_for(f"the end of {command}", lambda: _finished(said), seconds, every=0.5)
    said.unlink()
    return text


def _finished(said: Path) -> str | None:
    text = said.read_text() if said.exists() else ""
    return text if "status=" in text else None


def propose(bot: Bot, name: str, change: str, title: str = "A change") -> str:
    """Propose by the bot's own skill.

    :param change: shell commands, run in the working copy of the repository.
    """
    started = f"{SKILL} start {name} && (cd proposals/work/{name} && {change}) && echo ready"
    said = tool(bot, f"{started} && {SKILL} send {name} '{title}'")
    _, ready, answer = said.partition("\nready\n")
    assert ready, said
    return answer


def git(repository: Path, *arguments: str) -> str:
    """What Git says of a repository of the machine, which belongs to another user."""
    owner = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, env={**CLEAN, **owner}, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(bot: Bot, name: str) -> Path:
    return bot.root / "bot_repos" / bot.name / name


def refs(bot: Bot) -> dict[str, str]:
    """References of the authority and of the bot's own repository, which Git calls the same."""
    return {
        f"{name} {line.split()[0]}": line.split()[1]
        for name in ("origin.git", "proposals.git")
        for line in git(repository(bot, name), "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    }


def approved_commit(bot: Bot) -> str:
    return git(repository(bot, "approved"), "rev-parse", "HEAD")


def seen(bot: Bot, path: str) -> str:
    """A file of the workspace as a process in the gateway reads it."""
    done = bot.run("cat", f"/home/node/.openclaw/workspace/{path}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def history(bot: Bot) -> list[dict[str, Any]]:
    """Promotions and rollbacks, the newest last; none before the first."""
    path = bot.root / "promotion" / bot.name / "history.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def agent_call(bot: Bot, method: str, path: str, *options: str) -> tuple[int, str]:
    """A request to the agent API by a shell in the gateway, with the bot's own token; status and body."""
    script = (
        ". /opt/clawfactory/lib/env.sh && load_env_file /run/secrets/gateway.env && method=$1 path=$2 && shift 2 && "
        'printf "header = \\"Authorization: Bearer %s\\"\\n" "$CLAWFACTORY_AGENT_TOKEN" | '
        'curl --silent --noproxy "*" --max-time 30 --config - --request "$method" --write-out "\\n%{http_code}" '
        '"$@" "$CLAWFACTORY_AGENT_URL$path"'
    )
    done = bot.run("sh", "-c", script, "sh", method, path, *options)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body
