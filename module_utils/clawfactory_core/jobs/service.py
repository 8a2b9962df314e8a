"""The jobs service of a machine: one socket for each bot, see :mod:`.protocol`."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..allocation import describe, read_allocations
from ..errors import CoreError
from ..names import BOT_NAME
from .child import Children
from .decisions import DecisionLog
from .kinds import snapshot_entries, throw_lock
from .listener import BACKLOG, Leaving, has_left, inode, open_listener, peer_uid, receive, send
from .protocol import (
    ANSWER_BYTES,
    KINDS,
    QUESTIONS,
    REQUEST_SECONDS,
    SOCKET_NAME,
    Refusal,
    Request,
    encode,
    parse_request,
)
from .questions import machine_info
from .queue import BotJobs
from .refusals import RefusalLog
from .work import Work

#: Seconds between two looks for bots that came or went.
LOOK_SECONDS = 2.0
#: Seconds that running jobs get to end when the service is told to.
PATIENCE = 30.0
MAX_CONNECTIONS = 16  # of a bot
MAX_FOLLOWED = 8  # of those
MAX_RUNNING = 4  # jobs of the machine
MAX_READING = 4  # processes of the machine that answer questions
LISTED = 50
_ANY_POOL = "10.0.0.0/8"  # user ids do not follow from the pool of networks
_LOG = logging.getLogger("clawfactory.jobs")


@dataclass
class _Bot:
    """A bot that is listened for."""

    name: str
    uid: int
    directory: Path
    listener: socket.socket
    inode: int  # of the socket, 0 while there is none
    jobs: BotJobs
    refusals: RefusalLog
    decisions: DecisionLog
    connections: int = 0
    followed: int = 0


class JobsService:
    """Answers for every bot of ``allocations.json`` whose ``<root>/run/<bot>/jobs`` is there.

    :param children: does what is asked for.
    :param ending: set it to end :meth:`run`.
    """

    def __init__(self, root: Path, children: Children, ending: threading.Event) -> None:
        self._root = root
        self._children = children
        self._ending = ending
        self._bots: dict[str, _Bot] = {}
        self._lock = threading.Lock()
        self._running = threading.BoundedSemaphore(MAX_RUNNING)
        self._reading = threading.BoundedSemaphore(MAX_READING)
        self._selector = selectors.DefaultSelector()
        self._complaints: dict[str, str] = {}
        self._next_look = 0.0
        self._leaving = Leaving()

    def run(self) -> None:
        """Serve until told to end."""
        threading.stack_size(512 * 1024)
        self._children.prepare()
        while not self._ending.is_set():
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + LOOK_SECONDS
            for key, _ in self._selector.select(min(0.5, LOOK_SECONDS)):
                self._accept(key.data)
            self._leaving.close()
        self._stop()

    def _stop(self) -> None:
        self._leaving.close(all_of_them=True)
        for bot in self._bots.values():
            bot.jobs.end()
            bot.listener.close()
        deadline = time.monotonic() + PATIENCE
        while any(bot.jobs.busy for bot in self._bots.values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._children.end()
        while any(bot.jobs.busy for bot in self._bots.values()) and time.monotonic() < deadline + 10:
            time.sleep(0.1)

    def _look(self) -> None:
        """Begin to listen for new bots, and end it for those that are gone or whose directory was made anew."""
        try:
            allocations = read_allocations(self._root)
        except (CoreError, OSError) as error:
            self._complain("allocations", str(error))
            return
        self._complain("allocations", "")
        for name in [name for name in self._bots if name not in allocations]:
            self._forget(name)
        for name, entry in allocations.items():
            bot = self._bots.get(name)
            if bot is not None and bot.inode and inode(bot.directory / SOCKET_NAME) == bot.inode:
                continue
            directory = self._root / "run" / name / "jobs"
            if not BOT_NAME.fullmatch(name) or not directory.is_dir():
                if bot is not None:
                    self._unlisten(bot)
                continue
            try:
                self._listen(name, int(describe(self._root, name, _ANY_POOL, entry)["controller_uid"]), directory)
            except (CoreError, OSError) as error:
                self._complain(name, f"{name}: cannot listen in {directory}: {error}")
            else:
                self._complain(name, "")

    def _listen(self, name: str, uid: int, directory: Path) -> None:
        bot = self._bots.get(name)
        jobs = bot.jobs if bot else BotJobs(self._root, name, self._children.run, self._running)
        listener, number = open_listener(directory, uid)
        if bot is None:
            refusals, decisions = RefusalLog(self._root, name), DecisionLog(self._root, name)
            bot = self._bots[name] = _Bot(name, uid, directory, listener, number, jobs, refusals, decisions)
            jobs.start()
            _LOG.info("%s: listening", name)
        else:
            self._unlisten(bot)
            bot.uid, bot.directory, bot.listener, bot.inode = uid, directory, listener, number
            _LOG.info("%s: listening again", name)
        self._selector.register(listener, selectors.EVENT_READ, bot)

    def _unlisten(self, bot: _Bot) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it was closed before
            self._selector.unregister(bot.listener)
        bot.listener.close()
        bot.inode = 0

    def _forget(self, name: str) -> None:
        bot = self._bots.pop(name)
        self._unlisten(bot)
        bot.jobs.end()
        _LOG.info("%s: gone", name)

    def _complain(self, about: str, text: str) -> None:
        """Log a problem once, not with every look; an empty text ends it."""
        if text and self._complaints.get(about) != text:
            _LOG.error("%s", text)
        if text:
            self._complaints[about] = text
        elif self._complaints.pop(about, None) is not None:
            _LOG.info("%s is fine again", about)

    def _accept(self, bot: _Bot) -> None:
        """Take those who knock, but not so many that other bots wait for it."""
        for _ in range(BACKLOG):
            try:
                connection, _address = bot.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors, for example: whoever waits goes on waiting, and this loop must not spin.
                self._complain("accept", f"{bot.name}: a connection cannot be accepted: {error}")
                time.sleep(0.05)
                return
            self._let_in(bot, connection)

    def _let_in(self, bot: _Bot, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        refusal = None
        if uid not in (0, bot.uid):
            refusal = Refusal(403, "Not yours", f"user {uid} may not ask for jobs of {bot.name}")
            _LOG.warning("%s", refusal)
        with self._lock:
            if refusal is None and bot.connections >= MAX_CONNECTIONS:
                refusal = Refusal(503, "Too many", f"{bot.name} has {MAX_CONNECTIONS} connections; close some")
            if refusal is None:
                bot.connections += 1
        if refusal is not None:
            self._leaving.turn_away(connection, refusal)
            return
        try:
            threading.Thread(target=self._serve, args=(bot, connection), daemon=True).start()
        except RuntimeError as error:  # no more threads
            with self._lock:
                bot.connections -= 1
            self._leaving.turn_away(connection, Refusal(503, "Too many", f"the jobs service has no room: {error}"))

    def _serve(self, bot: _Bot, connection: socket.socket) -> None:
        try:
            with connection:
                self._converse(bot, connection)
        finally:
            with self._lock:
                bot.connections -= 1

    def _converse(self, bot: _Bot, connection: socket.socket) -> None:
        try:
            try:
                request = parse_request(receive(connection))
                if request.op == "follow":
                    self._follow(bot, request.fields["id"], connection)
                    return
                answer = encode(self._answer(bot, request))
                if len(answer) > ANSWER_BYTES:
                    raise Refusal(500, "Too long", f"the answer has more than {ANSWER_BYTES} bytes")
            except Refusal as refusal:
                answer = encode(refusal.to_dict())
            except (CoreError, OSError) as error:
                if isinstance(error, (ConnectionError, TimeoutError)):
                    raise
                answer = encode(Refusal(500, "Failed", str(error)).to_dict())
            send(connection, answer)
        except (ConnectionError, TimeoutError):
            pass  # the other side left, or does not listen; nothing is lost by it
        except Exception:  # noqa: BLE001 - a bug must show in the log, whatever thread it is in
            _LOG.exception("%s: a request", bot.name)

    def _answer(self, bot: _Bot, request: Request) -> dict[str, object]:
        """The answer to everything but ``follow``.

        :raises Refusal: it is one.
        """
        if request.op in KINDS:
            return {"job": bot.jobs.ask(request).to_answer()}
        if request.op == "lock":
            return {"lock": throw_lock(self._root, bot.name, request)}
        if request.op == "job":
            return {"job": bot.jobs.get(request.fields["id"]).to_answer()}
        if request.op == "jobs":
            return {"jobs": [job.to_answer() for job in bot.jobs.latest(LISTED)]}
        if request.op == "snapshots":
            return {"snapshots": snapshot_entries(self._root, bot.name)}
        if request.op == "machine_info":
            return {"machine": machine_info(self._root, bot.name)}
        if request.op == "refused":
            what, code, count = (request.fields[name] for name in ("what", "code", "count"))
            return {"written": bot.refusals.add(what, code, int(count))}
        if request.op == "decided":
            bot.decisions.add(request.fields)
            return {"written": True}
        if not self._reading.acquire(timeout=REQUEST_SECONDS):
            raise Refusal(503, "Too many", "too many such questions at once; ask again in a moment")
        try:
            work = Work(self._root, bot.name, request.op, options=dict(request.fields))
            return {QUESTIONS[request.op]: self._children.run(work, lambda progress: None)}
        finally:
            self._reading.release()

    def _follow(self, bot: _Bot, job_id: str, connection: socket.socket) -> None:
        with _counted(self._lock, bot):
            for job in bot.jobs.follow(job_id, lambda: has_left(connection)):
                connection.sendall(encode({"job": job.to_answer()}))


@contextlib.contextmanager
def _counted(lock: threading.Lock, bot: _Bot) -> Iterator[None]:
    """:raises Refusal: 503, too many follow already."""
    with lock:
        if bot.followed >= MAX_FOLLOWED:
            raise Refusal(503, "Too many", f"{MAX_FOLLOWED} connections follow jobs of {bot.name} already")
        bot.followed += 1
    try:
        yield
    finally:
        with lock:
            bot.followed -= 1
