"""Who is the bot: whoever presents its agent token. The operator's token does not open this door."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging

from .session import TooManyAttempts, WrongToken
from .throttle import LoginThrottle

_logger = logging.getLogger(__name__)


class AgentAccess:
    """Checks the agent token.

    :param token: the agent token.
    :param throttle: slows down guessing.
    """

    def __init__(self, *, token: str, throttle: LoginThrottle) -> None:
        self._token = token.encode()
        self._throttle = throttle

    def check(self, candidate: str, *, client: str) -> None:
        """Accept the agent token and nothing else.

        :param candidate: what was presented, of any content.
        :param client: address of the client.
        :raises TooManyAttempts: this client has to wait; the candidate was not looked at.
        :raises WrongToken: the candidate is wrong.
        """
        wait = self._throttle.retry_after(client)
        if wait:
            raise TooManyAttempts(wait)
        if not hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self._token):
            self._throttle.record_failure(client)
            _logger.warning("refused a wrong agent token (client %s)", client)
            raise WrongToken
        self._throttle.forget(client)


def presented_token(authorization: str, *, basic: bool) -> str | None:
    """The token in an ``Authorization`` header of any content, ``None`` if it has none.

    :param basic: also take the password of ``Basic``, whatever its user is: that is how git sends one.
    """
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if not basic or scheme.lower() != "basic":
        return None
    try:
        login = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""  # it was meant as one
    return login.partition(":")[2]
