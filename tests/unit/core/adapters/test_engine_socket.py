from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from clawfactory_core.adapters.engine_socket import EngineSocket, EngineUnavailable
from clawfactory_core.errors import CoreError
from tests.support.engine import engine_server


@pytest.fixture
def path(tmp_path, monkeypatch):
    # Relative: a Unix socket's path is limited to 107 characters.
    monkeypatch.chdir(tmp_path)
    return "engine.sock"


@pytest.fixture
def server(path):
    with engine_server(path) as server:
        yield server


def test_answer_is_decoded(server, path):
    server.answers["/version"] = (200, {"Version": "20.10.24", "ApiVersion": "1.41"})
    assert EngineSocket(path).version()["Version"] == "20.10.24"
    assert server.requests == ["/version"]


def test_404_is_none(server, path):
    assert EngineSocket(path).get("/containers/absent/json") is None


@pytest.mark.parametrize("status", [400, 500, 503, 204])
def test_other_answers_are_errors_that_say_what_was_asked(server, path, status):
    server.answers["/networks"] = (status, {"message": "something broke"} if status != 204 else b"")
    with pytest.raises(CoreError, match=rf"{status} to GET /networks"):
        EngineSocket(path).get("/networks")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"\xff\xfe", b'{"a": '])
def test_answer_that_is_no_json_is_no_engine(server, path, body):
    server.answers["/version"] = (200, body)
    with pytest.raises(EngineUnavailable, match="not a Docker engine"):
        EngineSocket(path).version()


@pytest.mark.parametrize("answer", [(404, {}), (200, [1]), (200, None)])
def test_server_without_a_version_is_no_engine(server, path, answer):
    server.answers["/version"] = answer
    with pytest.raises(EngineUnavailable, match="not a Docker engine"):
        EngineSocket(path).version()


def test_slow_answer_ends_at_the_timeout(server, path):
    server.answers["/version"] = (200, {})
    server.delay = 5
    start = time.monotonic()
    with pytest.raises(EngineUnavailable, match="timed out"):
        EngineSocket(path, timeout=0.1).version()
    assert time.monotonic() - start < server.delay


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"])
def test_broken_answer_is_unavailable(path, said):
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(said)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EngineUnavailable, match=path):
            EngineSocket(path, timeout=5).get("/version")
        thread.join()


def test_absent_socket_is_unavailable_with_its_path(path):
    with pytest.raises(EngineUnavailable, match=r"does not answer on engine\.sock"):
        EngineSocket(path).version()


def test_socket_without_listener_is_unavailable(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with pytest.raises(EngineUnavailable, match="refused"):
        EngineSocket(path).version()


def test_containers_are_those_with_the_label_still_there(server, path):
    server.answers["/containers/json"] = (200, [{"Id": "one"}, {"Id": "gone"}])
    server.answers["/containers/one/json"] = (200, {"Id": "one", "Name": "/x"})
    assert EngineSocket(path).containers("clawfactory.bot") == [{"Id": "one", "Name": "/x"}]
    query = parse_qs(urlsplit(server.requests[0]).query)
    assert query == {"all": ["true"], "filters": [json.dumps({"label": ["clawfactory.bot"]})]}


def test_networks_ask_for_the_label(server, path):
    server.answers["/networks"] = (200, [{"Name": "n"}])
    assert EngineSocket(path).networks("clawfactory.bot") == [{"Name": "n"}]
    assert parse_qs(urlsplit(server.requests[0]).query)["filters"] == ['{"label": ["clawfactory.bot"]}']


def test_image_tags_leave_out_untagged_images(server, path):
    images = [{"Id": "sha256:a", "RepoTags": ["x:1", "y:2"]}, {"Id": "sha256:b", "RepoTags": None}, {"Id": "sha256:c"}]
    server.answers["/images/json"] = (200, images)
    assert EngineSocket(path).image_tags() == {"x:1": "sha256:a", "y:2": "sha256:a"}
