"""The configuration: what the machine is asked, and what the gateway says may stand in it."""

from __future__ import annotations

import hashlib
import json

import pytest

from clawfactory_core.jobs.protocol import Refusal

pytestmark = pytest.mark.anyio
TEXT = "{\n  // mine\n}\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
MATCH = {"If-Match": f'"{DIGEST}"'}
KNOWN = {"text": "{}", "digest": hashlib.sha256(b"{}").hexdigest()}


@pytest.fixture
def jobs(jobs):
    jobs.answers["config_info"] = {
        "config": {"text": TEXT, "digest": DIGEST, "managed": '{"$include": "./operator.json5"}', "known_good": KNOWN}
    }
    jobs.answers["config_check"] = {"check": {"problems": []}}
    return jobs


async def test_both_layers(client, bearer, jobs):
    response = await client.get("/gateway/config", headers=bearer)
    assert response.status_code == 200 and response.headers["etag"] == f'"{DIGEST}"'
    assert response.json() == {
        "text": TEXT, "digest": DIGEST, "managed": '{"$include": "./operator.json5"}', "known_good": KNOWN["digest"],
    }  # fmt: skip


async def test_known_good(client, bearer, jobs):
    assert (await client.get("/gateway/config/known-good", headers=bearer)).json() == KNOWN
    jobs.answers["config_info"]["config"]["known_good"] = None
    assert (await client.get("/gateway/config/known-good", headers=bearer)).status_code == 404
    assert (await client.get("/gateway/config", headers=bearer)).json()["known_good"] is None


async def test_save_is_a_job_with_what_it_is_based_on(client, bearer, jobs):
    response = await client.post("/gateway/config", json={"text": "{a: 1} // é"}, headers=bearer | MATCH)
    assert response.status_code == 202 and response.json()["kind"] == "config", response.text
    assert jobs.asked("config") == [{"actor": "operator", "text": "{a: 1} // é", "base": DIGEST}]


async def test_revert(client, bearer, jobs):
    response = await client.post("/gateway/config/revert", headers=bearer | MATCH)
    assert response.status_code == 202 and jobs.asked("config_revert") == [{"actor": "operator", "base": DIGEST}]


@pytest.mark.parametrize(
    ("match", "status"),
    [(None, 428), ("*", 428), ('""', 428), ('"' + "0" * 64 + '"', 412), ('W/"x"', 412), ("x" * 300, 422)],
)
async def test_two_editors(client, bearer, jobs, match, status):
    headers = bearer | ({"If-Match": match} if match else {})
    for path, body in (("/gateway/config", {"text": "{}"}), ("/gateway/config/revert", None)):
        response = await client.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
    assert jobs.asked("config") == jobs.asked("config_revert") == []


async def test_the_machine_has_the_last_word(client, bearer, jobs):
    jobs.answers["config"] = Refusal(423, "Locked", "bot1 is locked")
    assert (await client.post("/gateway/config", json={"text": "{}"}, headers=bearer | MATCH)).status_code == 423


async def test_validation(client, bearer, jobs):
    response = await client.post("/gateway/config/validate", json={"text": TEXT}, headers=bearer)
    assert response.json() == {"valid": True, "problems": []} and jobs.asked("config_check") == [{"text": TEXT}]
    problem = {"path": "logging.level", "message": "Invalid input", "line": 2, "column": 3}
    jobs.answers["config_check"] = {"check": {"problems": [problem]}}
    response = await client.get("/gateway/config/validate", headers=bearer)
    assert response.json() == {"valid": False, "problems": [problem]} and jobs.asked("config_check")[-1] == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 422),
        (b'{"text": 5}', 422),
        (b'{"text": "\\u0000"}', 422),
        (b'{"text": "\\ud800"}', 422),
        (b'{"text": "x", "more": 1}', 422),
        (b"nonsense", 422),
        (b"[" * 60000, 400),
        (json.dumps({"text": "x" * 65537}).encode(), 422),
        (json.dumps({"text": "é" * 40000}).encode(), 413),
        (b'{"text": "' + b"x" * 300000 + b'"}', 413),
    ],
)
async def test_bad_texts_reach_nobody(client, bearer, jobs, body, status):
    for path in ("/gateway/config", "/gateway/config/validate"):
        headers = bearer | MATCH | {"Content-Type": "application/json"}
        response = await client.post(path, content=body, headers=headers)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
    assert jobs.requests == []


