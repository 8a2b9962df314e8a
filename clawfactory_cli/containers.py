"""Commands that go into a bot's containers: their logs, and a shell."""

from __future__ import annotations

import codecs
import sys
from enum import StrEnum
from typing import Annotated

import typer

from clawfactory_core.errors import CoreError
from clawfactory_core.names import container

from . import ansible
from .machine import CommandFailed, Machine, interactive, run_there
from .parameters import Call, fail, shared
from .playing import one_bot

app = typer.Typer()


class Service(StrEnum):
    """A part of a bot that runs in a container of its own."""

    gateway = "gateway"
    proxy = "proxy"
    controller = "controller"
    egress = "egress"
    broker = "broker"


_SERVICE = Annotated[Service, typer.Argument(metavar="SERVICE", help="gateway, proxy, controller, egress or broker.")]


@app.command()
@shared(bots=False, json=False)
def logs(
    call: Call,
    service: _SERVICE = Service.gateway,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many of the newest first.")] = 100,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="With the engine's times.")] = False,
) -> None:
    """Show what a part of a bot logs; name the bot with -i. Where sudo asks for a password over SSH, give -K."""
    flags = [flag for flag, wanted in (("--follow", follow), ("--timestamps", timestamps)) if wanted]
    machine = _machine(call)
    shown = ["docker", "logs", "--tail", str(lines), *flags, container(machine.bot, service.value)]
    cleaner = Cleaner()
    try:
        # Without a terminal there, Ctrl-C ends ssh itself, whatever becomes of the program.
        run_there(machine, shown, terminal=call.options.ask_become_pass is True, show=cleaner.show)
    except CommandFailed as error:
        # Following ends with Ctrl-C; that is how it is meant.
        if not (follow and error.code == ansible.EXIT_INTERRUPTED):
            fail(error, error.code)
    except CoreError as error:
        fail(error)


@app.command()
@shared(bots=False, json=False)
def shell(call: Call, service: _SERVICE = Service.gateway) -> None:
    """Open a shell in a container of a bot, as the user it runs as; name the bot with -i."""
    machine = _machine(call)
    terminal = ["--interactive", "--tty"] if interactive() else ["--interactive"]
    try:
        run_there(machine, ["docker", "exec", *terminal, container(machine.bot, service.value), "sh"], terminal=True)
    except CommandFailed as error:
        fail(error, error.code)
    except CoreError as error:
        fail(error)


def _machine(call: Call) -> Machine:
    bot = one_bot(call)
    try:
        return Machine(bot, ansible.variables_of(bot, call.options))
    except CoreError as error:
        fail(error)


class Cleaner:
    """Shows text of a bot's programs without what would command the terminal: nobody trusts what they print."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def show(self, data: bytes) -> None:
        """Print the next piece, whole characters only."""
        text = self._decoder.decode(data)
        kept = "".join(one if one.isprintable() or one in "\n\t" else "" if one == "\r" else "�" for one in text)
        sys.stdout.write(kept)
        sys.stdout.flush()
