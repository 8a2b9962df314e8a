from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_app import queries
from broker_app.queries import own_filters, parse_query
from broker_app.refusal import Refused
from tests.support.broker_samples import make_settings

# As the Docker client 26.1.5 sent it for `docker ps -a --filter label=openclaw.sandbox=1`.
FILTERS = "%7B%22label%22%3A%7B%22openclaw.sandbox%3D1%22%3Atrue%7D%7D"
LABEL = '{"label":["openclaw.sandbox=1"]}'


@pytest.mark.parametrize(
    ("spec", "raw", "values"),
    [
        (queries.NO_QUERY, "", {}),
        (queries.CONTAINER_CREATE, "name=clawfactory-x-sbx-a", {"name": "clawfactory-x-sbx-a"}),
        (queries.CONTAINER_LIST, "", {}),
        (queries.CONTAINER_LIST, f"all=1&filters={FILTERS}", {"all": True, "filters": LABEL}),
        (queries.CONTAINER_LIST, "limit=3&all=0", {"limit": 3, "all": False}),
        (queries.CONTAINER_LIST, 'filters={"name":{"^/a$":true}}'.replace('"', "%22").replace("{", "%7B")
            .replace("}", "%7D").replace("^", "%5E").replace("$", "%24"), {"filters": '{"name":["^/a$"]}'}),
        (queries.CONTAINER_INSPECT, "size=0", {"size": False}),
        (queries.CONTAINER_STOP, "t=1", {"t": 1}),
        (queries.CONTAINER_REMOVE, "force=1", {"force": True}),
        (queries.CONTAINER_REMOVE, "v=1&force=true", {"force": True, "v": True}),
        (queries.CONTAINER_LOGS, "stdout=1&stderr=1", {"stdout": True, "stderr": True, "tail": 5000}),
        (queries.CONTAINER_LOGS, "tail=20&since=1700000000.5", {"tail": 20, "since": "1700000000.5"}),
        (queries.EXEC_RESIZE, "h=24&w=80", {"h": 24, "w": 80}),
    ],
)  # fmt: skip
def test_query_is_read(spec, raw, values):
    assert parse_query(spec, raw) == values


@pytest.mark.parametrize(
    ("spec", "raw"),
    [
        (queries.NO_QUERY, "a=1"),
        (queries.NO_QUERY, "&"),
        (queries.NO_QUERY, "?"),
        (queries.CONTAINER_CREATE, ""),
        (queries.CONTAINER_CREATE, "name="),
        (queries.CONTAINER_CREATE, "name"),
        (queries.CONTAINER_CREATE, "Name=clawfactory-x-sbx-a"),
        (queries.CONTAINER_CREATE, "name=a%62"),
        (queries.CONTAINER_CREATE, "name=ab+c"),
        (queries.CONTAINER_CREATE, "name=ab/c"),
        (queries.CONTAINER_CREATE, "name=ab&name=ab"),
        (queries.CONTAINER_CREATE, "name=ab;platform=linux"),
        (queries.CONTAINER_CREATE, "name=ab&platform=linux"),
        (queries.CONTAINER_CREATE, "%6eame=ab"),
        (queries.CONTAINER_CREATE, "name=ab\n"),
        (queries.CONTAINER_CREATE, "name=" + "a" * 129),
        (queries.CONTAINER_LIST, "size=1"),
        (queries.CONTAINER_LIST, "all=1&"),
        (queries.CONTAINER_LIST, "all=yes"),
        (queries.CONTAINER_LIST, "all=%31"),
        (queries.CONTAINER_LIST, "limit=-1"),
        (queries.CONTAINER_LIST, "limit=1e3"),
        (queries.CONTAINER_LIST, "filters=%7B"),
        (queries.CONTAINER_LIST, "filters=%7b%7d%"),
        (queries.CONTAINER_LIST, "filters=[]"),
        (queries.CONTAINER_LIST, "filters=%7B%22label%22%3A%7B%22a%22%3Atrue%2C%22a%22%3Atrue%7D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22label%22%3A%7B%22a%22%3Afalse%7D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22label%22%3A%7B%7D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22label%22%3A%22a%22%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22label%22%3A%5B1%5D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22volume%22%3A%5B%22a%22%5D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22status%22%3A%5B%22up%22%5D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22name%22%3A%5B%22a.*%7C.*%22%5D%7D"),
        (queries.CONTAINER_LIST, "filters=%7B%22id%22%3A%5B%22xyz%22%5D%7D"),
        (queries.CONTAINER_LIST, "filters=%FF%FE"),
        (queries.CONTAINER_LIST, "filters=" + "%20" * 2000),
        (queries.CONTAINER_INSPECT, "size=1"),
        (queries.CONTAINER_STOP, "t=61"),
        (queries.CONTAINER_STOP, "t=-1"),
        (queries.CONTAINER_STOP, "t=\u0661"),
        (queries.CONTAINER_STOP, "t=1&signal=SIGKILL"),
        (queries.CONTAINER_REMOVE, "link=1"),
        (queries.CONTAINER_LOGS, "tail=all"),
        (queries.CONTAINER_LOGS, "tail=5001"),
        (queries.CONTAINER_LOGS, "details=1"),
        (queries.EXEC_RESIZE, "h=24"),
        (queries.EXEC_RESIZE, "h=24&w=0"),
    ],
)
def test_query_that_is_not_listed_is_refused(spec, raw):
    with pytest.raises(Refused) as refusal:
        parse_query(spec, raw)
    assert refusal.value.status == 400


@given(
    st.sampled_from(queries.ENDPOINTS), st.text(max_size=40) | st.from_regex(r"(?:[a-z]{1,7}=[0-9a-z%+]{0,6}&?){1,3}")
)
def test_arbitrary_query_gives_known_keys_or_a_refusal(spec, raw):
    try:
        values = parse_query(spec, raw)
    except Refused:
        return
    assert values.keys() <= spec.keys.keys()
    assert spec.required <= values.keys()


def test_filters_are_confined_to_own_containers():
    settings = make_settings()
    own = ["clawfactory.bot=bot1", "clawfactory.service=sandbox"]
    assert json.loads(own_filters(settings, None, sandboxes_only=True)) == {"label": own}
    assert json.loads(own_filters(settings, None, sandboxes_only=False)) == {"label": own[:1]}
    asked = '{"label":["openclaw.sandbox=1"],"status":["running"]}'
    assert json.loads(own_filters(settings, asked, sandboxes_only=True)) == {
        "label": ["openclaw.sandbox=1", *own],
        "status": ["running"],
    }
    foreign = '{"label":["clawfactory.bot=bot2"]}'
    labels = json.loads(own_filters(settings, foreign, sandboxes_only=True))["label"]
    assert labels == ["clawfactory.bot=bot2", *own], "the engine wants all of them, so it finds nothing"
