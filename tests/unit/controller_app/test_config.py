from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller_app.config import SettingsError, load_settings, read_env_file

TOKENS = ["CONTROLLER_TOKEN", "CONTROLLER_AGENT_TOKEN", "CONTROLLER_WEBHOOK_SECRET"]
WEAK = {
    "empty": "",
    "short": "5f2a9c0e7b1d48f6a3c9e0b7d2f4186",
    "not hexadecimal": "5f2a9c0e7b1d48f6a3c9e0b7d2f4186z",
    "trailing blank": "5f2a9c0e7b1d48f6a3c9e0b7d2f41868 ",
    "placeholder": "changeme-changeme-changeme-changeme",
    "one digit": "0" * 32,
    "word": "deadbeef" * 4,
    "repeated half": "0123456789abcdef" * 2,
    "ordered": "00112233445566778899aabbccddeeff",
    "digest of nothing": "D41D8CD98F00B204E9800998ECF8427E",
}


@pytest.fixture
def secrets_file(tmp_path, secret_values, monkeypatch) -> Path:
    path = tmp_path / "controller.env"
    write(path, secret_values)
    for name in [name for name in os.environ if name.startswith("CONTROLLER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CONTROLLER_SECRETS_FILE", str(path))
    monkeypatch.setenv("CONTROLLER_BOT", "bot1")
    monkeypatch.setenv("CONTROLLER_GATEWAY_URL", "http://10.213.0.3:18789")
    monkeypatch.setenv("CONTROLLER_APPROVED_DIR", "/srv/approved")
    monkeypatch.setenv("CONTROLLER_AGENT_ADDRESS", "10.213.0.5:8090")
    return path


def write(path: Path, values: dict[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def test_settings_come_from_file_and_environment(secrets_file, secret_values, monkeypatch):
    monkeypatch.setenv("CONTROLLER_SOCKET", "/run/elsewhere.sock")
    settings = load_settings()
    assert settings.bot == "bot1"
    assert settings.gateway_url == "http://10.213.0.3:18789"
    assert (settings.approved_dir, settings.socket) == (Path("/srv/approved"), Path("/run/elsewhere.sock"))
    assert settings.secrets.token.get_secret_value() == secret_values["CONTROLLER_TOKEN"]
    assert settings.secrets.age_recipient == secret_values["CONTROLLER_AGE_RECIPIENT"]


def test_settings_do_not_show_secrets(secrets_file, secret_values):
    shown = repr(load_settings()) + str(load_settings())
    assert "bot1" in shown
    assert not [name for name in TOKENS if secret_values[name] in shown]


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("kind", WEAK)
def test_weak_token_is_refused_without_its_value(secrets_file, secret_values, name, kind):
    write(secrets_file, secret_values | {name: WEAK[kind]})
    with pytest.raises(SettingsError, match=name) as refusal:
        load_settings()
    assert not WEAK[kind] or WEAK[kind] not in str(refusal.value)
    assert refusal.value.__cause__ is None, "a chained pydantic error would print the value"
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("name", [*TOKENS, "CONTROLLER_AGE_RECIPIENT"])
def test_missing_secret_is_refused(secrets_file, secret_values, name):
    del secret_values[name]
    write(secrets_file, secret_values)
    with pytest.raises(SettingsError, match=f"{name} is missing"):
        load_settings()


def test_token_shared_with_the_bot_is_refused(secrets_file, secret_values):
    write(secrets_file, secret_values | {"CONTROLLER_AGENT_TOKEN": secret_values["CONTROLLER_TOKEN"].upper()})
    with pytest.raises(SettingsError, match="must all differ") as refusal:
        load_settings()
    assert secret_values["CONTROLLER_TOKEN"] not in str(refusal.value).lower()


def test_malformed_recipient_is_refused(secrets_file, secret_values):
    write(secrets_file, secret_values | {"CONTROLLER_AGE_RECIPIENT": "ssh-ed25519 AAAA"})
    with pytest.raises(SettingsError, match="CONTROLLER_AGE_RECIPIENT must be an age"):
        load_settings()


def test_secret_in_the_environment_is_refused(secrets_file, secret_values, monkeypatch):
    monkeypatch.setenv("CONTROLLER_TOKEN", secret_values["CONTROLLER_TOKEN"])
    with pytest.raises(SettingsError, match="CONTROLLER_TOKEN must not be in the environment") as refusal:
        load_settings()
    assert secret_values["CONTROLLER_TOKEN"] not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTROLLER_BOT", "Bot_1"),
        ("CONTROLLER_BOT", ""),
        ("CONTROLLER_GATEWAY_URL", "https://10.213.0.3:18789"),
        ("CONTROLLER_GATEWAY_URL", "http://10.213.0.3:18789/path"),
        ("CONTROLLER_GATEWAY_URL", "http://user@10.213.0.3:18789"),
        ("CONTROLLER_APPROVED_DIR", "approved"),
        ("CONTROLLER_APPROVED_DIR", ""),
        ("CONTROLLER_SOCKET", ""),
        ("CONTROLLER_VERSION", "two words"),
        ("CONTROLLER_AGENT_ADDRESS", "0.0.0.0:8090"),
        ("CONTROLLER_AGENT_ADDRESS", "localhost:8090"),
        ("CONTROLLER_AGENT_ADDRESS", "10.213.0.5"),
        ("CONTROLLER_AGENT_ADDRESS", "10.213.0.5:65536"),
        ("CONTROLLER_AGENT_ADDRESS", "10.213.0.5:0"),
        ("CONTROLLER_BRANCH", "../main"),
        ("CONTROLLER_BRANCH", "main.lock/"),
        ("CONTROLLER_REMOTE_URL", "https://user:password@example.org/bot1.git"),
        ("CONTROLLER_REMOTE_URL", "ssh://git:password@example.org/bot1.git"),
        ("CONTROLLER_REMOTE_URL", "ssh://git@-oProxyCommand=x/bot1.git"),
        ("CONTROLLER_REMOTE_URL", "--upload-pack=x"),
        ("CONTROLLER_REMOTE_URL", "ext::sh -c x"),
        ("CONTROLLER_GITHUB_REPOSITORY", "bot1"),
        ("CONTROLLER_GITHUB_REPOSITORY", "a/../b"),
        ("CONTROLLER_GITHUB_ACTORS", "alice,"),
        ("CONTROLLER_GITHUB_ACTORS", "alice, bob"),
        ("CONTROLLER_PROXY_URL", "https://10.213.0.34:3128"),
        ("CONTROLLER_POLL_SECONDS", "-1"),
        ("CONTROLLER_PUSH_MAX_MB", "0"),
        ("CONTROLLER_PUSHES_PER_HOUR", "many"),
    ],
)
def test_malformed_variable_is_refused_with_name_and_value(secrets_file, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert f"{name}={value!r} " in str(refusal.value)


def test_actors_are_compared_without_regard_to_case(secrets_file, monkeypatch):
    assert load_settings().actors == frozenset()
    monkeypatch.setenv("CONTROLLER_GITHUB_ACTORS", "Alice,some-app[bot]")
    assert load_settings().actors == {"alice", "some-app[bot]"}


@pytest.mark.parametrize(
    ("url", "mirrors"),
    [("", False), ("https://example.org/bot1.git", True), ("git@example.org:bot1.git", True), ("/srv/x.git", False),
     ("ssh://git@example.org:2222/bot1.git", True)],
)  # fmt: skip
def test_only_http_and_ssh_are_mirrored_to(secrets_file, monkeypatch, url, mirrors):
    monkeypatch.setenv("CONTROLLER_REMOTE_URL", url)
    assert load_settings().mirrors is mirrors


@pytest.mark.parametrize("value", ["two words", "hunter2\N{CRAB}", "hunter2\x07"])
def test_unusable_remote_token_is_refused_without_its_value(secrets_file, secret_values, value):
    write(secrets_file, secret_values | {"CONTROLLER_REMOTE_TOKEN": value})
    with pytest.raises(SettingsError, match="CONTROLLER_REMOTE_TOKEN must be printable") as refusal:
        load_settings()
    assert value not in str(refusal.value)


def test_remote_token_is_optional(secrets_file, secret_values):
    assert load_settings().secrets.remote_token.get_secret_value() == ""
    write(secrets_file, secret_values | {"CONTROLLER_REMOTE_TOKEN": "ghp_hunter2"})
    settings = load_settings()
    assert settings.secrets.remote_token.get_secret_value() == "ghp_hunter2"
    assert "hunter2" not in repr(settings)


def test_missing_variable_is_refused(secrets_file, monkeypatch):
    monkeypatch.delenv("CONTROLLER_BOT")
    with pytest.raises(SettingsError, match="CONTROLLER_BOT is missing"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\nhunter2\n", "line 2: expected KEY=value"),
        (b"export A=hunter2\n", "line 1: expected KEY=value"),
        (b"A=1\nA=hunter2\n", "line 2: A is set a second time"),
        (b"A=hunter2\xff\n", "not UTF-8"),
    ],
)
def test_malformed_file_is_refused_without_its_text(tmp_path, content, message):
    path = tmp_path / "controller.env"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as refusal:
        read_env_file(path)
    assert "hunter2" not in str(refusal.value)


def test_unreadable_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        read_env_file(tmp_path / "absent.env")


def test_values_of_the_file_are_taken_literally(tmp_path):
    path = tmp_path / "controller.env"
    path.write_text('# comment\n\nA=b=c "d" $E # f\nB=\n')
    assert read_env_file(path) == {"A": 'b=c "d" $E # f', "B": ""}


def test_process_with_a_weak_token_exits_without_showing_it(secrets_file, secret_values):
    weak = "cafebabe" * 4
    write(secrets_file, secret_values | {"CONTROLLER_TOKEN": weak})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "controller_app"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == os.EX_CONFIG
    assert "CONTROLLER_TOKEN is a sample value" in result.stderr
    assert weak not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
