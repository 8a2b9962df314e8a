"""Spares the processes that Ansible forks, one for every task and bot, what another has done."""

from __future__ import annotations

import gc
import hashlib
import marshal
import os
import shutil
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
  - Each would compile every template that it comes to. What became of those of this project's own files is kept below
    C(ANSIBLE_HOME), which holds nothing of an inventory.
  - Within one template, Ansible works out a variable as often as others name it. Here it does so once.
  - The latter two reach into ansible-core. Where it is made otherwise, they are left out.
  - Says nothing.
"""

PROJECT = Path(__file__).resolve().parent.parent
#: Folders of other versions are removed when nothing was added to them for as long; seconds.
OLD = 30 * 86400


class CompiledTemplates:
    """The code that Jinja made of templates, in files of which each begins with the digest of the rest.

    :param folder: made if it is missing. One that is not this user's alone is not used: what lies there is executed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._code, self._usable = folder, dict[str, CodeType](), False
        try:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True)
                _remove_old(folder)
            state = folder.lstat()
            self._usable = folder.is_dir() and state.st_uid == os.geteuid() and not state.st_mode & 0o022
            for path in folder.iterdir() if self._usable else ():
                if code := _read(path):
                    self._code[path.name] = code
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
    if path.name.startswith("."):
        return None
    content = path.read_bytes()
    digest, text = content[:32], content[32:]
    if hashlib.sha256(text).digest() != digest:
        return None
    # As Python does with its own in __pycache__; nobody else can write here.
    code: CodeType = marshal.loads(text)  # noqa: S302
    return code


def _remove_old(folder: Path) -> None:
    for other in folder.parent.iterdir():
        if other.stat().st_mtime < time.time() - OLD:
            shutil.rmtree(other)


def folder_of(home: Path) -> Path:
    """Where they are kept: of other versions and other filters Jinja may make other code."""
    total = hashlib.sha256(f"{ansible_version} {jinja2.__version__} {sys.implementation.cache_tag}".encode())
    for path in sorted((PROJECT / "filter_plugins").glob("*.py")):
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
    )

    compile_template = AnsibleEnvironment.compile
    own = f"{PROJECT}/"

    def compile_or_get(self: AnsibleEnvironment, source: Any, *args: Any, **kwargs: Any) -> Any:
        # A template of an inventory can hold a secret, and what is rendered has no origin.
        origin = Origin.get_tag(source) if isinstance(source, str) and not args and not kwargs else None
        if origin is None or not (origin.path or "").startswith(own):
            return compile_template(self, source, *args, **kwargs)
        context = _TemplateCompileContext.current(optional=True)
        options = [getattr(self, name) for name in _TEMPLATE_OVERRIDE_FIELD_NAMES]
        asked = repr((str(source), bool(context and context.escape_backslashes), options))
        key = hashlib.sha256(asked.encode()).hexdigest()
        code = kept.get(key)
        if code is None:
            code = compile_template(self, source)
            kept.keep(key, code)
        return code

    AnsibleEnvironment.compile = compile_or_get
    # Made when it is first asked for, and then for all that come after.
    AnsibleEnvironment().lexer  # noqa: B018


def render_variables_once() -> None:
    """Have Ansible keep what it worked out of a variable until the outermost template is done.

    :raises ImportError: this ansible-core is made otherwise.
    """
    from ansible._internal._templating import _jinja_bits
    from ansible._internal._templating._utils import TemplateContext

    layers_of = _jinja_bits._flatten_and_lazify_vars

    def layers_kept(variables: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        context = TemplateContext.current(optional=True)
        # Only what all templates are given, and not the variables of a loop, which are others at every turn.
        if not variables or context is None or variables is not context.templar.available_variables:
            yield from layers_of(variables)
            return
        templar = context.templar
        while context._parent_ctx:
            context = context._parent_ctx
        # With the objects themselves: an id is given to the next once its object is gone.
        kept = context.__dict__.setdefault("_clawfactory_layers", {})
        key = (id(variables), id(templar))
        if key not in kept:
            kept[key] = ([*layers_of(variables)], variables, templar)
        yield from kept[key][0]

    _jinja_bits._flatten_and_lazify_vars = layers_kept


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible-core has no type information
    """Ansible's entry point."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clawfactory_forks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        try:
            keep_compiled_templates(CompiledTemplates(folder_of(Path(constants.ANSIBLE_HOME))))
            render_variables_once()
        except (ImportError, AttributeError) as error:
            Display().vv(f"clawfactory_forks does less with this ansible-core: {error}")

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Inventory, playbook and roles are loaded by now, and stay until the end (https://docs.python.org/3/library/gc.html#gc.freeze)."""
        gc.freeze()
