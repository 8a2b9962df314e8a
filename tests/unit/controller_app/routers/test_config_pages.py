"""The configuration's page as plain forms, which is what it is without scripts."""

from __future__ import annotations

import json
import re

import pytest

from clawfactory_core.jobs.protocol import Refusal
from tests.support.config_machine import TEXT, ConfigMachine, digest

pytestmark = pytest.mark.anyio
BASE = digest(TEXT)
NEW = TEXT.replace("info", "debug")


@pytest.fixture
def machine(jobs):
    return ConfigMachine(jobs)


@pytest.fixture
def post(operator, same_origin):
    """Send a form as the page does; its text comes with the ends of lines that browsers send."""

    async def send(action: str, text: str | None = NEW, base: str = BASE, **fields: str):
        form = {"base": base, **fields} | ({} if text is None else {"text": text.replace("\n", "\r\n")})
        return await operator.post(f"/pages/config/{action}", data=form, headers=same_origin)

    return send


def field(page: str) -> str:
    found = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert found is not None
    return found[1].replace("&#34;", '"')


async def test_the_page_has_the_text_and_what_it_is_made_from(operator, machine):
    response = await operator.get("/pages/config")
    assert response.status_code == 200 and field(response.text) == TEXT
    assert f'name="base" value="{BASE}"' in response.text
    assert "OPENCLAW_GATEWAY_TOKEN" in response.text, "the managed layer"
    assert "Go back to" not in response.text, "there is nothing to go back to yet"


async def test_a_stranger_sees_nothing_and_changes_nothing(client, machine, jobs, same_origin):
    assert (await client.get("/pages/config")).headers["location"] == "/login"
    for action in ("check", "format", "models", "review", "save", "revert", "edit"):
        response = await client.post(f"/pages/config/{action}", data={"text": NEW, "base": BASE}, headers=same_origin)
        assert response.headers["location"] == "/login", action
    assert jobs.requests == []


async def test_another_site_saves_nothing(operator, machine, jobs):
    for action in ("review", "save", "revert"):
        form = {"text": NEW, "base": BASE}
        response = await operator.post(f"/pages/config/{action}", data=form, headers={"Origin": "http://evil.example"})
        assert response.status_code == 403
    assert jobs.requests == []


async def test_review_validates_and_shows_the_change(post, machine, jobs):
    response = await post("review")
    assert response.status_code == 200 and "Save this change?" in response.text
    assert jobs.asked("config_check") == [{"text": NEW}] and jobs.asked("config") == []
    assert field(response.text.replace(' name="text" hidden', "")) == NEW


async def test_review_of_what_is_refused(post, machine, jobs):
    response = await post("review", "{\n  a: \n}")
    assert response.status_code == 422 and field(response.text) == "{\n  a: \n}"
    assert 'data-line="3" data-column="1"' in response.text and "a value is missing" in response.text


async def test_review_of_nothing_new(post, machine, jobs):
    response = await post("review", TEXT)
    assert "nothing to save" in response.text and jobs.asked("config_check") == []


@pytest.mark.parametrize("action", ["review", "save"])
async def test_somebody_else_was_first(post, machine, jobs, action):
    machine.text = TEXT.replace("low", "high")
    response = await post(action)
    assert response.status_code == 412 and "Somebody else saved meanwhile" in response.text
    assert field(response.text) == NEW
    assert f'name="base" value="{digest(machine.text)}"' in response.text, "the next review is made from what is there"
    assert jobs.asked("config") == []


async def test_save(post, machine, jobs):
    response = await post("save")
    (job,) = jobs.jobs
    assert (response.status_code, response.headers["location"]) == (303, f"/pages/jobs/{job}")
    assert jobs.asked("config") == [{"actor": "operator", "text": NEW, "base": BASE}]


async def test_the_machine_has_the_last_word(post, machine, jobs):
    jobs.answers["config"] = Refusal(423, "Locked", "bot1 is locked")
    assert (await post("save")).status_code == 423


