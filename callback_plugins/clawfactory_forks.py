"""Spares the processes that Ansible forks, one for every task and bot, what another has done."""

from __future__ import annotations

import functools
import gc
import hashlib
import marshal
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2
from ansible import constants
from ansible.playbook.play import Play
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible.utils.display import Display

DOCUMENTATION = """
name: clawfactory_forks
type: aggregate
short_description: Less work for the processes that Ansible forks
description:
  - Ansible forks a process for every task and host, which forgets all it made. Python's garbage collector would go
    there through everything that was loaded before, and by that copy its memory, page for page.
  - Each would compile every template that it comes to. What became of those of this project's playbooks and roles is
    kept in C(clawfactory-templates) below C(ANSIBLE_HOME), which holds nothing of an inventory.
  - Within a template of these, Ansible works out a variable again for each variable that names it. Here it does so once
    until that template is done; a list that one of them alters in place is altered for those after it.
  - The latter two reach into ansible-core. Only the versions that they were made for get them.
  - Says nothing.
"""

PROJECT = Path(__file__).resolve().parent.parent
#: Whose private parts are as this plugin knows them.
KNOWN = "2.19."
#: What an encrypted file begins with.
VAULT = b"$ANSIBLE_VAULT"
#: Folders of other versions are removed when nobody used them for as long; seconds.
OLD = 30 * 86400


@functools.cache
def is_own(path: str | None) -> bool:
    """Whether a file is of this project's playbooks and roles, and no vault: what is not may hold secrets."""
    if path is None or not path.startswith((f"{PROJECT}/roles/", f"{PROJECT}/playbooks/")):
        return False
    if "/group_vars/" in path or "/host_vars/" in path:
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(VAULT)) != VAULT
    except OSError:
        return False


class CompiledTemplates:
    """The code that Jinja made of templates, in files of which each begins with the digest of the rest.

    :param folder: made if it is missing. One that is not this user's alone is not used: what lies there is executed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._code, self._usable = folder, dict[str, CodeType](), False
        try:
            if not os.path.lexists(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _remove_old(folder)
            state = folder.lstat()
            self._usable = (
                stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not stat.S_IMODE(state.st_mode) & 0o077
            )
            for path in folder.iterdir() if self._usable else ():
                if code := _read(path):
                    self._code[path.name] = code
            if self._usable:
                os.utime(folder)
        except OSError as error:
            # Of an execution environment the home may be read-only: then each run compiles for itself.
            Display().vv(f"templates are not kept: {error}")
            self._usable = False

    def get(self, key: str) -> CodeType | None:
        """What is kept for a template."""
        return self._code.get(key)

    def keep(self, key: str, code: CodeType) -> None:
        """For this process, and for the next run."""
        self._code[key] = code
        if not self._usable:
            return
        text, unfinished = marshal.dumps(code), self._folder / f".{key}.{os.getpid()}"
        try:
            unfinished.write_bytes(hashlib.sha256(text).digest() + text)
            unfinished.rename(self._folder / key)
        except OSError as error:
            Display().vv(f"a template is not kept: {error}")


def _read(path: Path) -> CodeType | None:
    """The code in such a file; None for one that was not written to its end."""
    try:
        content = b"" if path.name.startswith(".") else path.read_bytes()
    except OSError:
        # Removed meanwhile, or nothing of ours.
        return None
    digest, text = content[:32], content[32:]
    if hashlib.sha256(text).digest() != digest:
        return None
    # As Python does with its own in __pycache__; nobody else can write here.
    code: CodeType = marshal.loads(text)  # noqa: S302
    return code


def _remove_old(folder: Path) -> None:
    for other in folder.parent.iterdir():
        if other.lstat().st_mtime < time.time() - OLD:
            # It may be in use, or gone; the next version tries again.
            shutil.rmtree(other, ignore_errors=True)


def folder_of(home: Path) -> Path:
    """Where they are kept: of other versions and other filters Jinja may make other code."""
    total = hashlib.sha256(f"{ansible_version} {jinja2.__version__} {sys.implementation.cache_tag}".encode())
    for path in sorted((PROJECT / "filter_plugins").glob("clawfactory_*.py")):
        total.update(path.read_bytes())
    return home / "clawfactory-templates" / total.hexdigest()[:16]


def keep_compiled_templates(kept: CompiledTemplates) -> None:
    """Have Ansible look there before it compiles a template of this project.

    :raises ImportError: this ansible-core is made otherwise.
    """
    from ansible._internal._datatag._tags import Origin
    from ansible._internal._templating._jinja_bits import (
        _TEMPLATE_OVERRIDE_FIELD_NAMES,
        AnsibleEnvironment,
        _TemplateCompileContext,
        _TemplateConfig,
    )

    compile_template = AnsibleEnvironment.compile

    def compile_or_get(self: AnsibleEnvironment, source: Any, *args: Any, **kwargs: Any) -> Any:
        origin = Origin.get_tag(source) if isinstance(source, str) and not args and not kwargs else None
        if origin is None or not is_own(origin.path):
            return compile_template(self, source, *args, **kwargs)
        context = _TemplateCompileContext.current(optional=True)
        options = [
            bool(context and context.escape_backslashes),
            _TemplateConfig.allow_embedded_templates,
            _TemplateConfig.jinja_extensions,
            *(getattr(self, name) for name in _TEMPLATE_OVERRIDE_FIELD_NAMES),
        ]
        key = hashlib.sha256(repr((str(source), options)).encode()).hexdigest()
        code = kept.get(key)
        if code is None:
            code = compile_template(self, source)
            kept.keep(key, code)
        return code

    AnsibleEnvironment.compile = compile_or_get
    # Made when it is first asked for, and then for all that come after.
    AnsibleEnvironment().lexer  # noqa: B018


def render_variables_once() -> None:
    """Have Ansible keep what it worked out of a variable until the outermost template is done, where that is our own.

    :raises ImportError: this ansible-core is made otherwise.
    """
    from ansible._internal._datatag._tags import Origin
    from ansible._internal._templating import _jinja_bits
    from ansible._internal._templating._utils import TemplateContext

    layers_of = _jinja_bits._flatten_and_lazify_vars

    def layers_kept(variables: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        context = outermost = TemplateContext.current(optional=True)
        while outermost and outermost._parent_ctx:
            outermost = outermost._parent_ctx
        # Those that the outermost template was given, and not a loop's within it or another host's. A lookup has an
        # engine of its own for the same ones; one that takes what is undefined for something else is left alone.
        shared = (
            outermost is not None
            and variables is outermost.templar.available_variables
            and context.templar.marker_behavior is outermost.templar.marker_behavior
            and (origin := Origin.get_tag(outermost.template_value)) is not None
            and is_own(origin.path)
        )
        if not shared:
            yield from layers_of(variables)
            return
        if not hasattr(outermost, "clawfactory_layers"):
            outermost.clawfactory_layers = [*layers_of(variables)]
        yield from outermost.clawfactory_layers

    _jinja_bits._flatten_and_lazify_vars = layers_kept


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible-core has no type information
    """Ansible's entry point."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clawfactory_forks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        if ansible_version.startswith(KNOWN):
            keep_compiled_templates(CompiledTemplates(folder_of(Path(constants.ANSIBLE_HOME))))
            render_variables_once()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Inventory, playbook and roles are loaded by now, and stay until the end (https://docs.python.org/3/library/gc.html#gc.freeze)."""
        gc.freeze()
