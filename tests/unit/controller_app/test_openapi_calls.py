"""Whatever fits the OpenAPI document, or does not, gets an answer that the document names: of both applications."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from controller_app.schemas.webhook import EXAMPLE, PullRequestEvent
from tests.support.controller import SECRETS
from tests.support.controller_stack import ControllerStack, controller_stack, propose, serving

_EXAMPLES = 10
_NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
load_all_checks()
_CHECKS = CHECKS.get_by_names(list(_NAMES))
_PUBLIC = {"/health"}
_WEBHOOK = "/webhook/github"


@schemathesis.serializer("application/x-git-upload-pack-request", "application/x-git-receive-pack-request")
def _as_it_is(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bodies in git's own form, which the document calls strings."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@dataclass
class Api:
    """An application that is served, and who may call it."""

    address: str
    schema: schemathesis.BaseSchema
    authorization: dict[str, str]

    def operations(self) -> list[schemathesis.APIOperation]:
        return [found.ok() for found in self.schema.get_all_operations()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[ControllerStack]:
    with controller_stack(tmp_path_factory.mktemp("stack")) as stack:
        propose(stack.repositories, "kinder", "Be kinder", {"workspace/SOUL.md": "I am kind.\n"})
        stack.jobs.add_job("snapshot", actor="agent")
        yield stack


@pytest.fixture(scope="module", params=["operator", "agent"])
def api(request, stack) -> Iterator[Api]:
    app, token = {
        "operator": (stack.app, SECRETS["CONTROLLER_TOKEN"]),
        "agent": (stack.agent, SECRETS["CONTROLLER_AGENT_TOKEN"]),
    }[request.param]
    with serving(app) as address:
        yield Api(address, schemathesis.openapi.from_dict(app.openapi()), {"Authorization": f"Bearer {token}"})


def call_all(api: Api, mode: GenerationMode, judge, examples: int) -> int:
    """Call every operation with made-up values; how many there were."""
    called = 0
    for operation in api.operations():
        if mode is GenerationMode.NEGATIVE and not takes_values(operation):
            continue

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: schemathesis.Case) -> None:
            judge(case)

        call()
        called += 1
    return called


def authority(api: Api, case: schemathesis.Case) -> dict[str, str]:
    """What opens a route: the token, or GitHub's signature of the very bytes that are sent."""
    if case.path != _WEBHOOK:
        return api.authorization
    request = requests.Request(**case.as_transport_kwargs(base_url=api.address)).prepare()
    body = request.body or b""
    data = body.encode() if isinstance(body, str) else body
    signature = hmac.digest(SECRETS["CONTROLLER_WEBHOOK_SECRET"].encode(), data, hashlib.sha256).hex()
    return {"X-Hub-Signature-256": f"sha256={signature}"}


def takes_values(operation: schemathesis.APIOperation) -> bool:
    described = operation.definition.raw
    return bool(described.get("parameters") or described.get("requestBody"))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_documented(api, mode):
    def judge(case):
        response = case.call(base_url=api.address, headers=authority(api, case), timeout=30)
        case.validate_response(response, checks=_CHECKS)

    assert call_all(api, mode, judge, _EXAMPLES) >= 2


def test_nothing_answers_a_stranger(api):
    def judge(case):
        if case.path in _PUBLIC:
            return
        for headers in ({"Origin": api.address}, {"Origin": api.address, "Authorization": "Bearer wrong"}):
            response = case.call(base_url=api.address, headers=headers, timeout=30)
            assert response.status_code in (401, 429), (case.method, case.path, response.status_code)

    call_all(api, GenerationMode.POSITIVE, judge, 2)


def test_an_undocumented_answer_would_be_found(stack):
    document = copy.deepcopy(stack.agent.openapi())
    del document["paths"]["/agent/status"]["get"]["responses"]["401"]
    operation = schemathesis.openapi.from_dict(document)["/agent/status"]["GET"]
    with serving(stack.agent) as address:
        case = operation.Case()
        response = case.call(base_url=address, timeout=30)
        assert response.status_code == 401
        with pytest.raises(FailureGroup, match="Undocumented status code"):
            case.validate_response(response, checks=_CHECKS)


@pytest.mark.parametrize("api", ["operator"], indirect=True)
def test_a_delivery_like_the_documents_example_is_taken_by_its_signature_alone(api):
    PullRequestEvent.model_validate(EXAMPLE)
    headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d1"}
    case = api.schema[_WEBHOOK]["POST"].Case(headers=headers, body=EXAMPLE, media_type="application/json")
    assert case.call(base_url=api.address, headers=authority(api, case), timeout=30).status_code == 200
    assert case.call(base_url=api.address, headers=api.authorization, timeout=30).status_code == 401


def test_git_is_described(stack):
    paths = stack.agent.openapi()["paths"]
    prefix = "/agent/repository.git"
    assert {path.removeprefix(prefix) for path in paths if path.startswith(prefix)} == {
        "/info/refs", "/git-upload-pack", "/git-receive-pack",
    }  # fmt: skip
    for path in (f"{prefix}/git-upload-pack", f"{prefix}/git-receive-pack"):
        (content,) = paths[path]["post"]["requestBody"]["content"].values()
        assert content["example"]
        assert paths[path]["post"]["security"] == [{"agent": []}, {"login": []}]


def test_what_is_sent_has_examples(stack):
    for app in (stack.app, stack.agent):
        document = app.openapi()
        text = json.dumps([one.get("requestBody") for path in document["paths"].values() for one in path.values()])
        names = set(re.findall(r"#/components/schemas/(\w+)", text))
        assert names
        for name in names:
            for field, described in document["components"]["schemas"][name]["properties"].items():
                assert described.get("examples"), f"{name}.{field}"


def test_the_document_is_complete(api):
    for operation in api.operations():
        described = operation.definition.raw
        assert described["summary"] and described["description"], operation.label
        assert {"400", "401", "404", "409", "422", "423", "429", "502", "503", "507"} <= set(described["responses"])
        assert described["security"] or operation.path in _PUBLIC
