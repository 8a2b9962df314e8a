"""How the broker says no."""

from __future__ import annotations


class Refused(Exception):
    """A call that is not made.

    :param status: HTTP status of the answer, 400 to 499.
    :param reason: short and constant text for the client and the audit log. It holds no secret and nothing of the
        request beyond short tokens that were validated.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")
