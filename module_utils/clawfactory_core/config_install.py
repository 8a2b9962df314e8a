"""Putting OpenClaw's configuration in place: validated by the bot's own OpenClaw, the previous one kept.

The directory lies outside the bot's state and is bound read-only, so that the bot cannot rewrite what confines it.
``openclaw.json`` is ours; it includes ``operator.json5``, which is the operator's and never overwritten.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import CoreError, InvalidInput, MissingDependency
from .files import FileSpec, FilesPlan, apply_files, digest, plan_files, write_atomic

MANAGED = "openclaw.json"
OPERATOR = "operator.json5"
KNOWN_GOOD = "known-good"
#: Where the directory with both files is bound in the container that validates them.
VALIDATED_IN = "/etc/openclaw"
#: What that container has in its environment.
VALIDATION_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - inside the throw-away container
    # As the gateway has them: half of the time goes by compiling otherwise.
    "NODE_COMPILE_CACHE": "/opt/clawfactory/compile-cache",
    "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
    "OPENCLAW_CONFIG_PATH": f"{VALIDATED_IN}/{MANAGED}",
    "OPENCLAW_STATE_DIR": "/tmp/state",  # noqa: S108 - inside the throw-away container
}
_EMPTY_OPERATOR = """{
  // Yours. What ClawFactory manages (openclaw.json) wins over this; all the rest of OpenClaw's settings goes here.
}
"""

#: Takes a directory with the candidate files; raises CoreError with OpenClaw's own words when it refuses them.
Validate = Callable[[Path], None]


@dataclass(frozen=True)
class ConfigRequest:
    """:param directory: the bot's ``config``.
    :param content: wanted text of ``openclaw.json``.
    :param gid: group of the gateway, which only reads.
    :param image_id: what validates; part of the key under which a passed validation is remembered.
    :param remembered: directory of remembered validations.
    """

    directory: Path
    content: str
    gid: int
    image_id: str
    remembered: Path


@dataclass
class ConfigPlan:
    """File changes, and what the operator has in their own file."""

    files: FilesPlan
    operator_text: str
    request: ConfigRequest

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return self.files.changed


def plan_config(request: ConfigRequest) -> ConfigPlan:
    """What would be written; reads only.

    :raises InvalidInput: the wanted content is not JSON.
    """
    try:
        json.loads(request.content)
    except ValueError as error:
        raise InvalidInput(f"the rendered openclaw.json is not JSON: {error}") from error
    operator = request.directory / OPERATOR
    text = operator.read_text(encoding="utf-8", errors="replace") if operator.exists() else _EMPTY_OPERATOR
    specs = [
        FileSpec(request.directory, state="directory", owner=0, group=request.gid, mode=0o750),
        FileSpec(operator, content=_EMPTY_OPERATOR, owner=0, group=request.gid, mode=0o640, once=True),
        FileSpec(request.directory / MANAGED, content=request.content, owner=0, group=request.gid, mode=0o640),
    ]
    return ConfigPlan(plan_files(specs), text, request)


def validate_config(plan: ConfigPlan, validate: Validate, *, remember: bool = True) -> None:
    """Validate what is about to be installed; installs nothing.

    :param remember: keep that it passed; without that nothing is left on the machine.
    :raises InvalidInput: OpenClaw refuses the configuration.
    """
    if not plan.changed or _has_passed(plan.request, plan.operator_text):
        return
    if remember:
        _validate_once(plan.request, plan.operator_text, validate)
    else:
        with tempfile.TemporaryDirectory(prefix="clawfactory-config-") as made:
            _validate_in(Path(made) / "config", plan.request, plan.operator_text, validate)


def apply_config(plan: ConfigPlan, validate: Validate) -> None:
    """Validate, keep what was there as known good, install.

    :raises InvalidInput: OpenClaw refuses the configuration; nothing has been changed.
    """
    request = plan.request
    _validate_once(request, plan.operator_text, validate)
    previous = request.directory / MANAGED
    if previous.exists():
        keep_known_good(request.directory)
    apply_files(plan.files)


def has_known_good(directory: Path) -> bool:
    """Whether there is something to put back."""
    return (directory / KNOWN_GOOD / MANAGED).exists()


def restore_known_good(directory: Path, gid: int) -> bool:
    """Put back what was there before the last change.

    :returns: whether there was something to put back.
    """
    kept = directory / KNOWN_GOOD
    if not has_known_good(directory):
        return False
    for name in (OPERATOR, MANAGED):
        write_atomic(directory / name, (kept / name).read_bytes(), mode=0o640, owner=0, group=gid)
    return True


def keep_known_good(directory: Path) -> None:
    """Keep both files as they are now."""
    kept = directory / KNOWN_GOOD
    kept.mkdir(mode=0o750, exist_ok=True)
    for name in (OPERATOR, MANAGED):
        source = directory / name
        write_atomic(kept / name, source.read_bytes() if source.exists() else b"{}\n", mode=0o640, owner=0, group=0)


def _passed(request: ConfigRequest, operator_text: str) -> Path:
    """Mark of what passed: the same bytes and the same OpenClaw give the same answer, and asking costs six seconds."""
    return request.remembered / digest("\0".join((request.image_id, request.content, operator_text)).encode())


def _has_passed(request: ConfigRequest, operator_text: str) -> bool:
    return bool(request.image_id) and _passed(request, operator_text).exists()


def _validate_once(request: ConfigRequest, operator_text: str, validate: Validate) -> None:
    if _has_passed(request, operator_text):
        return
    # Not beside the target: a refused bot leaves no directory behind.
    _validate_in(request.remembered / f".{request.directory.parent.name}", request, operator_text, validate)
    if request.image_id:
        request.remembered.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(_passed(request, operator_text), b"", mode=0o644)


def _validate_in(candidate: Path, request: ConfigRequest, operator_text: str, validate: Validate) -> None:
    """:param candidate: directory to make, and to remove."""
    shutil.rmtree(candidate, ignore_errors=True)
    candidate.mkdir(mode=0o755, parents=True)
    try:
        candidate.chmod(0o755)
        for name, text in ((OPERATOR, operator_text), (MANAGED, request.content)):
            write_atomic(candidate / name, text.encode(), mode=0o644)
        validate(candidate)
    except MissingDependency:
        raise
    except CoreError as error:
        raise InvalidInput(
            f"OpenClaw refuses the configuration, nothing has been changed: {error} "
            f"(correct gateway_config in the inventory or {request.directory / OPERATOR})"
        ) from error
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
