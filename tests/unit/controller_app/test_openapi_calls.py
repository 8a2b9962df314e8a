"""Whatever fits the OpenAPI document, or does not, gets an answer that the document names: of both applications."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from tests.support.controller import SECRETS
from tests.support.controller_stack import ControllerStack, controller_stack, propose, serving

_EXAMPLES = 10
_NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
load_all_checks()
_CHECKS = CHECKS.get_by_names(list(_NAMES))
_PUBLIC = {"/health"}


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


def takes_values(operation: schemathesis.APIOperation) -> bool:
    described = operation.definition.raw
    return bool(described.get("parameters") or described.get("requestBody"))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_documented(api, mode):
    def judge(case):
        response = case.call(base_url=api.address, headers=api.authorization, timeout=30)
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
