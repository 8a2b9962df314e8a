"""SQLite connections in processes of their own: POSIX locks are per process, so a test's own would not conflict."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

ROWS = 1000
SETUP = """
    create table log(n integer primary key, text blob unique);
    create table counter(value integer);
    insert into counter values (1000);
    with recursive c(x) as (select 1 union all select x + 1 from c where x < 1000)
    insert into log select x, randomblob(700) from c;
"""


class SqliteProcess:
    """One connection elsewhere. ``sql`` returns rows or raises ``sqlite3.OperationalError``."""

    def __init__(self, path: Path, *statements: str, timeout: float = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "answer", str(path), str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for statement in statements:
            self.sql(statement)

    def sql(self, statement: str) -> list[list[object]]:
        self._process.stdin.write(json.dumps(statement) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if isinstance(answer, str):
            raise sqlite3.OperationalError(answer)
        return answer

    def close(self) -> None:
        """Close the connection as SQLite wants it."""
        self._process.communicate()
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> SqliteProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class SqliteWriter:
    """Commits transaction after transaction elsewhere, without a busy timeout; ``stop`` returns its errors."""

    def __init__(self, path: Path, **options: object) -> None:
        self._progress = path.with_name("progress")
        self._progress.write_text("")
        self._process = subprocess.Popen(
            [sys.executable, __file__, "write", str(path), json.dumps(options), str(self._progress)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while not self.committed():
            assert self._process.poll() is None
            time.sleep(0.01)

    def committed(self) -> int:
        """Number of the last transaction of which the writer knows that it is committed."""
        return int(self._progress.read_text() or 0)

    def stop(self) -> str:
        return self._process.communicate()[0]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _answer(path: str, timeout: str) -> None:
    connection = sqlite3.connect(path, timeout=float(timeout), isolation_level=None)
    for line in sys.stdin:
        try:
            _say(json.dumps(connection.execute(json.loads(line)).fetchall(), default=repr))
        except sqlite3.Error as error:
            _say(json.dumps(str(error)))
    connection.close()


def _write(path: str, options: str, progress: str) -> None:
    chosen = {"rate": 0, "timeout": 0, "mode": "wal", "before": [], "beside": [], "every": 1, **json.loads(options)}
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    connection = sqlite3.connect(path, timeout=chosen["timeout"], isolation_level=None)
    connection.execute(f"pragma journal_mode={chosen['mode']}")
    connection.execute("pragma synchronous=normal")
    for statement in chosen["before"]:
        connection.execute(statement)
    second = sqlite3.connect(path, timeout=0, isolation_level=None)
    target = os.open(progress, os.O_WRONLY)
    number = connection.execute("select value from counter").fetchone()[0]
    while not stop.is_set():
        number += 1
        try:
            connection.execute("begin immediate")
            connection.execute("insert into log values (?, randomblob(500))", (number,))
            connection.execute("update log set text = randomblob(900) where n = ? - abs(random()) % 900", (number,))
            connection.execute("delete from log where n <= ?", (number - ROWS,))
            connection.execute("update counter set value = ?", (number,))
            connection.execute("commit")
        except sqlite3.Error as error:
            _say(str(error))
            break
        os.pwrite(target, str(number).encode(), 0)
        if chosen["beside"] and number % chosen["every"] == 0:
            # What a checkpoint or VACUUM meets is its own business; that writers go on is what counts here.
            with contextlib.suppress(sqlite3.OperationalError):
                second.execute(chosen["beside"][number // chosen["every"] % len(chosen["beside"])]).fetchall()
        if chosen["rate"]:
            stop.wait(1 / chosen["rate"])


if __name__ == "__main__":
    {"answer": _answer, "write": _write}[sys.argv[1]](*sys.argv[2:])
