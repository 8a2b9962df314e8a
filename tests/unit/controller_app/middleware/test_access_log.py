from __future__ import annotations

import logging

import pytest

pytestmark = pytest.mark.anyio

LOGGER = "controller_app.access"


async def test_log_names_client_and_path_but_no_query(client, token, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await client.get("/controller", params={"token": token}, headers={"X-Forwarded-For": "10.0.0.1, 192.0.2.7"})
    assert "192.0.2.7 GET /controller 303" in caplog.text
    assert token not in caplog.text


async def test_path_cannot_forge_a_line(client, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await client.get("/a%0a192.0.2.7%20GET%20/%20200%1b[0m")
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert "/a%0A192.0.2.7%20GET%20/%20200%1B%5B0m 404" in record.getMessage()


async def test_forwarded_client_cannot_forge_a_line(client, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await client.get("/", headers={"X-Forwarded-For": "evil one"})
    assert "unknown GET / 303" in caplog.text
    assert "evil" not in caplog.text


async def test_health_checks_are_logged_for_debugging_only(client, caplog):
    with caplog.at_level(logging.DEBUG, logger=LOGGER):
        await client.get("/health")
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert record.levelno == logging.DEBUG


async def test_refused_health_check_is_logged(client, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await client.get("/health", headers={"X-Forwarded-Proto": "ftp"})
    assert "GET /health 400" in caplog.text
