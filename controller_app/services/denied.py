"""Reads which proposals the operator has denied, from the files that the host keeps about them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.names import PROPOSAL_NAME

_LARGEST = 64 * 1024  # bytes


def read_denied(promotion: Path) -> dict[str, str]:
    """Names of denied proposals, to the reason.

    :param promotion: directory of what was promoted and denied.
    :raises CoreError: a record cannot be read; then nobody knows what is denied.
    """
    directory = promotion / "denied"
    try:
        # Not glob(), which takes a directory that cannot be read for an empty one.
        names = [name.removesuffix(".json") for name in os.listdir(directory) if name.endswith(".json")]
        return {name: _reason(directory / f"{name}.json") for name in names if PROPOSAL_NAME.fullmatch(name)}
    except FileNotFoundError:
        return {}  # nothing was denied yet, or reopened just now
    except OSError as error:
        raise CoreError(f"cannot read {error.filename}: {error.strerror}") from error


def _reason(path: Path) -> str:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_LARGEST))
        return str(record["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise CoreError(f"{path} is not the record of a denial ({error!r})") from error
