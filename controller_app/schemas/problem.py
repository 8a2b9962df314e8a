"""Problem documents (RFC 9457): the one form of every refusal of the API."""

from __future__ import annotations

from pydantic import BaseModel


class ProblemField(BaseModel):
    """One refused input; its value is not repeated, it may be a secret."""

    location: str
    message: str


class Problem(BaseModel):
    """What went wrong and what to do about it.

    ``type`` is ``about:blank``: the status code tells the kind, ``detail`` the case.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemField] | None = None