async def test_the_largest_text_fits(client, bearer, jobs):
    text = '"\n' * 32768
    response = await client.post("/gateway/config", json={"text": text}, headers=bearer | MATCH)
    assert response.status_code == 202 and jobs.asked("config")[0]["text"] == text


async def test_machine_gone_is_told(client, bearer, jobs):
    jobs.answers["config_info"] = b""
    for path in ("/gateway/config", "/gateway/config/known-good"):
        assert (await client.get(path, headers=bearer)).status_code == 503


async def test_schema_is_read_once_for_each_connection(talking, rpc):
    schema = {"schema": {"type": "object"}, "uiHints": {}, "version": "2026.9.6", "generatedAt": "now"}
    rpc.answers["config.schema"] = {"type": "res", "ok": True, "payload": schema}
    first = await talking.get("/gateway/config/schema")
    assert first.json() == {"schema": {"type": "object"}, "uiHints": {}, "version": "2026.9.6"}
    again = await talking.get("/gateway/config/schema", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert [request["method"] for request in rpc.requests] == ["config.schema"]
    for connection in list(rpc._server.connections):
        await connection.close()
    schema["version"] = "2026.9.7"
    while (response := await talking.get("/gateway/config/schema")).status_code == 503:
        pass
    assert response.json()["version"] == "2026.9.7"


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"schema": "x"}, {"schema": {}, "uiHints": 5}, {"schema": {"a": float("nan")}}]
)
async def test_schema_that_is_none(talking, rpc, payload):
    rpc.answers["config.schema"] = {"type": "res", "ok": True, "payload": payload}
    assert (await talking.get("/gateway/config/schema")).status_code == 502


async def test_format(client, bearer, jobs):
    response = await client.post("/gateway/config/format", json={"text": "{a:1}// x"}, headers=bearer)
    assert response.json() == {"text": "{a: 1}\n// x\n"}
    response = await client.post("/gateway/config/format", json={"text": "{a:\n}"}, headers=bearer)
    assert response.status_code == 400 and "line 2, column 1" in response.json()["detail"]
    assert jobs.requests == []


async def test_models_of_ollama(client, bearer, jobs):
    model = {"name": "gemma4", "size": 9, "context": 8192, "tokens": 4096, "problem": ""}
    provider = {"id": "ollama", "url": "http://host.docker.internal:11434", "problem": "", "models": [model]}
    found = {"available": 2, "total": 3, "reserve": 1, "providers": [provider]}
    jobs.answers["ollama_info"] = {"ollama": found}
    assert (await client.get("/gateway/config/ollama", headers=bearer)).json() == found
    assert jobs.asked("ollama_info") == [{}], "no address comes from here"
    body = {"text": TEXT, "provider": "ollama", "model": "gemma4", "context": 8192, "tokens": 4096}
    response = await client.post("/gateway/config/ollama", json=body, headers=bearer)
    changed = response.json()["text"]
    assert "// mine" in changed
    assert '{id: "gemma4", name: "gemma4", contextWindow: 8192, contextTokens: 4096},' in changed
    response = await client.post("/gateway/config/ollama", json={**body, "text": changed}, headers=bearer)
    assert response.status_code == 409 and "there already" in response.json()["detail"]
    response = await client.post("/gateway/config/ollama", json={**body, "text": "{models: 3}"}, headers=bearer)
    assert response.status_code == 400 and response.json()["detail"].startswith("models is no object")
