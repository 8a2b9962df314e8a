"""A stand-in for ``cloudflared``: reads a configuration as its documentation describes it; tells which rule matches."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_KEYS = {"tunnel", "no-autoupdate", "metrics", "ingress"}
_RULE_KEYS = {"hostname", "path", "service", "originRequest"}


def read_rules(text: str) -> list[dict[str, Any]]:
    """The ingress rules.

    :raises ValueError: ``cloudflared tunnel ingress validate`` would refuse them.
    """
    config = yaml.safe_load(text)
    if set(config) - _KEYS:
        raise ValueError(f"unknown keys {set(config) - _KEYS}")
    rules: list[dict[str, Any]] = config["ingress"]
    for number, rule in enumerate(rules, start=1):
        if set(rule) - _RULE_KEYS:
            raise ValueError(f"Rule #{number} has unknown keys")
        service = urlsplit(rule["service"])
        if not rule["service"].startswith("http_status:") and (not service.hostname or service.path):
            raise ValueError(f"{rule['service']} is an invalid address, ingress rules don't support proxying to a path")
        if ":" in rule.get("hostname", "") or "*" in rule.get("hostname", "")[1:]:
            raise ValueError("Hostname cannot contain a port")
        re.compile(rule.get("path", ""))
        if ("hostname" in rule or "path" in rule) is (number == len(rules)):
            raise ValueError("The last ingress rule must match all URLs, and no other")
    return rules


def matching(rules: list[dict[str, Any]], hostname: str, path: str) -> dict[str, Any]:
    """The first rule that matches: the whole name, and the pattern anywhere in the path."""
    return next(
        rule for rule in rules if rule.get("hostname", hostname) == hostname and re.search(rule.get("path", ""), path)
    )


def main(arguments: list[str]) -> int:
    """``cloudflared tunnel --config FILE ingress validate``; with another order it prints its usage and ends with 0."""
    if arguments[:2] != ["tunnel", "--config"] or arguments[3:] != ["ingress", "validate"]:
        sys.stdout.write("Incorrect Usage: flag provided but not defined: -config\n")
        return 0
    sys.stdout.write(f"Validating rules from {arguments[2]}\n")
    try:
        read_rules(Path(arguments[2]).read_text())
    except (ValueError, re.error) as error:
        sys.stderr.write(f"Validation failed: {error}\n")
        return 1
    sys.stdout.write("OK\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
