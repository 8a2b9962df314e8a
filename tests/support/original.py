"""A directory as the original ClawFactory, the shell scripts, leaves it: one bot with all that it has."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

GATEWAY_TOKEN = "5f2d8c91b7e04a63d18f9c25a07be346"
CONTROLLER_TOKEN = "c7a91e5d3b0f48266e1d84b9f2a05c73"
ENV = {"DISCORD_BOT_TOKEN": "discord-of-the-original", "ANTHROPIC_API_KEY": "sk-ant-of-the-original"}
ARCHIVE = "snapshot-2026-02-03T12-00-00Z.tar.age"
LABELLED = "nightly--2026-02-04T12-00-00Z.tar.age"
MEMORIES = 100
# As OpenClaw kept it then; OpenClaw 2026.9.6 looks for just these columns (dist/doctor-memory-sidecar-import-*.mjs).
_MEMORY_INDEX = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, source TEXT, hash TEXT, mtime INTEGER, size INTEGER);
CREATE TABLE chunks (
    id TEXT PRIMARY KEY, path TEXT, source TEXT, start_line INTEGER, end_line INTEGER, hash TEXT, model TEXT, text TEXT,
    embedding TEXT, updated_at INTEGER
);
"""


def lay_out(root: Path, bot: str) -> None:
    """Write it; its archive is made by the plain ``tar`` and ``age``."""
    _state(root / "bot_repos" / bot / "state")
    _clone(root / "bot_repos" / bot / "approved", root / "upstream.git", bot)
    _secrets(root / "secrets", bot)
    _archive(root, bot)


def git(directory: Path, *arguments: str) -> str:
    """Run git there as the operator who works with the clone."""
    settings = ("-c", "user.name=operator", "-c", "user.email=operator@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *settings, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _state(state: Path) -> None:
    _write(state / "openclaw.json", '{"gateway": {"mode": "local"}}\n', 0o600)
    _write(state / "devices" / "paired.json", "{}\n")
    _write(state / "credentials" / "discord-allowFrom.json", '["1"]\n', 0o600)
    _write(state / "workspace" / "MEMORY.md", "long term\n")
    _write(state / "installed" / "node_modules" / "x" / "index.js", "//\n")
    (state / "memory").mkdir()
    with sqlite3.connect(state / "memory" / "main.sqlite") as database:
        database.executescript(_MEMORY_INDEX)
        database.execute("INSERT INTO files VALUES ('MEMORY.md', 'memory', 'h', 1, 1)")
        chunk = "INSERT INTO chunks VALUES (?, 'MEMORY.md', 'memory', 1, 1, 'h', 'm', ?, '[]', 1)"
        database.executemany(chunk, [(str(number), f"memory {number}") for number in range(MEMORIES)])
    database.close()


def _clone(clone: Path, upstream: Path, bot: str) -> None:
    upstream.mkdir()
    git(upstream, "init", "--quiet", "--bare")
    git(clone.parent, "clone", "--quiet", str(upstream), str(clone))
    workspace = clone / "workspace"
    _write(workspace / "SOUL.md", "# Soul of the original\n")
    _write(workspace / "skills" / "propose.md", "propose\n")
    _write(workspace / f"{bot}_save" / "package.json", '{"name": "save", "private": true}\n')
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "Add files")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    git(clone, "checkout", "--quiet", "-b", "proposal/colour")
    _write(workspace / "SOUL.md", "# Soul, in another colour\n")
    git(clone, "commit", "--quiet", "--all", "--message", "Proposal: colour")
    git(clone, "checkout", "--quiet", "main")


def _secrets(secrets: Path, bot: str) -> None:
    lines = [f"{name}={value}" for name, value in (ENV | {"OPENCLAW_GATEWAY_TOKEN": GATEWAY_TOKEN}).items()]
    _write(secrets / bot / "gateway.env", "\n".join(["# Gateway environment", *lines, ""]), 0o600)
    _write(secrets / bot / "controller.env", "GITHUB_WEBHOOK_SECRET=short\nALLOWED_MERGE_ACTORS=operator\n", 0o600)
    tokens = f'{bot}_gateway_token="{GATEWAY_TOKEN}"\n{bot}_controller_token="{CONTROLLER_TOKEN}"\n'
    _write(secrets / "tokens.env", tokens, 0o600)
    with (secrets / bot / "snapshot.pub").open("w") as public:
        subprocess.run(["age-keygen", "-o", str(secrets / bot / "snapshot.key")], check=True, stderr=public)


def _archive(root: Path, bot: str) -> None:
    snapshots = root / "snapshots" / bot
    snapshots.mkdir(parents=True)
    key = (root / "secrets" / bot / "snapshot.key").read_text()
    recipient = next(line.rpartition(" ")[2] for line in key.splitlines() if "public key" in line)
    state = root / "bot_repos" / bot / "state"
    with subprocess.Popen(
        ["tar", "-C", str(state), "--exclude=installed", "-cf", "-", "."], stdout=subprocess.PIPE
    ) as tar:
        subprocess.run(["age", "-r", recipient, "-o", str(snapshots / ARCHIVE)], stdin=tar.stdout, check=True)
    (snapshots / LABELLED).write_bytes((snapshots / ARCHIVE).read_bytes())
    os.symlink(ARCHIVE, snapshots / "latest.tar.age")
