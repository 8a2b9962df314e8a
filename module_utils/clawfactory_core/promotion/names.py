"""Names that a bot gives to its proposals, and names of commits."""

from __future__ import annotations

import re

from ..errors import InvalidInput

PROPOSAL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
SHA = re.compile(r"[0-9a-f]{40}")
#: Where a bot pushes to, in ``proposals.git``.
PREFIX = "refs/heads/proposal/"
#: Where the machine keeps what it has fetched of them, in ``origin.git``.
FETCHED = "refs/proposals/"


def check_proposal_name(name: str) -> str:
    """``name`` without the ``proposal/`` that people write before it.

    :raises InvalidInput: it is no name of a proposal.
    """
    short = name.removeprefix("proposal/")
    if not PROPOSAL_NAME.fullmatch(short):
        raise InvalidInput(
            f"proposal name {name!r} is not valid; use 1 to 64 lower-case letters, digits and inner dashes, "
            "as in 'proposal/new-skill'"
        )
    return short


def check_sha(sha: str) -> str:
    """:raises InvalidInput: ``sha`` is not the full name of a commit."""
    if not SHA.fullmatch(sha):
        raise InvalidInput(f"commit {sha!r} is not valid; give all 40 hexadecimal digits, in lower case")
    return sha


def proposal_of(reference: str, prefix: str = PREFIX) -> str | None:
    """Name of the proposal that a full reference stands for, ``None`` if it stands for none.

    :param reference: for example ``refs/heads/proposal/new-skill``.
    """
    name = reference.removeprefix(prefix)
    return name if name != reference and PROPOSAL_NAME.fullmatch(name) else None
