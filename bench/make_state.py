#!/usr/bin/env python3
"""Make a deterministic state directory as OpenClaw has it, for benchmarks of snapshots.

    make_state.py TARGET --size-mb 1024             a fresh state; TARGET must not exist
    make_state.py TARGET --size-mb 1024 --mutate 1  the next day's change of 1 to 2 % in place; 30 days are 30 calls

Shares of the size: 55 % memory/main.sqlite (WAL; text, embeddings, fts5, random ids with a UNIQUE index), 10 % the
agent's SQLite, 20 % append-only session logs, 10,000 small files, the rest incompressible attachments; besides,
configuration, keys, and what a snapshot leaves out. The embeddings have random mantissas and the exponents of
N(0, 1/sqrt(1536)); zstd gains about 10 % on them. Text is of made-up words with Zipf's weights (zstd -3: about 2.6).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import random
import sqlite3
import struct
from pathlib import Path

DIMENSIONS = 1536
FIRST_DAY = 1_770_000_000
SESSIONS = 50
SMALL_FILES = 10_000
MAIN = """
CREATE TABLE chunks(chunk_rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path TEXT NOT NULL,
  source TEXT NOT NULL, start_line INT NOT NULL, end_line INT NOT NULL, hash TEXT NOT NULL,
  model TEXT NOT NULL, text TEXT NOT NULL, embedding BLOB NOT NULL, updated_at INT NOT NULL);
