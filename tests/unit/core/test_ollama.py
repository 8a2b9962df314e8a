"""Which models there are, and how large a context there is room for."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from clawfactory_core import ollama
from clawfactory_core.errors import CoreError
from clawfactory_core.ollama import Memory, Shape, context_tokens, find_models, read_memory, read_shape

GIB = 1 << 30
#: As /api/show tells of llama3.1:8b.
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.context_length": 131072,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}
WEIGHTS = 4_920_753_328


def test_the_shape_of_a_model():
    # 32 layers, each with 8 groups of 128 numbers for keys and as many for values.
    assert read_shape(WEIGHTS, LLAMA) == Shape(WEIGHTS, 131072, 32 * 8 * 256, 32)


def test_a_shape_with_heads_of_their_own_width():
    info = {**LLAMA, "llama.attention.key_length": 256, "llama.attention.value_length": 64}
    assert read_shape(1, info).cached == 32 * 8 * 320


def test_a_shape_with_layers_that_keep_no_cache():
    info = {**LLAMA, "llama.attention.head_count_kv": [0, 0, 0, 2, 0, 0, 0, 2], "llama.attention.head_count": [16, 32]}
    assert read_shape(1, info) == Shape(1, 131072, 4 * 256, 32)


def test_a_shape_without_groups_has_one_for_each_head():
    info = {name: value for name, value in LLAMA.items() if not name.endswith("_kv")}
    assert read_shape(1, info).cached == 32 * 32 * 256


@pytest.mark.parametrize("bad", [None, "8", 0, -1, True, 1 << 50, 1.5, [], ["8"], {}])
@pytest.mark.parametrize("name", ["block_count", "context_length", "attention.head_count"])
def test_a_shape_that_makes_no_sense(name, bad):
    with pytest.raises(ValueError, match=f"does not say its {name.replace('.', ' ').replace('_', ' ')}"):
        read_shape(1, {**LLAMA, f"llama.{name}": bad})


def test_the_context_is_what_is_free_over_what_a_token_takes():
    shape = read_shape(WEIGHTS, LLAMA)
    token = 65536 * 2 + 512 * 4 * 33
    # 16 GiB, of which a tenth stays free.
    memory = Memory(12 * GIB, 16 * GIB)
    free = 12 * GIB - int(1.6 * GIB) - WEIGHTS
    assert context_tokens(shape, memory) == free // token // 1024 * 1024 == 30720
    # The tokens that were promised fit, and 1,024 more do not.
    assert context_tokens(shape, memory) * token <= free < (context_tokens(shape, memory) + 1024) * token


@pytest.mark.parametrize(
    ("available", "tokens"),
    [(500 * GIB, 131072), (7 * GIB, 4096), (6 * GIB, 0), (0, 0)],
)
def test_never_more_than_the_model_was_trained_for_and_never_a_useless_rest(available, tokens):
    shape = read_shape(WEIGHTS, LLAMA)
    found = context_tokens(shape, Memory(available, 8 * GIB))
    assert found == tokens or (tokens == 4096 and 4096 <= found < 8192)


def test_a_small_model_is_used_as_it_is():
    assert context_tokens(Shape(100 << 20, 2048, 1000, 8), Memory(8 * GIB, 16 * GIB)) == 2048
    assert context_tokens(Shape(100 << 20, 2048, 1000, 8), Memory(1 * GIB, 16 * GIB)) == 0


def test_the_reserve_is_a_tenth_but_a_gibibyte_at_least():
    assert Memory(0, 4 * GIB).reserve == GIB and Memory(0, 100 * GIB).reserve == 10 * GIB


def test_memory_of_this_machine(tmp_path):
    found = read_memory()
    assert 0 < found.available <= found.total
    (tmp_path / "meminfo").write_text("MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\n")
    assert read_memory(tmp_path / "meminfo") == Memory(4 << 20, 16 << 20)
    (tmp_path / "meminfo").write_text("MemTotal:       16384 kB\n")
    with pytest.raises(CoreError, match="does not say"):
        read_memory(tmp_path / "meminfo")


class Server(http.server.BaseHTTPRequestHandler):
    """An Ollama whose answers a test sets."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._answer(self.path)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(f"{self.path} {body['model']}")

    def _answer(self, key: str) -> None:
        self.asked.append(key)
        status, body = self.answers.get(key, (404, b"{}"))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body.decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the test's output."""


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    handler = type("Handler", (Server,), {"answers": {}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield handler, f"http://host.docker.internal:{found.server_port}"
        found.shutdown()
        thread.join()


def managed(url: str, **more: object) -> str:
    provider = {"api": "ollama", "baseUrl": url, "models": []}
    return json.dumps({"models": {"providers": {"ollama": provider, "openai": {"api": "x", "baseUrl": url}, **more}}})


def tags(*names: object) -> tuple[int, bytes]:
    return 200, json.dumps({"models": [{"name": name, "size": 1000} for name in names]}).encode()


def test_models_of_this_machine(server):
    handler, url = server
    handler.answers["/api/tags"] = tags("tiny", "strange", "gone", "no name", 7, "x" * 300)
    handler.answers["/api/show tiny"] = (200, json.dumps({"model_info": LLAMA}).encode())
    handler.answers["/api/show strange"] = (200, b'{"model_info": {"general.architecture": "new"}}')
    found = find_models(managed(url))
    assert found["available"] <= found["total"] and found["reserve"] >= GIB
    (provider,) = found["providers"]
    assert provider["id"] == "ollama" and provider["url"] == url and provider["problem"] == ""
    tiny, strange, gone = provider["models"]
    assert tiny["name"] == "tiny" and tiny["context"] == 131072 and tiny["size"] == 1000
    assert tiny["tokens"] == context_tokens(read_shape(1000, LLAMA), Memory(found["available"], found["total"]))
    assert strange["tokens"] == 0 and "does not say its block count" in strange["problem"]
    assert gone["tokens"] == 0 and "status 404" in gone["problem"]
    assert handler.asked[0] == "/api/tags"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html>"), "no JSON"),
        ((200, b"[]"), "no object"),
        ((200, b'{"models": 3}'), "not Ollama"),
        ((500, b"{}"), "status 500"),
        ((302, b"http://127.0.0.1:1/api/tags"), "status 302"),
        ((200, b"[" * 100_000), "no JSON"),
        ((200, b" " * (ollama._ANSWER_BYTES + 1)), "bytes"),
    ],
)
def test_what_answers_but_not_as_ollama(server, answer, said):
    handler, url = server
    handler.answers["/api/tags"] = answer
    (provider,) = find_models(managed(url))["providers"]
    assert said in provider["problem"] and provider["models"] == []


