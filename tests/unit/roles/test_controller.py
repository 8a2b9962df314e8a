"""The role tells the controller what the controller understands, and refuses what it would not start with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

from clawfactory_core.allocation import describe
from controller_app.config import EDITOR_SCHEMES, Secrets, Settings
from tests.support.controller import SECRETS

REPOSITORY = Path(__file__).resolve().parents[3]
ROLE = REPOSITORY / "roles" / "controller"


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    init_plugin_loader()


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROLE / name / "main.yml").read_text(encoding="utf-8"))
    return found


def trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def render(name: str, **changed: Any) -> Any:
    entry = {"slot": 0, "gateway_port": 18789, "controller_port": 8080, "host_ports": []}
    variables = {
        **load("defaults"),
        **load("vars"),
        "inventory_hostname": "bot1",
        "clawfactory_source_dir": str(REPOSITORY),
        "host_images_wanted": {"clawfactory-controller": {"reference": "clawfactory-controller:abc"}},
        "host_bot": describe(Path("/srv/clawfactory"), "bot1", "10.213.0.0/16", entry),
        "secrets_generations": {"gateway": "1", "controller": "2", "fingerprints": "3"},
        "promotion_branch": "main",
        "promotion_remote_url": "",
        "promotion_remote_user": "x-access-token",
        **changed,
    }
    return Templar(loader=DataLoader(), variables=trusted(variables)).template(trust_as_template(f"{{{{ {name} }}}}"))


REMOTE = {"promotion_remote_url": "https://user:hunter2@git.example.org/bot1.git"}
GITHUB = {
    **REMOTE,
    "controller_github_repository": "octo-org/bot1",
    "controller_github_actors": ["octocat", "app[bot]"],
    "controller_poll_seconds": 60,
}


def test_every_variable_is_a_setting():
    names = {name for name in load("vars")["__controller_container"]["env"] if name.startswith("CONTROLLER_")}
    settings = {f"CONTROLLER_{name.upper()}" for name in Settings.model_fields} - {"CONTROLLER_SECRETS"}
    assert names <= settings
    # The rest are places in the container, at which the role mounts what belongs there.
    fixed = (
        "SOCKET",
        "REPOSITORIES_DIR",
        "PROMOTION_DIR",
        "SNAPSHOTS_DIR",
        "DEVICE_DIR",
        "BROKER_SOCKET",
        "JOBS_SOCKET",
        "REMOTE_KEYS_DIR",
    )
    assert settings - names == {f"CONTROLLER_{name}" for name in (*fixed, "FINGERPRINTS_FILE")}


@pytest.mark.parametrize("changed", [{}, REMOTE, GITHUB])
def test_controller_takes_what_the_role_gives(changed, settings_of):
    settings = settings_of(render("__controller_container", **changed)["env"])
    assert settings.agent_address == "10.213.0.5:8090"
    assert settings.mirrors is bool(changed)
    assert "hunter2" not in str(settings)


@pytest.fixture
def settings_of(monkeypatch):
    def make(environment: dict[str, str]) -> Settings:
        for name, value in environment.items():
            assert isinstance(value, str), f"{name} is {value!r}, which the engine would refuse"
            monkeypatch.setenv(name, value)
        secrets = {
            "CONTROLLER_TOKEN": "5f2a9c0e7b1d48f6a3c9e0b7d2f41868",
            "CONTROLLER_AGENT_TOKEN": "0c1d9e8f7a6b5c4d3e2f1a0b9c8d7e6f",
            "CONTROLLER_WEBHOOK_SECRET": "9b1c7d3e5f0a2846c8e4d6b0a1f39c57",
            "CONTROLLER_AGE_RECIPIENT": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
        }
        return Settings(secrets=secrets)

    return make


def test_only_proposals_and_the_socket_can_be_written():
    mounts = render("__controller_container")["mounts"]
    writable = {mount["target"] for mount in mounts if not mount["read_only"]}
    assert writable == {"/run/operator", "/srv/repositories/proposals.git"}


def test_places_are_where_the_controller_looks():
    targets = {mount["target"] for mount in render("__controller_container")["mounts"]}
    fields = Settings.model_fields
    repositories = fields["repositories_dir"].default
    assert {f"{repositories}/origin.git", f"{repositories}/proposals.git"} <= targets
    assert {str(fields["promotion_dir"].default), str(fields["jobs_socket"].default.parent)} <= targets
    assert str(fields["fingerprints_file"].default) in targets


@pytest.mark.parametrize(
    ("changed", "hosts"),
    [
        ({}, []),
        (REMOTE, ["git.example.org"]),
        (GITHUB, ["git.example.org", "api.github.com"]),
        ({"promotion_remote_url": "git@git.example.org:bot1.git"}, []),  # port 22 of it alone, see below
        ({"promotion_remote_url": "/srv/bot1.git"}, []),
    ],
)
def test_egress_lets_the_controller_reach_the_remote(changed, hosts):
    assert render("__controller_hosts", **changed) == hosts


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("git@git.example.org:bot1.git", {"host": "git.example.org", "port": 22, "private": False}),
        ("ssh://git@Git.Example.org:2222/bot1.git", {"host": "git.example.org", "port": 2222, "private": False}),
        ("ssh://git@192.168.7.1/bot1.git", {"host": "192.168.7.1", "port": 22, "private": True}),
    ],
)
def test_ssh_remote_is_one_port_of_one_host_and_one_mount_more(url, endpoint):
    assert render("__controller_endpoints", promotion_remote_url=url) == [endpoint]
    container = render("__controller_container", promotion_remote_url=url)
    more = [mount for mount in container["mounts"] if mount not in render("__controller_container")["mounts"]]
    assert [(mount["source"], mount["target"], mount["read_only"]) for mount in more] == [
        ("/srv/clawfactory/run/bot1/remote", str(Settings.model_fields["remote_keys_dir"].default), True)
    ]
    assert container["env"]["CONTROLLER_REMOTE_URL"] == url
    assert render("__controller_problems", promotion_remote_url=url, controller_poll_seconds=5) == []


def test_address_that_egress_could_never_allow_is_refused():
    for url in ("git@localhost:bot1.git", "ssh://git@169.254.169.254/x", "ssh://git@127.0.0.1:2222/x"):
        with pytest.raises(AnsibleError, match=r"localhost|link-local|itself"):
            render("__controller_endpoints", promotion_remote_url=url)


def test_ranges_are_those_of_the_controller():
    for name, bounds in load("vars")["__controller_ranges"].items():
        metadata = Settings.model_fields[name.removeprefix("controller_")].metadata
        assert bounds == [next(item.ge for item in metadata if hasattr(item, "ge")),
                          next(item.le for item in metadata if hasattr(item, "le"))]  # fmt: skip


EDITORS = [
    "",
    "vscode://file/{path}:{line}",
    "https://code.example.org/?file={path}",
    "idea://open?file={path}&line={line}",
]
NO_EDITORS = [
    "javascript:alert('{path}')", "file://{path}", "vscode://file/x", "vscode://{path}{user}", "data://{path}",
    "vscode:{path}", 'https://x/"><script>{path}', "vscode://{path}\n", "VSCODE://{path}", "vscode://{path}}",
    "{path}",
]  # fmt: skip


@pytest.mark.parametrize("url", [*EDITORS, *NO_EDITORS])
def test_links_to_an_editor_are_those_that_the_controller_takes(url):
    found = render("__controller_problems", controller_editor_url=url)
    assert bool(found) == (url in NO_EDITORS), found
    assert found == [] or "controller_editor_url is" in found[0]
    fields = {"bot": "bot1", "gateway_url": "http://g:1", "approved_dir": "/a", "agent_address": "10.0.0.1:1"}
    settings = {**fields, "secrets": Secrets.model_validate(SECRETS), "editor_url": url}
    if found:
        with pytest.raises(ValueError, match="must"):
            Settings(**settings)
    else:
        assert Settings(**settings).editor_url == url
    assert load("vars")["__controller_editors"] == list(EDITOR_SCHEMES)


@pytest.mark.parametrize("changed", [{}, REMOTE, GITHUB])
def test_good_variables_are_no_problem(changed):
    assert render("__controller_problems", **changed) == []


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"controller_push_max_mb": 65}, "controller_push_max_mb is 65; give 1 to 64"),
        ({"controller_poll_seconds": -1}, "controller_poll_seconds is -1; give 0 to 86400"),
        ({**REMOTE, "controller_github_repository": "bot1"}, "is 'bot1'; write it as owner/name"),
        ({**GITHUB, "controller_github_actors": ["a b"]}, "'a b' is not a login"),
        (
            {"controller_github_repository": "a/b"},
            "names no https or SSH repository; set bot_repository to https://github.com/a/b",
        ),
        ({"controller_poll_seconds": 5, "promotion_remote_url": "/srv/x"}, "no https or SSH repository to look at"),
    ],
)
def test_bad_variable_is_named(changed, text):
    (problem,) = render("__controller_problems", **changed)
    assert text in problem
