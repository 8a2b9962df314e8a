"""Commands that bring bots up, stop them, lock them, update and remove them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .apart import play_apart
from .parameters import EACH_MACHINE, KEY_FILE, Call, absolute, shared
from .playing import limit_of, play

app = typer.Typer()


@app.command()
@shared(dry=True)
def up(call: Call, each_machine: EACH_MACHINE = False) -> None:
    """Bring bots up, or bring them to what the inventory says (site.yml)."""
    _play("site.yml", call, each_machine)


def _play(playbook: str, call: Call, each_machine: bool, module: str = "") -> NoReturn:
    (play_apart if each_machine else play)(playbook, limit_of(call), call, module=module)


def _add_verb(verb: str, summary: str) -> None:
    """Add a command that runs the playbook of the same name on the bots given."""

    def command(call: Call, each_machine: EACH_MACHINE = False) -> None:
        _play(f"playbooks/{verb}.yml", call, each_machine)

    app.command(verb, help=summary)(shared()(command))


_add_verb("start", "Start bots that were stopped.")
_add_verb("stop", "Stop bots; they stay stopped until started.")
_add_verb("restart", "Restart bots.")


@app.command()
@shared()
def lock(
    call: Call,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever comes next.")] = "",
    machine: Annotated[
        bool, typer.Option("--machine", help="Cut off the whole machine, but loopback and your own SSH.")
    ] = False,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Make a snapshot when everything is dead.")] = False,
    each_machine: EACH_MACHINE = False,
) -> None:
    """Kill switch: cut bots off, kill them, and let nothing start them until 'unlock'."""
    scope = "machine" if machine else "bot"
    call = call.with_vars(lockdown_reason=reason, lockdown_scope=scope, lockdown_snapshot=snapshot)
    _play("playbooks/lockdown.yml", call, each_machine, "clawfactory_lock")


@app.command()
@shared()
def unlock(
    call: Call,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Give gateway, controller and agent new tokens first.")
    ] = False,
    snapshot: Annotated[str | None, typer.Option("--snapshot", metavar="ID", help="Restore it first.")] = None,
    sha: Annotated[
        str | None,
        typer.Option(
            "--sha", metavar="COMMIT", help="Move what is approved to it first; to one approved before with --back."
        ),
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Let --sha go back to a commit that was approved before.")
    ] = False,
    machine: Annotated[bool, typer.Option("--machine", help="Also end the cut of the whole machine.")] = False,
) -> None:
    """End a lock: show who, when and why, then bring the bots back."""
    if back and sha is None:
        raise typer.BadParameter("needs --sha, the commit to go back to", param_hint="--back")
    call = call.with_vars(
        unlock_rotate=rotate,
        unlock_scope="machine" if machine else "bot",
        unlock_snapshot=snapshot,
        unlock_sha=sha,
        unlock_back=back or None,
    )
    play("playbooks/unlock.yml", limit_of(call), call, module="clawfactory_lock")


@app.command()
@shared(dry=True)
def update(
    call: Call,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="OpenClaw's version; default: the inventory's.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="REFERENCE", help="Image to pull, best with @sha256:…")
    ] = None,
    canary: Annotated[int | None, typer.Option("--canary", metavar="N", min=1, help="So many bots first.")] = None,
    serial: Annotated[
        str | None, typer.Option("--serial", metavar="N|N%", help="So many, or such a share, in each step after that.")
    ] = None,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Let a bot get an older version than it runs.")
    ] = False,
    key_file: KEY_FILE = None,
    available: Annotated[bool, typer.Option("--available", help="Only say which versions are newer.")] = False,
) -> None:
    """Update OpenClaw step by step; a bot that fails gets its old image and state back, and the update ends there."""
    if serial is not None and not re.fullmatch(r"[1-9][0-9]*%?", serial):
        raise typer.BadParameter(f"{serial!r} is neither a number nor a share like 20%", param_hint="--serial")
    reference, _, digest = (image or "").partition("@")
    call = call.with_vars(
        gateway_version=version,
        gateway_image_reference=reference,
        gateway_image_digest=digest,
        update_canary=canary,
        update_serial=serial,
        update_allow_downgrade=allow_downgrade or None,
        restore_key_file=absolute(key_file),
    )
    play(f"playbooks/{'available-updates' if available else 'update'}.yml", limit_of(call), call)


@app.command()
@shared()
def remove(
    call: Call,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the bot's data too; needs --yes-delete-data.")] = False,
    yes_delete_data: Annotated[
        bool, typer.Option("--yes-delete-data", help="Confirm --purge: nothing brings the data back.")
    ] = False,
) -> None:
    """Remove bots from their machines; their data stays unless purged. Bots must be named."""
    if not call.named:
        raise typer.BadParameter("name the bots to remove", param_hint="BOT")
    if purge != yes_delete_data:
        raise typer.BadParameter(
            "deleting a bot's data takes both flags: --purge --yes-delete-data", param_hint="--purge"
        )
    if purge and len(call.named) != 1:
        raise typer.BadParameter(f"purge one bot at a time, not {', '.join(call.named)}", param_hint="BOT")
    if purge:
        call = call.with_vars(remove_purge=True, remove_confirm=call.named[0])
    play("playbooks/remove.yml", limit_of(call), call)


@app.command()
@shared()
def proposals(call: Call) -> None:
    """List what is approved of bots, what they propose, and what was promoted."""
    play("playbooks/proposals.yml", limit_of(call), call, module="clawfactory_promotion_info")


@app.command()
@shared(dry=True)
def promote(
    call: Call,
    proposal: Annotated[
        str | None, typer.Option("--proposal", "-p", metavar="NAME", help="Merge this proposal into main first.")
    ] = None,
    sha: Annotated[
        str | None, typer.Option("--sha", metavar="COMMIT", help="This commit; default: the newest of main.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIRECTORY", exists=True, help="What is checked out in this clone."),
    ] = None,
) -> None:
    """Move what is approved of bots to another commit; -C -D shows what would change."""
    branch = None if proposal is None else f"proposal/{proposal.removeprefix('proposal/')}"
    directory = absolute(source)
    call = call.with_vars(promote_branch=branch, promote_sha=sha, promote_from=directory)
    play("playbooks/promote.yml", limit_of(call), call, module="clawfactory_promotion")


@app.command()
@shared(dry=True)
def rollback(
    call: Call,
    sha: Annotated[
        str | None, typer.Option("--sha", metavar="COMMIT", help="This commit; default: the one before.")
    ] = None,
) -> None:
    """Go back to a commit that was approved before."""
    call = call.with_vars(rollback_sha=sha)
    play("playbooks/rollback.yml", limit_of(call), call, module="clawfactory_promotion")
