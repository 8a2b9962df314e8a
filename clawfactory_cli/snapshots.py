"""Commands for snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parameters import KEY_FILE, Call, absolute, shared
from .playing import limit_of, play

app = typer.Typer(name="snapshot", help="Encrypted snapshots of bots' state.", no_args_is_help=True)

_NAME = Annotated[str | None, typer.Option("--name", "-n", metavar="ID", help="Another one than the newest.")]


@app.command()
@shared()
def create(
    call: Call,
    label: Annotated[str | None, typer.Option("--label", "-l", metavar="TEXT", help="Start of its name.")] = None,
    full: Annotated[bool, typer.Option("--full", help="A full one, even if an increment would do.")] = False,
) -> None:
    """Make an encrypted snapshot of each bot, running or not, and prune old ones."""
    call = call.with_vars(snapshot_label=label, snapshot_full=full or None)
    play("playbooks/snapshot.yml", limit_of(call), call, module="clawfactory_snapshot")


@app.command("list")
@shared()
def list_snapshots(call: Call) -> None:
    """List the snapshots of each bot; needs no key."""
    play("playbooks/snapshots.yml", limit_of(call), call, module="clawfactory_snapshot_info")


@app.command()
@shared()
def verify(
    call: Call,
    name: _NAME = None,
    content: Annotated[bool, typer.Option("--content", help="Also decrypt it and check files and databases.")] = False,
    key_file: KEY_FILE = None,
) -> None:
    """Compare a snapshot and its chain with their records."""
    how = "content" if content else "digest"
    call = call.with_vars(snapshots_verify=how, snapshots_name=name, snapshots_key_file=absolute(key_file))
    play("playbooks/snapshots.yml", limit_of(call), call, module="clawfactory_snapshot_info")


@app.command()
@shared()
def restore(
    call: Call,
    name: _NAME = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the bot if it runs; without it that is refused.")] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="OTHER", help="The snapshot of another bot of the machine.")
    ] = None,
    key_file: KEY_FILE = None,
    rotate_token: Annotated[bool, typer.Option("--rotate-token", help="Make a new gateway token.")] = False,
    snapshot_first: Annotated[
        bool, typer.Option("--snapshot-first/--no-snapshot-first", help="Make a snapshot of what is replaced.")
    ] = True,
    paths: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATH", help="This file of it only; needs --destination.")
    ] = None,
    destination: Annotated[
        str | None, typer.Option("--destination", metavar="DIRECTORY", help="Where such files go on the machine.")
    ] = None,
    decide: Annotated[
        str | None, typer.Option("--decide", metavar="kept|put_back", help="After a restore that was not finished.")
    ] = None,
) -> None:
    """Restore a bot's state, or single files of it, from a snapshot."""
    if bool(paths) != bool(destination):
        raise typer.BadParameter("single files take both: --path and --destination", param_hint="--path")
    if decide not in (None, "kept", "put_back"):
        raise typer.BadParameter(f"{decide!r} is neither 'kept' nor 'put_back'", param_hint="--decide")
    call = call.with_vars(
        restore_name=name,
        restore_stop=stop or None,
        restore_from=source,
        restore_key_file=absolute(key_file),
        restore_rotate_token=rotate_token or None,
        restore_snapshot_first=None if snapshot_first else False,
        restore_paths=paths or None,
        restore_destination=destination,
        restore_decide=decide,
    )
    play("playbooks/restore.yml", limit_of(call), call, module="clawfactory_restore")


@app.command()
@shared(bots=False)
def keygen(
    call: Call,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is the recipient.")
    ],
) -> None:
    """Make an age key pair on this computer; never overwrites one."""
    call = call.with_vars(keygen_file=absolute(file))
    play("playbooks/keygen.yml", None, call, module="clawfactory_age_key")
