"""Ways out of the machine for alerts: a webhook, and the machine's own mail program."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from ..errors import CoreError

_SECONDS = 20.0
SENDMAIL = "/usr/sbin/sendmail"


def post_webhook(url: str, message: Mapping[str, Any]) -> None:
    """POST a message as JSON.

    :param url: secret; it is in no error.
    :raises CoreError: nobody took it.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "clawfactory"}
    request = urllib.request.Request(  # noqa: S310 - the role takes http and https alone
        url, json.dumps(message).encode(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - see above
            pass
    except urllib.error.HTTPError as error:
        with error:
            raise CoreError(f"the webhook (alerts_webhook) answers {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        raise CoreError(f"the webhook (alerts_webhook) cannot be reached: {reason or type(error).__name__}") from None


def send_mail(address: str, message: Mapping[str, Any], program: str = SENDMAIL) -> None:
    """Hand a message to the machine's mail program.

    :raises CoreError: there is none, or it refuses.
    """
    mail = EmailMessage()
    mail["To"] = address
    mail["Subject"] = f"ClawFactory: {message['bot']} on {message['machine']}"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([message["text"], "", *(f"{k}: {v}" for k, v in message["problems"].items())]))
    try:
        subprocess.run([program, "-t", "-i"], input=mail.as_bytes(), check=True, capture_output=True, timeout=_SECONDS)
    except FileNotFoundError:
        raise CoreError(f"{program} is not on this machine; install a mail program, or empty alerts_mail") from None
    except subprocess.SubprocessError as error:
        raise CoreError(f"{program} did not take the mail to {address}: {error}") from None
