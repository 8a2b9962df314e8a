"""A bot's state directory, and the controller's agent API beside it, for the proposal forwarder and the bot's skill."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_api import TOKEN, AgentApi

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "roles" / "gateway" / "files" / "image" / "clawfactory"
SKILL = ROOT / "bot_template" / "workspace" / "skills" / "propose-change"
SOUL = "# Who you are\n"


class Gateway:
    """The forwarder's side of a bot: a home directory, and runs of the forwarder in it.

    :param home: an empty directory.
    :param url: of the agent API.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url
        self.scratch = home / "scratch"
        self.workspace = home / ".openclaw" / "workspace"
        self.proposals = self.workspace / "proposals"
        self.scratch.mkdir(parents=True)
        self.workspace.mkdir(parents=True)
        shutil.copytree(SKILL, self.workspace / "skills" / "propose-change")

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.scratch), "CLAWFACTORY_BOT": "bot1",
            "CLAWFACTORY_AGENT_URL": self.url, **changes,
        }  # fmt: skip

    def forward(self, **changes: str) -> subprocess.CompletedProcess[str]:
        """One run of the forwarder."""
        command = ["node", str(IMAGE / "lib" / "forward-proposals.mjs")]
        environment = self.environment(**{"CLAWFACTORY_AGENT_TOKEN": TOKEN, **changes})
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def propose(self, *arguments: str, script: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The bot's skill, as a tool runs it."""
        command = ["sh", str(script or "skills/propose-change/propose.sh"), *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        return subprocess.run(
            command, cwd=self.workspace, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def answer(self, name: str) -> str:
        return (self.proposals / "answers" / f"{name}.txt").read_text()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[AgentApi]:
    (tmp_path / "api").mkdir()
    with AgentApi(tmp_path / "api", {"workspace/SOUL.md": SOUL, "workspace/tools/hello": "echo hello\n"}) as found:
        yield found


@pytest.fixture
def gateway(api: AgentApi, tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "home", api.url)
