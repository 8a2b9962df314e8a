"""HTTP as an attacker writes it: exact bytes to an address, from the machine or from inside a container."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from .bots import Bot

# Sends everything at once and collects what comes back until the other side closes or four seconds are over.
_CLIENT = """
const net = require("net");
const [host, port, requests] = JSON.parse(process.argv[1]);
const send = (data) => new Promise((done) => {
  let answer = Buffer.alloc(0);
  const end = () => { socket.destroy(); done(answer.toString("base64")); };
  const socket = net.connect(port, host, () => socket.write(Buffer.from(data, "base64")));
  socket.setTimeout(4000, end).on("data", (part) => { answer = Buffer.concat([answer, part]); });
  socket.on("error", end).on("end", end);
});
(async () => {
  const answers = {};
  await Promise.all(Object.entries(requests).map(async ([name, data]) => { answers[name] = await send(data); }));
  console.log(JSON.stringify(answers));
})();
"""


@dataclass(frozen=True)
class RawAnswer:
    """What came back, undecoded; nothing at all if nobody answered."""

    text: str

    @property
    def statuses(self) -> list[int]:
        """The status of every answer on the connection, in order; one may follow a body without a line break."""
        return [int(code) for code in re.findall(r"HTTP/1\.[01] (\d{3})\b", self.text)]

    @property
    def status(self) -> int:
        """The first status; 0 if there is none."""
        return self.statuses[0] if self.statuses else 0


def request(target: str, *headers: str, method: str = "GET", host: str = "x") -> str:
    """A request whose target and headers are taken as they are."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
    return "\r\n".join(lines) + "\r\n\r\n"


def tunnel(target: str, path: str = "/health") -> str:
    """A CONNECT, and a request that goes through the tunnel if there is one."""
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n" + request(path)


def send_from(bot: Bot, host: str, port: int, requests: Mapping[str, str]) -> dict[str, RawAnswer]:
    """Send every request on a connection of its own from the bot's gateway container, all at the same time."""
    encoded = {name: base64.b64encode(text.encode("latin-1")).decode() for name, text in requests.items()}
    done = bot.run("node", "-e", _CLIENT, json.dumps([host, port, encoded]), timeout=60)
    assert done.returncode == 0, done.stderr
    answers: dict[str, str] = json.loads(done.stdout)
    return {name: RawAnswer(base64.b64decode(answer).decode("latin-1")) for name, answer in answers.items()}


def send(host: str, port: int, text: str, timeout: float = 5) -> RawAnswer:
    """Send one request from the machine."""
    received = b""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(text.encode("latin-1"))
        try:
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionResetError):
            pass  # what has come so far is the answer: some servers keep an answered connection open
    return RawAnswer(received.decode("latin-1"))
