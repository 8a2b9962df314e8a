"""Reads how large an approved tree may be, from the settings that the machine keeps about promotions."""

from __future__ import annotations

import json
from pathlib import Path

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.tree_rules import TreeLimits


def read_tree_limits(promotion: Path) -> TreeLimits:
    """Return the limits that a promotion is held to, so that a push is held to the same.

    :param promotion: directory of what was promoted and denied.
    :returns: the usual ones before role ``promotion`` has settled any.
    :raises CoreError: the settings cannot be read.
    """
    path = promotion / "settings.json"
    try:
        limits = json.loads(path.read_bytes())["limits"]
        return TreeLimits(**{str(name): int(value) for name, value in limits.items()})
    except FileNotFoundError:
        return TreeLimits()
    except OSError as error:
        raise CoreError(f"cannot read {path}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CoreError(f"{path} is not what role 'promotion' writes ({error!r})") from error
