"""The bot's repository elsewhere, reached through egress by HTTP or SSH.

A token travels in the environment of git alone; a key stays in its file, which ssh reads.
"""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from clawfactory_core.promotion.ssh import explain, is_ssh, parse_ssh, ssh_command

from .git_process import GitCommand, GitFailed, run_git

_SECONDS = 120.0
_TUNNEL = Path(__file__).resolve().parents[1] / "tunnel.py"
_LS_REMOTE = re.compile(r"([0-9a-f]{40})\trefs/heads/\S+")


@dataclass(frozen=True)
class GitRemote:
    """One remote.

    :param url: http, https or SSH, without a login.
    :param user: name that goes with the token.
    :param token: empty logs in nowhere.
    :param proxy: ``http://host:port`` of egress, empty goes directly.
    :param directory: any repository; git runs there.
    :param keys: directory of what ssh needs.
    """

    url: str
    user: str
    token: str = field(repr=False)
    proxy: str
    directory: Path
    keys: Path = Path("/run/remote")

    async def read_branch(self, branch: str) -> str | None:
        """Return the commit that ``branch`` is at there, ``None`` if there is no such branch.

        :raises GitFailed: the remote cannot be asked.
        """
        output = await self._run("ls-remote", "--refs", "--", self.url, f"refs/heads/{branch}")
        match = _LS_REMOTE.fullmatch(output.decode("utf-8", "replace").strip())
        return match[1] if match else None

    async def push(self, commit: str, branch: str) -> None:
        """Let ``branch`` there be at ``commit``, forward only; done already is done.

        :raises GitFailed: the remote refuses or cannot be reached.
        """
        await self._run("push", "--porcelain", "--no-verify", "--", self.url, f"{commit}:refs/heads/{branch}")

    async def _run(self, *arguments: str) -> bytes:
        over_ssh = is_ssh(self.url)
        settings = self._ssh_settings() if over_ssh else self._http_settings()
        try:
            return await run_git(GitCommand(arguments, self.directory, settings), seconds=_SECONDS)
        except GitFailed as error:
            hidden = error.detail.replace(self.token, "***") if self.token else error.detail
            advice = explain(self.url, self.keys, hidden) if over_ssh else ""
            raise GitFailed(arguments[0], f"{advice} ({hidden})" if advice else hidden) from None

    def _http_settings(self) -> list[tuple[str, str]]:
        settings = [
            ("protocol.https.allow", "always"),
            ("protocol.http.allow", "always"),
            ("http.followRedirects", "false"),  # it would take the login elsewhere
            ("http.lowSpeedLimit", "100"),
            ("http.lowSpeedTime", "30"),
            ("http.proxy", self.proxy),
            ("push.recurseSubmodules", "no"),
        ]
        if self.token:
            login = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
            settings.append(("http.extraHeader", f"Authorization: Basic {login}"))
        return settings

    def _ssh_settings(self) -> list[tuple[str, str]]:
        address = parse_ssh(self.url)
        tunnel = [sys.executable, "-I", str(_TUNNEL), self.proxy, address.host, str(address.port)] if self.proxy else []
        return [
            ("protocol.ssh.allow", "always"),
            ("core.sshCommand", ssh_command(self.keys, tunnel)),
            ("ssh.variant", "ssh"),  # git would try the command out to find whose options it knows
            ("push.recurseSubmodules", "no"),
        ]