def test_nothing_answers(server):
    (provider,) = find_models(managed("http://host.docker.internal:1"))["providers"]
    assert "does not answer" in provider["problem"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://ollama.com", "on the internet"),
        ("http://169.254.169.254", "metadata"),
        ("http://localhost:11434", "container itself"),
        ("file:///etc/passwd", "no"),
        ("http://a:b@10.0.0.7", "login"),
    ],
)
def test_what_is_not_asked(monkeypatch, url, said):
    monkeypatch.setattr(ollama._Asking, "__call__", lambda *_: pytest.fail("it was asked"))
    (provider,) = find_models(managed(url))["providers"]
    assert said in provider["problem"]


def test_another_machine_says_its_models_but_not_its_memory(monkeypatch):
    answers = {"/api/tags": {"models": [{"name": "m", "size": 5}]}, "/api/show": {"model_info": LLAMA}}
    monkeypatch.setattr(ollama._Asking, "__call__", lambda self, method, path, body=None: answers[path])
    (provider,) = find_models(managed("http://10.0.0.7:11434"))["providers"]
    (model,) = provider["models"]
    assert model["tokens"] == 0 and model["context"] == 131072 and "another machine" in model["problem"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"models": {"providers": []}}', '{"models": {"providers": {"a": 1}}}']
)
def test_no_ollama(text):
    assert find_models(text)["providers"] == []