CREATE INDEX chunks_path ON chunks(path);
CREATE VIRTUAL TABLE chunks_fts USING fts5(text, id UNINDEXED, path UNINDEXED);
"""
EVENTS = """
CREATE TABLE events(seq INTEGER PRIMARY KEY, session TEXT, ts INT, body TEXT);
CREATE INDEX events_session ON events(session, ts);
"""


class Generator:
    """Random content that is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - made-up data
        # The vocabulary does not depend on the seed.
        words = random.Random(99)  # noqa: S311 - made-up data
        syllables = [c + v for c in "bcdfghklmnprstvz" for v in ("a", "e", "i", "o", "u", "an", "er", "is")]
        self._words = ["".join(words.choices(syllables, k=words.choice((1, 2, 2, 3, 3, 4)))) for _ in range(12000)]
        self._weights = list(itertools.accumulate(1 / (index + 2.7) for index in range(len(self._words))))
        deviation = 1 / math.sqrt(DIMENSIONS)
        self._exponents = bytes(sorted(struct.pack("<f", words.gauss(0, deviation))[3] for _ in range(256)))

    def text(self, size: int) -> str:
        """Words of about ``size`` bytes."""
        words = self.random.choices(self._words, cum_weights=self._weights, k=max(1, size // 6))
        for index in range(11, len(words), 12):
            words[index] += ".\n" if index % 60 == 59 else ","
        return " ".join(words)

    def vector(self) -> bytes:
        """One embedding."""
        found = bytearray(self.random.randbytes(4 * DIMENSIONS))
        found[3::4] = self.random.randbytes(DIMENSIONS).translate(self._exponents)
        return bytes(found)

    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.random.randbytes(32).hex()

    def event(self, moment: int) -> str:
        """One line of a session."""
        name, role = self.id()[:8], self.random.choice(("user", "assistant", "toolResult"))
        content = [{"type": "text", "text": self.text(int(200 * 60 ** self.random.random()))}]
        usage = {"input": self.random.randrange(9000), "output": self.random.randrange(900)}
        message = {"role": role, "content": content, "usage": usage}
        return json.dumps({"type": "message", "id": name, "ts": moment, "message": message})

    def session(self, size: int, moment: int) -> str:
        """Lines of a session log of at least ``size`` bytes."""
        lines, written = [], 0
        while written < size:
            lines.append(self.event(moment) + "\n")
            written += len(lines[-1])
        return "".join(lines)

    def small(self, number: int, largest: int) -> str:
        """A note, or every fifth time a run of a cron job."""
        size = int(150 * (largest / 150) ** self.random.random())
        if number % 5 == 4:
            return json.dumps({"id": self.id(), "schedule": "0 7 * * *", "state": self.text(size)}, indent=1)
        return f"# Note {number}\n\n{self.text(size)}\n"


def write(path: Path, data: bytes | str, mode: int = 0o644, *, append: bool = False) -> None:
    """Write or append, making the directories above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if append else "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def small_path(root: Path, number: int) -> Path:
    """Where small file ``number`` is."""
    if number % 5 == 4:
        return root / f"cron/runs/{number % 64:02d}/job-{number}.json"
    return root / f"workspace/memory/{number % 97:02d}/note-{number}.md"


def session_path(root: Path, number: int) -> Path:
    """Where session log ``number`` is."""
    return root / f"agents/{'main' if number % 3 else 'helper'}/sessions/{number:03d}.jsonl"


def open_database(path: Path) -> sqlite3.Connection:
    """In WAL mode; without fsync, which only costs time here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")
    return database


def add_chunks(database: sqlite3.Connection, generator: Generator, count: int, moment: int) -> None:
    """In small transactions, as an indexer does."""
    for start in range(0, count, 64):
        database.execute("BEGIN")
        for _ in range(min(64, count - start)):
            name, path, text = generator.id(), f"memory/{generator.random.randrange(4000):04d}.md", generator.text(900)
            digest = hashlib.sha256(text.encode()).hexdigest()
            row = (name, path, "memory", 1, 40, digest, "embed-3", text, generator.vector(), moment)
            database.execute("INSERT INTO chunks VALUES(NULL,?,?,?,?,?,?,?,?,?,?)", row)
            database.execute("INSERT INTO chunks_fts(text,id,path) VALUES(?,?,?)", (text, name, path))
        database.execute("COMMIT")


def add_events(database: sqlite3.Connection, generator: Generator, count: int, moment: int) -> None:
    """Transcript events, 64 a transaction."""
    for start in range(0, count, 64):
        rows = [
            (f"s{generator.random.randrange(200)}", moment, generator.event(moment))
            for _ in range(min(64, count - start))
        ]
        database.execute("BEGIN")
        database.executemany("INSERT INTO events VALUES(NULL,?,?,?)", rows)
        database.execute("COMMIT")


def make(root: Path, size_mb: int, seed: int = 7) -> None:
    """A fresh state."""
    generator, total = Generator(seed), size_mb << 20
    root.mkdir(parents=True)
    largest = 12000 if size_mb >= 256 else 3000
    for number in range(SMALL_FILES):
        write(small_path(root, number), generator.small(number, largest))
    config = {"agents": {"main": {"model": "x"}}, "notes": generator.text(9000)}
    write(root / "openclaw.json", json.dumps(config, indent=2), 0o600)
    for name in ("discord-allowFrom", "telegram-allowFrom", "oauth"):
        tokens = json.dumps({"tokens": [generator.id() for _ in range(20)]})
        write(root / f"credentials/{name}.json", tokens, 0o600)
    for name in ("paired", "pending"):
        devices = json.dumps({generator.id(): {"publicKey": generator.id()} for _ in range(10)})
        write(root / f"devices/{name}.json", devices, 0o600)
    write(root / "identity/device.json", json.dumps({"privateKey": generator.id()}), 0o600)
    database = open_database(root / "memory/main.sqlite")
    database.executescript(MAIN)
    add_chunks(database, generator, int(total * 0.55) // 9800, FIRST_DAY)
    database.close()
    database = open_database(root / "agents/main/agent/state.sqlite")
    database.executescript(EVENTS)
    add_events(database, generator, int(total * 0.10) // 3150, FIRST_DAY)
    database.close()
    for number in range(SESSIONS):
        write(session_path(root, number), generator.session(int(total * 0.20) // SESSIONS, FIRST_DAY))
    left = total - sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    for number in range(40 if left > 0 else 0):
        write(root / f"workspace/attachments/{number:03d}.bin", generator.random.randbytes(left // 40))
    for number in range(200):
        write(root / f"installed/node_modules/pkg{number}/index.js", generator.text(4000))
    for number in range(50):
        name = f"workspace/.git/objects/{number:02x}/{generator.id()[:38]}"
        write(root / name, generator.random.randbytes(2000))


def mutate(root: Path, size_mb: int, day: int, seed: int = 7) -> None:
    """What a day changes: 1.2 % new rows, 0.1 % embedded anew, 0.05 % forgotten, some logs and notes."""
    generator, total, moment = Generator(seed * 100003 + day), size_mb << 20, FIRST_DAY + 86400 * day
    database = open_database(root / "memory/main.sqlite")
    last = database.execute("SELECT max(chunk_rowid) FROM chunks").fetchone()[0]
    add_chunks(database, generator, max(1, int(total * 0.55 * 0.012) // 9800), moment)
    database.execute("BEGIN")
    for _ in range(max(1, last // 1000)):
        row = (generator.vector(), moment, generator.random.randint(1, last))
        database.execute("UPDATE chunks SET embedding=?, updated_at=? WHERE chunk_rowid=?", row)
    for _ in range(max(1, last // 2000)):
        database.execute("DELETE FROM chunks WHERE chunk_rowid=?", (generator.random.randint(1, last),))
    database.execute("COMMIT")
    database.close()
    database = open_database(root / "agents/main/agent/state.sqlite")
    add_events(database, generator, max(1, int(total * 0.10 * 0.015) // 3150), moment)
    database.close()
    for number in generator.random.sample(range(SESSIONS), 4):
        write(session_path(root, number), generator.session(int(total * 0.2 * 0.012) // 4, moment), append=True)
    largest = 12000 if size_mb >= 256 else 3000
    for number in generator.random.sample(range(SMALL_FILES), 80):
        write(small_path(root, number), generator.small(number, largest))
    write(root / f"workspace/memory/day-{day:03d}.md", generator.text(6000))
    config = {"agents": {"main": {"model": "x", "day": day}}, "notes": generator.text(9000)}
    write(root / "openclaw.json", json.dumps(config, indent=2), 0o600)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--size-mb", type=int, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--mutate", type=int, metavar="DAY", default=0)
    options = parser.parse_args()
    if options.mutate:
        mutate(options.target, options.size_mb, options.mutate, options.seed)
    else:
        make(options.target, options.size_mb, options.seed)


if __name__ == "__main__":
    main()
