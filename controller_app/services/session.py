"""Who is the operator: the token, and browser sessions derived from it."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Literal

from clawfactory_core.errors import CoreError

from .throttle import LoginThrottle

SESSION_SECONDS = 12 * 60 * 60
_CLOSED_REMEMBERED = 4096
_COOKIE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")

#: How a token was presented. Each is throttled apart, so that a hostile page that makes the operator's browser
#: open wrong ``?token=`` links cannot lock the form.
Channel = Literal["form", "link", "bearer"]

_logger = logging.getLogger(__name__)


class WrongToken(CoreError):
    """The presented token is not the controller's."""

    def __init__(self) -> None:
        super().__init__("That is not this controller's token. Check that it belongs to this bot and try again.")


class TooManyAttempts(CoreError):
    """Too many wrong tokens came from one client.

    :param retry_after: seconds until the next attempt is looked at.
    """

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many wrong tokens. Try again in {retry_after} seconds.")


class SessionService:
    """Checks tokens and keeps browser sessions.

    A session is ``expiry.nonce.signature``; the signing key is derived from the token and the bot's name, so a new
    token ends every session. Only sessions closed before their expiry are kept in memory.

    :param token: the controller's token.
    :param bot: name of the bot.
    :param throttle: slows down guessing.
    :param clock: wall clock in seconds since the epoch.
    """

    def __init__(
        self, *, token: str, bot: str, throttle: LoginThrottle, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = token.encode()
        self._key = hmac.digest(self._token, b"clawfactory controller session\0" + bot.encode(), hashlib.sha256)
        self._throttle = throttle
        self._clock = clock
        self._closed: dict[str, int] = {}
        #: Browsers share cookies between the ports of one host, so the name has to tell the bots apart.
        self.cookie_name = f"clawfactory-{bot}"

    def check_token(self, candidate: str, *, channel: Channel, client: str) -> None:
        """Accept the controller's token and nothing else.

        :param candidate: what was presented, of any content.
        :param client: address of the client as the proxy saw it.
        :raises TooManyAttempts: this client has to wait; the candidate was not looked at.
        :raises WrongToken: the candidate is wrong.
        """
        key = f"{channel} {client}"
        wait = self._throttle.retry_after(key)
        if wait:
            raise TooManyAttempts(wait)
        if not hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self._token):
            self._throttle.record_failure(key)
            _logger.warning("refused a wrong token (%s, client %s)", channel, client)
            raise WrongToken
        self._throttle.forget(key)

    def open(self) -> str:
        """Return the cookie value of a new session that lasts ``SESSION_SECONDS``."""
        claim = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{claim}.{self._sign(claim)}"

    def is_open(self, cookie: str | None) -> bool:
        """Say whether ``cookie``, of any content, is a session of ours that has neither expired nor been closed."""
        match = _COOKIE.fullmatch(cookie or "")
        if match is None:
            return False
        expiry, nonce, signature = match.groups()
        if not hmac.compare_digest(signature, self._sign(f"{expiry}.{nonce}")):
            return False
        return int(expiry) > self._clock() and nonce not in self._closed

    def close(self, cookie: str | None) -> None:
        """End the session, also for whoever copied the cookie; does nothing unless it is open."""
        if cookie is None or not self.is_open(cookie):
            return
        now = self._clock()
        self._closed = {nonce: expiry for nonce, expiry in self._closed.items() if expiry > now}
        while len(self._closed) >= _CLOSED_REMEMBERED:
            del self._closed[next(iter(self._closed))]
        expiry, nonce, _ = cookie.split(".")
        self._closed[nonce] = int(expiry)

    def _sign(self, claim: str) -> str:
        return hmac.new(self._key, claim.encode(), hashlib.sha256).hexdigest()
