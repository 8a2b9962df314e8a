"""Commands about this checkout: any playbook, the tests, the versions."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from clawfactory_core import __version__

from . import ansible
from .output import show_json

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def playbook(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name, with or without .yml.")]
) -> None:
    """Run playbooks/NAME.yml; everything after the name goes to ansible-playbook as it is."""
    path = f"playbooks/{name.removesuffix('.yml')}.yml"
    if not (ansible.REPOSITORY / path).is_file():
        known = ", ".join(sorted(file.stem for file in (ansible.REPOSITORY / "playbooks").glob("*.yml")))
        raise typer.BadParameter(f"there is no {path}; known: {known}", param_hint="NAME")
    # In the environment, so that it stands beside whatever vault options are typed, and none has to be looked for.
    password_file = ansible.AnsibleOptions().password_file()
    variables = {} if password_file is None else {"ANSIBLE_VAULT_PASSWORD_FILE": password_file}
    code, _ = ansible.run([str(ansible.PROGRAMS / "ansible-playbook"), path, *context.args], variables=variables)
    raise typer.Exit(code)


@app.command("test")
def run_tests(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE", help="engine, lint, unit, browser, broker, e2e, images, molecule; default: all."
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what needs no container engine: lint and unit.")] = False,
) -> None:
    """Run the project's tests, one that failed once more; the last line is 'N passed, N failed, N skipped'."""
    arguments = ["--fast"] if fast else []
    command = [sys.executable, "-P", "-m", "tests.runner", *arguments, *(stages or [])]
    os.chdir(ansible.REPOSITORY)
    os.execve(sys.executable, command, ansible.environment())  # noqa: S606 - replaced on purpose: signals reach the runner


@app.command()
def version(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """Show the versions of ClawFactory, Ansible and Python."""
    from importlib.metadata import version as installed  # slow to import, and needed here only

    if as_json:
        versions = {"ansible": installed("ansible"), "ansible_core": installed("ansible-core")}
        show_json({"clawfactory": __version__, **versions, "python": sys.version.split()[0]})
        return
    typer.echo(f"clawfactory {__version__}")
    typer.echo(f"ansible {installed('ansible')} (core {installed('ansible-core')})")
    typer.echo(f"python {sys.version.split()[0]}")
