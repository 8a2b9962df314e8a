"""Every refusal is a problem document, and no input makes the controller fail."""

from __future__ import annotations

import errno
import os

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput

pytestmark = pytest.mark.anyio


def assert_problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == "about:blank"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


async def test_unknown_path(client):
    assert_problem(await client.get("/nothing"), 404)


async def test_wrong_method_names_the_right_one(client):
    response = await client.delete("/health")
    assert_problem(response, 405)
    assert response.headers["allow"] == "GET"


async def test_missing_token(client):
    response = await client.get("/status")
    document = assert_problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer" in document["detail"]


async def test_invalid_value_is_named_but_not_repeated(client, same_origin):
    secret = "x" * 1025
    response = await client.post("/login", data={"token": secret}, headers=same_origin)
    document = assert_problem(response, 422)
    assert document["errors"] == [{"location": "body.token", "message": "String should have at most 1024 characters"}]
    assert "xxx" not in response.text


@pytest.mark.parametrize(("error", "status"), [(InvalidInput, 400), (Conflict, 409), (CoreError, 503)])
async def test_core_errors_have_a_status(app, client, error, status):
    async def fail():
        raise error("bot 'x' is unknown; add it to the inventory")

    app.add_api_route("/fail", fail)
    document = assert_problem(await client.get("/fail"), status)
    assert document["detail"] == "bot 'x' is unknown; add it to the inventory"


@pytest.mark.parametrize(
    ("number", "status", "text"), [(errno.ENOSPC, 507, "disk"), (errno.EACCES, 503, "Permission denied")]
)
async def test_errors_of_the_system_are_named_without_paths(app, client, number, status, text):
    async def fail():
        raise OSError(number, os.strerror(number), "/srv/secret-place")

    app.add_api_route("/fail", fail)
    document = assert_problem(await client.get("/fail"), status)
    assert text in document["detail"]
    assert "secret-place" not in document["detail"]


async def test_crash_tells_nothing(app, client):
    async def crash():
        raise RuntimeError("hunter2")

    app.add_api_route("/crash", crash)
    response = await client.get("/crash")
    assert_problem(response, 500)
    assert "hunter2" not in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"}, b"token=%ff%00\xff"),
        ("POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"}, b"token=" + b"%ED%B2%80" * 9),
        ("POST", "/login", {"Content-Type": "multipart/form-data"}, b"--x\r\n"),
        ("POST", "/login", {"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nnonsense"),
        ("POST", "/login", {"Content-Type": "multipart/form-data; boundary=x"},
         b'--x\r\nContent-Disposition: form-data; name="token"; filename="a"\r\n\r\nz\r\n--x--\r\n'),
        ("POST", "/login", {"Content-Type": "application/json"}, b"{"),
        ("POST", "/login", {"Content-Type": "\xff"}, b"\xff"),
        ("GET", "/?token=%ff%00", {}, b""),
        ("GET", "/?token=" + "%F0%9F%A6%80" * 99, {}, b""),
        ("GET", "/status", {"Authorization": "Bearer \xff"}, b""),
        ("GET", "/status", {"Authorization": "Bearer"}, b""),
        ("GET", "/status", {"Cookie": "clawfactory-bot1=\xff; a=\"; ="}, b""),
        ("GET", "/status", {"Cookie": "clawfactory-bot1=" + "9" * 12 + "." + "a" * 32 + "." + "b" * 64}, b""),
        ("GET", "/static/%00", {}, b""),
        ("GET", "/static/..%2f..%2fconfig.py", {}, b""),
        ("GET", "/static/" + "a" * 5000, {}, b""),
        ("GET", "/health", {"Host": "a b"}, b""),
        ("GET", "/health", {"Host": "[::1"}, b""),
        ("POST", "/login", {"Origin": "http://[bad"}, b""),
        ("POST", "/login", {"Origin": "http://a:99999999"}, b""),
        ("POST", "/login", {"Origin": "\xff"}, b""),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_not_fatal(client, method, path, headers, body):
    encoded = {"Origin": "http://127.0.0.1:8080", **headers}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in encoded.items()]
    response = await client.request(method, path, headers=raw, content=body)
    assert 400 <= response.status_code < 500
