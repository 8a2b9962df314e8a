"""A deployed bot as its operator has it: addresses, tokens, and a shell in its containers."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; a refusal is one too, not an exception."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        return None


# The operator is on the machine itself; a proxy of the environment has no business there.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def http(
    url: str, *, method: str | None = None, headers: dict[str, str] | None = None, body: bytes | None = None,
    timeout: float = 90,
) -> Answer:  # fmt: skip
    """One HTTP request, redirects not followed.

    :raises OSError: nobody answers.
    """
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310 - ours
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as refusal:
        return Answer(refusal.code, {k.lower(): v for k, v in refusal.headers.items()}, refusal.read())


@dataclass(frozen=True)
class Bot:
    """A bot on this machine.

    :param name: its name.
    :param root: ``clawfactory_root``.
    :param gateway_port: published port of the gateway on 127.0.0.1.
    :param controller_port: published port of the controller on 127.0.0.1.
    :param uid: user id of its gateway.
    """

    name: str
    root: Path
    gateway_port: int = 18789
    controller_port: int = 8080
    uid: int = 20001
    host: str = field(default="127.0.0.1", repr=False)

    @property
    def gateway_url(self) -> str:
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def controller_url(self) -> str:
        return f"http://{self.host}:{self.controller_port}"

    def secret(self, file: str, name: str) -> str:
        """A value from ``gateway.env`` or ``controller.env``."""
        lines = (self.root / "secrets" / self.name / file).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)[name]

    @property
    def token(self) -> str:
        return self.secret("gateway.env", "OPENCLAW_GATEWAY_TOKEN")

    def container(self, part: str) -> str:
        return f"clawfactory-{self.name}-{part}"

    def inspect(self, part: str) -> dict[str, Any]:
        """What the engine says about one of the bot's containers."""
        listed: list[dict[str, Any]] = json.loads(_run("docker", "inspect", self.container(part)).stdout)
        return listed[0]

    def run(self, *command: str, part: str = "gateway", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as the user it runs as; the caller looks at the exit status."""
        return _run("docker", "exec", self.container(part), *command, timeout=timeout, check=False)

    def sh(self, script: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the gateway container: what an attacker who took the gateway over can do."""
        return self.run("sh", "-c", script, timeout=timeout)

    def ask(self, message: str, timeout: float = 120) -> Answer:
        """One turn through the proxy, over the gateway's OpenAI-compatible endpoint."""
        return http(
            f"{self.gateway_url}/v1/chat/completions",
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json"},
            body=json.dumps({"model": "openclaw", "messages": [{"role": "user", "content": message}]}).encode(),
            timeout=timeout,
        )

    def chat(self, message: str) -> str:
        """One turn as :meth:`ask` makes it; the assistant's text.

        :raises AssertionError: the gateway did not answer with a completion.
        """
        answer = self.ask(message)
        assert answer.status == 200, f"{answer.status}: {answer.body.decode(errors='replace')}"
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text


def engine(verb: str, container: str) -> None:
    """Let the engine ``stop``, ``start`` or ``kill`` a container behind the roles' back, as an accident would."""
    _run("docker", verb, container)


def _run(*command: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=check)
