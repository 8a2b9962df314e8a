"""Which versions of OpenClaw there are: asks npm for its channels, or a registry of images for its tags."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from .errors import CoreError, InvalidInput

_SECONDS = 20.0
_MOST_BYTES = 8 << 20
_MOST_PAGES = 50
_IMAGE = re.compile(r"(?:(?P<host>[^/]*[.:][^/]*|localhost)/)?(?P<name>[a-z0-9][a-z0-9._/-]*)(?::[^:/@]+)?(?:@.*)?")
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
_LOCAL = re.compile(r"(localhost|127\.[0-9.]+)(:\d+)?")


def npm_versions(registry: str) -> list[str]:
    """Newest version of each channel of the npm package.

    :param registry: its address, without a slash at the end.
    :raises CoreError: it does not answer, or not as npm does.
    """
    url = f"{registry}/-/package/openclaw/dist-tags"
    answer = _get(url, {})[0]
    if not isinstance(answer, dict) or not all(isinstance(version, str) for version in answer.values()):
        raise CoreError(f"{url} does not answer as npm does")
    return sorted(set(answer.values()))


def image_versions(image: str) -> list[str]:
    """Tags of an image.

    :param image: as for ``docker pull``; its own tag and digest do not matter.
    :raises CoreError: the registry does not answer, or lets nobody see them without a login.
    """
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise InvalidInput(f"'{image}' (gateway_image_reference) is no reference of an image")
    host, name = found["host"] or "registry-1.docker.io", found["name"]
    if found["host"] in (None, "docker.io"):
        host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
    # As the engine does: without TLS on this machine alone.
    base = f"{'http' if _LOCAL.fullmatch(host) else 'https'}://{host}"
    url: str | None = f"{base}/v2/{name}/tags/list?n=1000"
    headers: dict[str, str] = {}
    tags: list[str] = []
    for _ in range(_MOST_PAGES):
        if url is None:
            break
        try:
            answer, link = _get(url, headers)
        except _LoginWanted as wanted:
            if headers:
                raise CoreError(f"{host} shows the tags of {name} to nobody without a login") from None
            headers = {"Authorization": f"Bearer {_token(host, wanted.challenge)}"}
            continue
        tags += answer.get("tags") or [] if isinstance(answer, dict) else []
        url = urllib.parse.urljoin(base, link) if link else None
    return tags


class _LoginWanted(Exception):
    """The registry wants a token first, which it also gives to nobody in particular."""

    def __init__(self, challenge: str) -> None:
        super().__init__(challenge)
        self.challenge = challenge


def _token(host: str, challenge: str) -> str:
    parts = dict(_CHALLENGE.findall(challenge))
    realm = parts.pop("realm", "")
    if not challenge.startswith("Bearer ") or not realm.startswith(("https://", "http://127.")):
        raise CoreError(f"{host} wants a login, and not of a kind that is known here: {challenge[:200]!r}")
    try:
        answer = _get(f"{realm}?{urllib.parse.urlencode(parts)}", {})[0]
    except _LoginWanted:
        raise CoreError(f"{host} gives no token without a login") from None
    token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str):
        raise CoreError(f"{host} gives no token without a login")
    return token


def _get(url: str, headers: Mapping[str, str]) -> tuple[Any, str]:
    """Decoded JSON and, if there is more, where."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - made from https:// above
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - see above
            text = answer.read(_MOST_BYTES)
            link = re.match(r'<([^>]+)>;\s*rel="?next', answer.headers.get("Link") or "")
        return json.loads(text), link[1] if link else ""
    except urllib.error.HTTPError as error:
        with error:
            challenge = error.headers.get("WWW-Authenticate") or ""
            if error.code == 401 and challenge:
                raise _LoginWanted(challenge) from None
            raise CoreError(f"{urllib.parse.urlsplit(url).netloc} answers {error.code} to {url}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CoreError(f"{urllib.parse.urlsplit(url).netloc} cannot be asked: {reason}") from None
