from __future__ import annotations

import copy
import json

import pytest

from broker_app.settings import SettingsError, load_settings
from tests.support.broker_samples import BASE, SETTINGS_DOCUMENT, make_network


def write(tmp_path, document):
    path = tmp_path / "broker.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def changed(path, value):
    document = copy.deepcopy(SETTINGS_DOCUMENT)
    place = document
    *above, last = path.split(".")
    for key in above:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_settings_are_read(tmp_path):
    settings = load_settings(write(tmp_path, SETTINGS_DOCUMENT))
    assert settings.clients.gateway.uid == 20001
    assert settings.state_directory == f"{BASE}/state"
    assert settings.approved_directory == f"{BASE}/approved"
    assert settings.sandbox_prefix == "clawfactory-bot1-sbx-"
    assert settings.sandbox_labels == {"clawfactory.bot": "bot1", "clawfactory.service": "sandbox"}
    assert settings.part_name("egress") == "clawfactory-bot1-egress"


def test_network_of_sandboxes_is_read(tmp_path):
    settings = load_settings(write(tmp_path, changed("sandbox.network", make_network())))
    assert settings.sandbox.network is not None
    assert settings.sandbox.network.proxy == "http://10.213.0.66:3128"


@pytest.mark.parametrize("key", [*SETTINGS_DOCUMENT, *(f"sandbox.{key}" for key in SETTINGS_DOCUMENT["sandbox"])])
def test_missing_key_is_refused(tmp_path, key):
    with pytest.raises(SettingsError, match=key.split(".")[-1]):
        load_settings(write(tmp_path, changed(key, ...)))


@pytest.mark.parametrize("key", ["more", "sandbox.more", "clients.more", "clients.gateway.more"])
def test_unknown_key_is_refused(tmp_path, key):
    with pytest.raises(SettingsError, match="more"):
        load_settings(write(tmp_path, changed(key, 1)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("schema", True),
        ("schema", 1.0),
        ("bot", "Bot"),
        ("bot", "bot1\n"),
        ("bot", "a-sbx-b"),
        ("bot", "a-sbx"),
        ("engine_socket", "run/docker.sock"),
        ("engine_socket", "/run/../docker.sock"),
        ("bot_directory", "/"),
        ("bot_directory", f"{BASE}/"),
        ("bot_directory", "/srv//bot1"),
        ("bot_directory", "/srv/a:b"),
        ("gateway_probe", []),
        ("gateway_probe", "node"),
        ("stream_seconds", 0),
        ("stream_seconds", "21600"),
        ("clients.controller.uid", 20001),
        ("clients.controller.socket", "/run/broker/gateway/docker.sock"),
        ("clients.gateway.uid", 0),
        ("clients.gateway.uid", "20001"),
        ("sandbox.images", {}),
        ("sandbox.images", {"image:1": "image:2"}),
        ("sandbox.images", {"image:1": "sha256:" + "A" * 64}),
        ("sandbox.images", {"Image:1": "sha256:" + "a" * 64}),
        ("sandbox.uid", 0),
        ("sandbox.max_count", 0),
        ("sandbox.memory_bytes", 1024),
        ("sandbox.nano_cpus", 0),
        ("sandbox.pids", -1),
        ("sandbox.tmpfs_bytes", 0),
        ("sandbox.sources", []),
        ("sandbox.sources", ["."]),
        ("sandbox.sources", ["workspace/.."]),
        ("sandbox.sources", ["/etc"]),
        ("sandbox.sources", [""]),
        ("sandbox.sources", ["workspace//a"]),
        ("sandbox.network", {"name": "clawfactory-bot2-sandbox", "proxy": "http://10.213.0.66:3128"}),
        ("sandbox.network", {"name": "host", "proxy": "http://10.213.0.66:3128"}),
        ("sandbox.network", {"name": "clawfactory-bot1-sandbox", "proxy": "http://egress:3128/"}),
    ],
)
def test_value_that_is_not_safe_is_refused(tmp_path, key, value):
    with pytest.raises(SettingsError, match="refused settings"):
        load_settings(write(tmp_path, changed(key, value)))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1, "schema": 1}', '{"schema": NaN}'])
def test_file_that_is_no_clean_json_is_refused(tmp_path, text):
    with pytest.raises(SettingsError, match=r"broker\.json"):
        load_settings(write(tmp_path, text))


def test_missing_file_is_an_error_of_settings(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "none.json")
