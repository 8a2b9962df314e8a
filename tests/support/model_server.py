#!/usr/bin/env python3
"""An OpenAI-compatible model for tests: its answers are decided by what the user wrote.

No model provider is reachable from a test machine, and no test may depend on what a real model happens to say.

- ``RUN: <command>`` in the last user message: first a call of the tool ``exec`` with that command, and once the
  tool's result is in the conversation, that result as text.
- ``SPAWN: <command>``: a sub-agent (tool ``sessions_spawn``) whose task is to run that command;
  ``SPAWN with a file: <command>`` also gives it a file.
- anything else: ``ECHO: <the message>``.

``GET /requests`` returns what was asked so far (peer address, whether the key was right, headers of proxies on
the way), so that a test can prove which path a request took. Standard library only: it runs in any image with Python.

Usage: ``STANDIN_API_KEY=… model_server.py [--listen ADDRESS] [--port 8000]``
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

MODEL = "parrot"
_RUN = re.compile(r"RUN: *(?P<command>.+)")
_SPAWN = re.compile(r"SPAWN(?P<given> with a file)?: *(?P<command>.+)")
#: What ``SPAWN with a file`` gives the sub-agent.
GIVEN = {"name": "given.txt", "content": "given to the sub-agent"}
_PROXY_HEADERS = ("via", "x-forwarded-for", "forwarded")
_MAX_BODY_BYTES = 32 * 1024 * 1024
# OpenClaw adds messages of its own in the role of the user; what the user wrote stands before them.
_NOT_FROM_USER = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"

Message = dict[str, Any]


def text_of(message: Message) -> str:
    """The plain text of a chat message, whose content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)


def last_from_user(messages: list[Message]) -> int:
    """Index of the last message a user wrote; -1 if there is none."""
    written = (
        i for i, m in enumerate(messages) if m.get("role") == "user" and not text_of(m).startswith(_NOT_FROM_USER)
    )
    return max(written, default=-1)


def answer(messages: list[Message]) -> Message:
    """The assistant message that follows ``messages``: a tool call, the result of one, or an echo."""
    last_user = last_from_user(messages)
    if last_user < 0:
        return {"role": "assistant", "content": "ECHO: "}
    asked = text_of(messages[last_user])
    results = [text_of(m) for m in messages[last_user + 1 :] if m.get("role") == "tool"]
    if results:
        return {"role": "assistant", "content": results[-1]}
    if wanted := _SPAWN.search(asked):
        attachments = {"attachments": [GIVEN]} if wanted["given"] else {}
        return _call("sessions_spawn", {"task": f"RUN: {wanted['command'].strip()}", **attachments}, len(messages))
    if wanted := _RUN.search(asked):
        return _call("exec", {"command": wanted["command"].strip()}, len(messages))
    return {"role": "assistant", "content": f"ECHO: {asked}"}


def _call(tool: str, arguments: dict[str, Any], number: int) -> Message:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def chunks(message: Message) -> Iterator[dict[str, Any]]:
    """``message`` as the deltas of a streamed completion, the last one naming the reason for the end."""
    calls = message.get("tool_calls")
    yield {"role": "assistant", "content": None if calls else ""}
    if calls:
        yield {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]}
    else:
        for word in re.findall(r"\S+\s*|\s+", str(message["content"])):
            yield {"content": word}


class ModelHandler(BaseHTTPRequestHandler):
    """One connection of a model client."""

    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_GET(self) -> None:
        """The model list, the requests seen so far, or health."""
        if self.path == "/health":
            self._json({"status": "ok"})
        elif self.path == "/requests":
            self._json({"requests": self.server.seen})
        elif self.path == "/v1/models":
            self._json({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tests"}]})
        else:
            self._json({"error": {"message": f"no such path: {self.path}"}}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """A chat completion, streamed as server-sent events if the request asks for it."""
        length = int(self.headers.get("content-length") or 0)
        if self.path != "/v1/chat/completions" or not 0 < length <= _MAX_BODY_BYTES:
            self.close_connection = True
            self._json({"error": {"message": "expected a body at /v1/chat/completions"}}, HTTPStatus.BAD_REQUEST)
            return
        request = json.loads(self.rfile.read(length))
        authorized = hmac.compare_digest(self.headers.get("authorization", ""), f"Bearer {self.server.api_key}")
        self._record(request, authorized)
        if not authorized:
            self._json({"error": {"message": "wrong API key"}}, HTTPStatus.UNAUTHORIZED)
            return
        message = answer(request["messages"])
        if request.get("stream"):
            self._stream(message)
        else:
            reason = "tool_calls" if message.get("tool_calls") else "stop"
            self._json(self._completion("chat.completion", {"message": message, "finish_reason": reason}))

    def log_message(self, format: str, *args: Any) -> None:
        """One line a request on stderr, so that the container's log tells what came."""
        sys.stderr.write(f"{self.client_address[0]} {format % args}\n")

    def _record(self, request: dict[str, Any], authorized: bool) -> None:
        last_user = last_from_user(request["messages"])
        self.server.seen.append(
            {
                "peer": self.client_address[0],
                "authorized": authorized,
                "model": request.get("model"),
                "user": text_of(request["messages"][last_user]) if last_user >= 0 else "",
                "tools": [t.get("function", {}).get("name") for t in request.get("tools") or []],
                "proxy_headers": {name: self.headers[name] for name in _PROXY_HEADERS if name in self.headers},
            }
        )

    @staticmethod
    def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": f"chatcmpl-{time.monotonic_ns()}", "object": kind, "created": int(time.time()), "model": MODEL}
        return {**head, "choices": [{"index": 0, **choice}], "usage": usage}

    def _json(self, payload: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, message: Message) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for delta in chunks(message):
            self._event(self._completion("chat.completion.chunk", {"delta": delta, "finish_reason": None}))
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        self._event(self._completion("chat.completion.chunk", {"delta": {}, "finish_reason": reason}))
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, payload: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(payload).encode() + b"\n\n")
        self.wfile.flush()


class ModelServer(ThreadingHTTPServer):
    """The stand-in; ``seen`` holds one record for each completion that was asked."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], api_key: str) -> None:
        if not api_key:
            raise ValueError("STANDIN_API_KEY is empty; the stand-in refuses to run open, like everything else here")
        self.api_key = api_key
        self.seen: list[dict[str, Any]] = []
        super().__init__(address, ModelHandler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which takes ten seconds where there is no DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment] - any address is fine


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with ModelServer((options.listen, options.port), os.environ.get("STANDIN_API_KEY", "")) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
