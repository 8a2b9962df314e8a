"""Git's smart HTTP for the bot: it reads ``main`` and the proposals, and writes proposals; see gitprotocol-http(5).

Everything is served from ``proposals.git``. It borrows the objects of ``origin.git``, which is read-only here, and gets
a copy of its ``main`` before each answer. That copy decides nothing: the machine reads ``main`` from ``origin.git`` and
nothing but ``refs/heads/proposal/*`` from ``proposals.git``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.promotion.names import PREFIX
from clawfactory_core.promotion.repository import MAIN

from .approved import read_ref
from .audit import Refusals
from .git_process import GitCommand, GitFailed, drain, feed, printable, read_both, run_git, start_git
from .push_commands import PushCommands, form_problem, read_commands, refusal_report
from .push_limits import PushRate, directory_bytes
from .tidying import Tidier

GitServiceName = Literal["git-upload-pack", "git-receive-pack"]

_HOOKS = Path(__file__).resolve().parent.parent / "hooks"
_FETCHES_AT_ONCE = 2
_WAIT_SECONDS = 20.0
_LARGEST_REPORT = 4 << 20  # bytes
#: What git by itself only warns about.
_ERRORS = (
    *("badFilemode", "emptyName", "fullPathname", "hasDot", "hasDotdot", "hasDotgit", "nullSha1", "nulInCommit"),
    *("zeroPaddedFilemode", "gitattributesSymlink", "gitignoreSymlink", "gitmodulesParse", "mailmapSymlink"),
)
#: In its report, as pkt-lines: a pack that it does not take, or a ref that it does not move.
_REFUSED_BY_GIT = re.compile(rb"[0-9a-f]{4}(unpack (?!ok\n)|ng refs/)")
#: What git says of a request that it cannot read.
_NOT_A_FETCH = re.compile("protocol error|hung up unexpectedly|bad line length|unexpected flush")
_VISIBLE = PREFIX.removesuffix("/")

_logger = logging.getLogger(__name__)


class Busy(CoreError):
    """Another push or fetch of the bot is running, and did not end in time."""

    def __init__(self) -> None:
        super().__init__("Another push or fetch is running; try again in a moment.")


@dataclass(frozen=True)
class GitServerPaths:
    """Where things are; see :class:`controller_app.config.Settings`."""

    origin: Path
    proposals: Path
    promotion: Path
    fingerprints: Path


class GitServer:
    """Runs git for the bot's requests, one push and two fetches at a time.

    :param push_bytes: largest pack.
    :param total_bytes: of everything that was pushed; beyond it nothing more is taken.
    :param most_proposals: open at once; beyond it no new one is taken.
    :param seconds: that one request may take, and its body to arrive.
    :param rate: counts pushes.
    :param pushed: called after each push that git has handled.
    :param refusals: gets what is refused.
    """

    def __init__(
        self,
        paths: GitServerPaths,
        *,
        push_bytes: int,
        total_bytes: int,
        most_proposals: int,
        seconds: float,
        rate: PushRate,
        pushed: Callable[[], None],
        refusals: Refusals,
    ) -> None:
        hook = _HOOKS / "pre-receive"
        if not os.access(hook, os.X_OK):
            # Git leaves out a hook that it cannot run, and would take everything.
            raise CoreError(f"{hook} cannot be executed; build the controller's image anew")
        self._paths = paths
        self._push_bytes = push_bytes
        self._total_bytes = total_bytes
        self._most_proposals = most_proposals
        self.seconds = seconds
        self._rate = rate
        self._pushed = pushed
        self._refusals = refusals
        self._tidier = Tidier(paths.origin, paths.proposals, paths.promotion, seconds=seconds)
        self._push = asyncio.Semaphore(1)
        self._fetches = asyncio.Semaphore(_FETCHES_AT_ONCE)

    @property
    def largest_push(self) -> int:
        """Bytes that the body of a push may have, unpacked: a pack, and what is said before it."""
        return self._push_bytes + (1 << 20)

    async def advertise(self, service: GitServiceName) -> bytes:
        """Return the refs, as ``info/refs`` answers.

        :raises GitFailed: git fails.
        :raises Busy: too many requests at once.
        """
        async with self._turn(self._fetches):
            await self._copy_main()
            arguments = (service.removeprefix("git-"), "--stateless-rpc", "--http-backend-info-refs", ".")
            command = GitCommand(arguments, self._paths.proposals, _settings(service))
            refs = await run_git(command, seconds=self.seconds, largest=_LARGEST_REPORT)
        head = f"# service={service}\n"
        return f"{len(head) + 4:04x}{head}0000".encode() + refs

    async def fetch(self, body: bytes, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Answer a fetch.

        :param write: takes the answer piece by piece.
        :raises Busy: too many requests at once.
        :raises InvalidInput: it is not a fetch.
        :raises GitFailed: git fails.
        """
        arguments = ("upload-pack", "--stateless-rpc", "--strict", ".")
        command = GitCommand(arguments, self._paths.proposals, _settings("git-upload-pack"))
        started = False
        try:
            async with (
                self._turn(self._fetches),
                asyncio.timeout(self.seconds),
                start_git(command, input_wanted=True) as process,
            ):
                if process.stdout is None or process.stderr is None:
                    raise RuntimeError("started without an output")
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(feed(process, body))
                    errors = tasks.create_task(drain(process.stderr))
                    while chunk := await process.stdout.read(65536):
                        started = True
                        await write(chunk)
                if await process.wait():
                    problem = GitFailed("upload-pack", printable(errors.result()))
                    if not started and _NOT_A_FETCH.search(problem.detail):
                        raise InvalidInput("The body is not a fetch as git sends it.")
                    if not started:
                        raise problem
                    _logger.warning("%s", problem)  # git has told the client, within its answer
        except TimeoutError:
            raise GitFailed("upload-pack", f"not done within {self.seconds:g} s") from None

    @asynccontextmanager
    async def push_turn(self) -> AsyncIterator[None]:
        """Wait for the turn to push, before the body is read: bodies are held in memory.

        :raises Busy: another push took too long.
        """
        async with self._turn(self._push):
            yield

    async def push(self, body: bytes) -> bytes:
        """Handle one push, within :meth:`push_turn`; a refusal is an answer too, in git's own form.

        :param body: unpacked, at most :attr:`largest_push` bytes.
        :raises InvalidInput: it is not a push.
        :raises GitFailed: git fails.
        """
        push = read_commands(body)
        if not push.commands:
            return b""  # git tries with nothing before it sends much
        reasons = {command.ref: problem for command in push.commands if (problem := form_problem(command))}
        if reasons:
            return self._refuse(push, "reference", reasons)
        problem = await self._limit_problem() or await self._count_problem(push)
        if problem:
            return self._refuse(push, "limit", {command.ref: problem for command in push.commands})
        await self._copy_main()
        try:
            return await self._receive(push, body)
        finally:
            self._pushed()

    async def _receive(self, push: PushCommands, body: bytes) -> bytes:
        reading, writing = os.pipe()
        try:
            command = GitCommand(
                ("receive-pack", "--stateless-rpc", "."),
                self._paths.proposals,
                [*_settings("git-receive-pack"), ("receive.maxInputSize", str(self._push_bytes))],
                self._hook_environment(writing),
                keep=(writing,),
            )
            async with asyncio.timeout(self.seconds), start_git(command, input_wanted=True) as process:
                (report, errors), _ = await asyncio.gather(read_both(process, _LARGEST_REPORT), feed(process, body))
                if await process.wait() and not report:
                    raise GitFailed("receive-pack", printable(errors) or "ended without an answer")
        except TimeoutError:
            problem = f"not checked within {self.seconds:g} s; push less at once"
            return self._refuse(push, "time", {command.ref: problem for command in push.commands})
        finally:
            os.close(writing)
            # Only now does the pipe end, and what the hook had to say is short enough to be in it.
            with os.fdopen(reading, "rb") as stream:
                said = stream.read().decode("utf-8", "replace").splitlines()
            for line in said:
                self._refusals.record("push", "content", line)
        if not said and _REFUSED_BY_GIT.search(report):
            self._refusals.record("push", "git", "git itself refused it", {"ref": push.commands[0].ref})
        return report

    def _refuse(self, push: PushCommands, code: str, reasons: dict[str, str]) -> bytes:
        for ref, reason in reasons.items():
            self._refusals.record("push", code, reason, {"ref": ref})
        hint = "\n".join(f"REFUSED {ascii(ref)[1:-1][:200]}: {reason}" for ref, reason in reasons.items())
        return refusal_report(push, reasons, hint)

    def _hook_environment(self, descriptor: int) -> dict[str, str]:
        return {
            "CLAWFACTORY_PYTHON": sys.executable,
            "CLAWFACTORY_MAIN": self._main(),
            "CLAWFACTORY_PROPOSALS": str(self._paths.proposals),
            "CLAWFACTORY_PROMOTION": str(self._paths.promotion),
            "CLAWFACTORY_FINGERPRINTS": str(self._paths.fingerprints),
            "CLAWFACTORY_PACK_BYTES": str(self._push_bytes),
            "CLAWFACTORY_LOG_FD": str(descriptor),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    async def _limit_problem(self) -> str | None:
        used = await asyncio.to_thread(directory_bytes, self._paths.proposals)
        if used > self._total_bytes and await self._tidier.tidy():
            used = await asyncio.to_thread(directory_bytes, self._paths.proposals)
        if used > self._total_bytes:
            return (
                f"all proposals together take {used >> 20} MiB, more than the {self._total_bytes >> 20} MiB allowed; "
                "ask the operator to decide the open ones"
            )
        wait = self._rate.take()
        return f"too many pushes in an hour; try again in {wait} seconds" if wait else None

    async def _count_problem(self, push: PushCommands) -> str | None:
        new = sum(command.is_new for command in push.commands)
        # Whoever lists proposals reads all of them: the operator and the machine wait for that.
        if not new or await self._count() + new <= self._most_proposals:
            return None
        await self._tidier.tidy()
        # Not by the branches: those of decided ones stay for a while.
        if await self._tidier.count_open() + new <= self._most_proposals:
            return None
        most = self._most_proposals
        return f"only {most} proposals may be open; ask the operator to decide some, or push to an open one"

    async def _count(self) -> int:
        command = GitCommand(("for-each-ref", "--format=.", PREFIX), self._paths.proposals)
        return len((await run_git(command, seconds=self.seconds, largest=_LARGEST_REPORT)).splitlines())

    async def _copy_main(self) -> None:
        """Show the bot the ``main`` of now."""
        main = self._main()
        if read_ref(self._paths.proposals, MAIN) != main:
            command = GitCommand(("update-ref", "--no-deref", MAIN, main), self._paths.proposals)
            await run_git(command, seconds=self.seconds)
        if (self._paths.proposals / "HEAD").read_text() != f"ref: {MAIN}\n":
            await run_git(GitCommand(("symbolic-ref", "HEAD", MAIN), self._paths.proposals), seconds=self.seconds)

    def _main(self) -> str:
        main = read_ref(self._paths.origin, MAIN)
        if main is None:
            raise CoreError(f"{self._paths.origin} has no {MAIN}; run the 'gateway' role, which makes it")
        return main

    @asynccontextmanager
    async def _turn(self, semaphore: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await semaphore.acquire()
        except TimeoutError:
            raise Busy from None
        try:
            yield
        finally:
            semaphore.release()


def _settings(service: GitServiceName) -> list[tuple[str, str]]:
    hidden = [("transfer.hideRefs", "refs"), ("transfer.hideRefs", f"!{_VISIBLE}")]
    if service == "git-upload-pack":
        return [*hidden, ("transfer.hideRefs", f"!{MAIN}"), ("uploadpack.keepAlive", "5")]
    return [
        *hidden,
        ("core.hooksPath", str(_HOOKS)),
        ("core.logAllRefUpdates", "false"),
        ("receive.fsckObjects", "true"),
        ("transfer.fsckObjects", "true"),
        *((f"receive.fsck.{problem}", "error") for problem in _ERRORS),
        ("receive.denyDeletes", "true"),
        ("receive.denyNonFastForwards", "true"),
        ("receive.denyCurrentBranch", "refuse"),
        ("receive.shallowUpdate", "false"),
        ("receive.autogc", "false"),
        ("receive.updateServerInfo", "false"),
        ("receive.advertisePushOptions", "false"),
        ("receive.keepAlive", "5"),
    ]