async def test_go_back(operator, post, machine, jobs):
    response = await operator.get("/pages/config/revert")
    assert response.status_code == 404
    machine.known_good = NEW
    assert "Go back to the one of before" in (await operator.get("/pages/config")).text
    response = await operator.get("/pages/config/revert")
    assert response.status_code == 200 and "<del>info</del>" in response.text and "<ins>debug</ins>" in response.text
    response = await post("revert", None)
    assert response.status_code == 303 and jobs.asked("config_revert") == [{"actor": "operator", "base": BASE}]
    assert (await post("revert", None, base=digest(NEW))).status_code == 303, "made from what is there now"
    assert (await post("revert", None, base="0" * 64)).status_code == 412


async def test_format_and_add_without_saving(post, machine, jobs):
    assert field((await post("format", "{a:1\n}")).text) == "{\n  a: 1,\n}\n"
    response = await post("format", "{a: }")
    assert field(response.text) == "{a: }" and "line 1, column 5: a value is missing" in response.text
    model = {"text": "", "provider": "ollama", "model": "gemma4", "context": 8192, "tokens": 4096}
    response = await post("models", "{}\n", add=json.dumps(model))
    assert 'id: "gemma4"' in field(response.text) and "contextTokens: 4096" in field(response.text)
    again = await post("models", field(response.text), add=json.dumps(model))
    assert "gemma4 is there already, in line 6" in again.text
    assert {request["op"] for request in jobs.requests} == {"config_info"}


@pytest.mark.parametrize(
    "add", ["x", "[]", "{}", '{"text":"","provider":"../x","model":"m"}', '{"text":"","provider":"o","model":"a b"}']
)
async def test_a_model_that_no_page_names(post, machine, add):
    response = await post("models", add=add)
    assert response.status_code == 422 and "Nothing was added" in response.text


async def test_ollama_that_cannot_be_asked(post, machine, jobs):
    machine.ollama = Refusal(503, "No answer", "the jobs service is ending")
    response = await post("models")
    assert response.status_code == 200 and "the jobs service is ending" in response.text and field(response.text) == NEW


@pytest.mark.parametrize("base", ["", "x", BASE.upper(), BASE + "0"])
async def test_a_form_that_does_not_say_what_it_is_made_from(post, machine, jobs, base):
    for action in ("review", "save", "revert", "check"):
        assert (await post(action, base=base)).status_code == 422
    assert jobs.asked("config") == jobs.asked("config_revert") == []


async def test_a_text_that_is_too_long_or_no_text(post, machine, jobs):
    large = "{/* " + "x" * 65536 + " */}"
    assert (await post("review", large)).status_code == 413
    assert (await post("save", large)).status_code == 413
    assert (await post("review", "x" * 300_000)).status_code == 413
    assert (await post("save", "{}\x00")).status_code == 422
    assert jobs.asked("config") == []


SECRET = '{models: {providers: {own: {apiKey: "sk-0123456789abcdef"}}}}'


async def test_a_secret_that_somebody_wrote_there_is_not_shown(operator, client, bearer, post, machine):
    machine.text = SECRET
    pages = [await operator.get("/pages/config"), await post("review"), await post("edit"), await post("models")]
    pages.append(await client.get("/gateway/config", headers=bearer))
    machine.text, machine.known_good = TEXT, SECRET
    pages.append(await operator.get("/pages/config/revert"))
    pages.append(await client.get("/gateway/config/known-good", headers=bearer))
    for response in pages:
        assert response.status_code == 409, response.url
        assert "sk-0123456789abcdef" not in response.text
        assert "models.providers.own.apiKey (line 1)" in response.text


async def test_a_bot_without_the_link_has_none(operator, machine, settings):
    assert settings.editor_url == ""
    assert "Open in editor" not in (await operator.get("/pages/config")).text


async def test_below_a_prefix(operator, machine):
    page = (await operator.get("/pages/config", headers={"X-Forwarded-Prefix": "/bots/bot1"})).text
    assert 'action="/bots/bot1/pages/config/review"' in page and 'data-root="/bots/bot1"' in page
    assert 'src="/bots/bot1/static/editor/main.js"' in page
