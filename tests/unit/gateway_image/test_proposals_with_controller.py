"""The bot's skill, the forwarder and the real controller together, each on its own side of the network."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from clawfactory_core.promotion.secret_rules import make_fingerprints
from controller_app.agent import create_agent_app
from controller_app.config import Secrets, Settings
from controller_app.dependencies import get_app_services
from controller_app.main import create_app
from tests.support.agent_api import TOKEN
from tests.support.agent_server import serving
from tests.support.git_repositories import Repositories, git, make_repositories
from tests.support.jobs_server import JobsServer

from .conftest import SOUL, Gateway

SECRET = "hunter2-is-the-key-of-the-gateway"


@pytest.fixture
def repositories(tmp_path) -> Repositories:
    return make_repositories(tmp_path / "repositories", {"workspace/SOUL.md": SOUL})


@pytest.fixture
def settings(tmp_path, repositories) -> Settings:
    (tmp_path / "fingerprints.json").write_text(json.dumps(make_fingerprints([SECRET])))
    (tmp_path / "promotion" / "denied").mkdir(parents=True)
    git(tmp_path, "clone", "--quiet", str(repositories.origin), "approved")
    secrets = {
        "CONTROLLER_TOKEN": "5f2a9c0e7b1d48f6a3c9e0b7d2f41868",
        "CONTROLLER_AGENT_TOKEN": TOKEN,
        "CONTROLLER_WEBHOOK_SECRET": "9b1c7d3e5f0a2846c8e4d6b0a1f39c57",
        "CONTROLLER_AGE_RECIPIENT": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
    }
    return Settings(
        secrets=Secrets.model_validate(secrets),
        bot="bot1",
        gateway_url="http://gateway.test:18789",
        approved_dir=tmp_path / "approved",
        socket=tmp_path / "controller.sock",
        agent_address="127.0.0.1:8090",
        repositories_dir=repositories.directory,
        promotion_dir=tmp_path / "promotion",
        jobs_socket=tmp_path / "jobs.sock",
        fingerprints_file=tmp_path / "fingerprints.json",
    )


@pytest.fixture
def gateway(settings, tmp_path):
    nobody = httpx.MockTransport(lambda request: httpx.Response(503))
    app = create_app(settings, gateway_transport=nobody)
    with JobsServer(settings.jobs_socket), serving(create_agent_app(settings, get_app_services(app))) as address:
        made = Gateway(tmp_path / "home", f"http://{address}/agent")
        script = made.workspace / "skills" / "propose-change" / "propose.sh"
        script.write_text(script.read_text().replace("_WITHIN=90", "_WITHIN=0").replace("_WITHIN=20", "_WITHIN=0"))
        first = made.forward()
        assert first.returncode == 0, first.stderr
        yield made


def send(gateway: Gateway, name: str, content: str) -> str:
    """Propose, and what the answer is once the forwarder has been there."""
    work = gateway.proposals / "work" / name
    if not work.exists():
        started = gateway.propose("start", name)
        assert started.returncode == 0, started.stderr
    (work / "workspace" / "SOUL.md").write_text(content)
    assert gateway.propose("send", name, "A change").returncode == 75
    done = gateway.forward()
    assert done.returncode == 0, done.stderr
    return gateway.answer(name)


def proposals(repositories: Repositories) -> dict[str, str]:
    return repositories.refs(repositories.proposals)


def test_proposal_arrives_grows_and_is_listed(gateway, repositories):
    assert send(gateway, "kinder", "Kind.\n").startswith("accepted ")
    assert send(gateway, "kinder", "Kinder.\n").startswith("accepted ")
    commit = proposals(repositories)["refs/heads/proposal/kinder"]
    assert git(repositories.proposals, "log", "--format=%an", f"{repositories.main}..{commit}") == "bot1\nbot1"
    status = json.loads((gateway.proposals / "status.json").read_text())
    assert status["approved"] == status["main"] == repositories.main
    assert status["proposals"] == [{"name": "kinder", "commit": commit, "state": "open", "reason": ""}]


def test_secret_is_refused_in_words_without_it_and_the_correction_is_accepted(gateway, repositories):
    answer = send(gateway, "leak", f"The key is {SECRET}.\n")
    assert answer.startswith("refused ")
    assert "workspace/SOUL.md" in answer
    assert SECRET not in answer
    assert "hook declined" not in answer
    assert proposals(repositories) == {}
    assert send(gateway, "leak", "There is a key.\n").startswith("accepted ")


def test_link_out_of_the_tree_is_refused_with_its_path(gateway, repositories):
    gateway.propose("start", "link")
    (gateway.proposals / "work" / "link" / "workspace" / "tools").symlink_to("/etc")
    answer = send(gateway, "link", SOUL)
    assert answer.startswith("refused ")
    assert "workspace/tools" in answer
    assert proposals(repositories) == {}


def test_denial_is_read_and_closes_the_branch(gateway, repositories, settings):
    send(gateway, "louder", "LOUD.\n")
    denied: Path = settings.promotion_dir / "denied" / "louder.json"
    commit = proposals(repositories)["refs/heads/proposal/louder"]
    words = {"name": "louder", "commit": commit, "reason": "People sleep here.", "actor": "operator", "time": "now"}
    denied.write_text(json.dumps(words))
    answer = send(gateway, "louder", "LOUDER.\n")
    assert answer.startswith("refused ")
    assert "People sleep here." in answer
    status = json.loads((gateway.proposals / "status.json").read_text())
    assert [(each["state"], each["reason"]) for each in status["proposals"]] == [("denied", "People sleep here.")]
