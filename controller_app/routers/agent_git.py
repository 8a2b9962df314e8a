"""The bot's repository over git's smart HTTP."""

from __future__ import annotations

import asyncio
import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..dependencies_agent import GitServerDep, require_agent_or_login
from ..services.git_server import GitServer, GitServiceName

_LARGEST_FETCH = 1 << 20  # bytes: what a client has and wants, forty bytes a commit
_SHA = "3f786850e387550fdab836ed7e6dc881de23001b"  # in examples
_HEADERS = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}

_BINARY = {"type": "string", "format": "binary"}
_WAYS: list[dict[str, list[str]]] = [{"agent": []}, {"login": []}]

router = APIRouter(prefix="/agent/repository.git", dependencies=[Depends(require_agent_or_login)])


def _described(service: GitServiceName, example: str) -> dict[str, Any]:
    """What OpenAPI can say about a body that is in git's own form (gitprotocol-http(5))."""
    content = {f"application/x-{service}-request": {"schema": _BINARY, "example": example}}
    return {"security": _WAYS, "requestBody": {"required": True, "content": content}}


def _result(description: str, **examples: str) -> dict[int | str, dict[str, Any]]:
    content = {f"application/x-{name}": {"schema": _BINARY, "example": text} for name, text in examples.items()}
    return {200: {"description": description, "content": content}}


@router.get(
    "/info/refs",
    response_class=Response,
    openapi_extra={"security": _WAYS},
    responses=_result(
        "References in git's own form.",
        **{
            "git-upload-pack-advertisement": f"001e# service=git-upload-pack\n0000003d{_SHA} refs/heads/main\n0000",
            "git-receive-pack-advertisement": f"001f# service=git-receive-pack\n0000003d{_SHA} refs/heads/main\n0000",
        },
    ),
)
async def read_refs(git: GitServerDep, service: Annotated[GitServiceName, Query()]) -> Response:
    """Return what there is to fetch, or to push to."""
    content = await git.advertise(service)
    return Response(content, media_type=f"application/x-{service}-advertisement", headers=_HEADERS)


@router.post(
    "/git-upload-pack",
    response_class=Response,
    openapi_extra=_described("git-upload-pack", f"0032want {_SHA}\n00000009done\n"),
    responses=_result("A pack, as git reads it.", **{"git-upload-pack-result": "0008NAK\nPACK…"}),
)
async def fetch(request: Request, git: GitServerDep) -> Response:
    """Send objects."""
    _require_type(request, "git-upload-pack")
    body = await _read_body(request, _LARGEST_FETCH)
    return _FetchResponse(git, body)


@router.post(
    "/git-receive-pack",
    response_class=Response,
    openapi_extra=_described(
        "git-receive-pack", f"0077{'0' * 40} {_SHA} refs/heads/proposal/kinder\x00report-status\n0000PACK…"
    ),
    responses=_result(
        "Git's report: what was taken, or why not.",
        **{"git-receive-pack-result": "000eunpack ok\n0023ok refs/heads/proposal/kinder\n0000"},
    ),
)
async def push(request: Request, git: GitServerDep) -> Response:
    """Take a proposal, or say in git's own words why not."""
    _require_type(request, "git-receive-pack")
    async with git.push_turn():
        try:
            async with asyncio.timeout(git.seconds):
                body = await _read_body(request, git.largest_push)
        except TimeoutError:
            raise HTTPException(408, "The push did not arrive in time.") from None
        report = await git.push(body)
    return Response(report, media_type="application/x-git-receive-pack-result", headers=_HEADERS)


class _FetchResponse(Response):
    """Streams what git sends. A failure before the first byte is a problem document, a later one cuts the answer short.

    :param body: of the request.
    """

    media_type = "application/x-git-upload-pack-result"

    def __init__(self, git: GitServer, body: bytes) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._git = git
        self._request = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        started = False

        async def write(chunk: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        await self._git.fetch(self._request, write)
        await write(b"")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _require_type(request: Request, service: GitServiceName) -> None:
    if request.headers.get("content-type") != f"application/x-{service}-request":
        raise HTTPException(415, f"Send application/x-{service}-request, as git does.")


async def _read_body(request: Request, largest: int) -> bytes:
    """The body, unpacked if it was packed.

    :param largest: bytes, unpacked.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise HTTPException(415, "Send the body as it is, or with Content-Encoding: gzip.")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=31)
    body = bytearray()
    try:
        async for chunk in request.stream():
            # One byte more than allowed tells that there is more; the rest of a bomb stays packed.
            body += unpack.decompress(chunk, largest + 1 - len(body)) if unpack else chunk
            # zlib copies what follows the end with every chunk, and no limit counts it.
            if unpack and unpack.unused_data:
                raise HTTPException(400, "Something follows the end of the gzip body.")
            if len(body) > largest:
                raise HTTPException(413, f"A push or fetch may have {largest} bytes at most; push less at once.")
    except zlib.error:
        raise HTTPException(400, "The body is not gzip.") from None
    if unpack and not unpack.eof:
        raise HTTPException(400, "The gzip body is cut short.")
    return bytes(body)
