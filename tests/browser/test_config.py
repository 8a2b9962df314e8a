"""The configuration's editor in a real browser: it completes, explains and complains; nothing is saved unseen."""

from __future__ import annotations

import json
import random
import re

import pytest
from playwright.sync_api import expect

from clawfactory_core.json5 import Json5Error, parse
from tests.support.config_machine import TEXT
from tests.support.json5_texts import scribble

from .test_looks import serious


@pytest.fixture
def editor(make_page):
    """Open the page and wait until the editor knows the schema."""

    def open_page(**options):
        page = make_page(**options)
        page.goto("/pages/config")
        expect(page.locator("#schema")).to_contain_text("OpenClaw 2026.9.6")
        return page

    return open_page


def content(page):
    return page.get_by_role("textbox", name="operator.json5")


def text_of(page):
    return page.locator("#text").input_value()


def write(page, text):
    """Replace the text as a person does, by the keyboard."""
    expect(page.locator("#editor")).to_be_visible()
    content(page).click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def test_the_editor_shows_what_is_saved(editor):
    page = editor()
    expect(content(page)).to_contain_text('logging: {level: "info"},')
    expect(page.locator("#text")).to_be_hidden()
    assert text_of(page) == TEXT
    expect(page.locator("#state")).to_contain_text("None found")


def test_a_syntax_error_is_seen_at_its_line(editor):
    page = editor()
    write(page, '{\n  logging: {\n    level "debug",\n  },\n}\n')
    entry = page.locator("#problem-list li")
    expect(entry).to_contain_text("Line 3")
    expect(entry).to_contain_text("a colon is missing after the key")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)
    expect(entry.get_by_role("link", name="Open in editor")).to_have_attribute(
        "href", "vscode://file/srv/clawfactory/bot_repos/bot1/config/operator.json5:3"
    )


def test_a_click_on_a_problem_goes_to_its_line(editor):
    page = editor()
    write(page, "{\n" + "  // a line\n" * 60 + '  logging: {level: "loud"},\n}\n')
    entry = page.locator("#problem-list li")
    expect(entry).to_contain_text('logging.level has to be one of "silent", "error", "warn", "info", "debug", "trace"')
    entry.get_by_role("link", name="Line 62").click()
    expect(content(page)).to_be_focused()
    expect(page.locator(".cm-activeLine")).to_have_text('  logging: {level: "loud"},')
    expect(page.locator(".cm-activeLine")).to_be_in_viewport()


def test_a_schema_error_is_seen_as_one_types(editor):
    page = editor()
    write(page, "{\n  logging: {\n    levle: 'info',\n    maxFileBytes: -1,\n  },\n  agents: [],\n}\n")
    expect(page.locator("#problem-list li")).to_have_text(
        [
            "Line 3 logging.levle there is no setting levle here; level is there Open in editor",
            "Line 4 logging.maxFileBytes has to be more than 0 Open in editor",
            "Line 6 agents has to be an object in braces, not a list in brackets Open in editor",
        ]
    )
    # What is missing is said, but not of what has a default or stands in the managed layer.
    write(page, "{models: {providers: {ollama: {models: [{id: 'm'}]}, own: {models: []}}}}")
    expect(page.locator("#problem-list li")).to_contain_text(
        ["models.providers.ollama.models.0 name is missing", "models.providers.own baseUrl is missing"]
    )
    expect(page.locator("#problem-list li")).to_have_count(2)
    write(page, "{logging: {level: '${LEVEL}', file: null}}")
    expect(page.locator("#problem-list li")).to_have_count(1)
    expect(page.locator("#problem-list li")).to_contain_text("logging.file has to be a text in quotes, not null")


def test_keys_and_values_are_completed(editor):
    page = editor()
    write(page, "{\n  ")
    page.keyboard.type("log")
    options = page.locator(".cm-tooltip-autocomplete li")
    expect(options).to_contain_text(["logging"])
    page.wait_for_timeout(100)  # CodeMirror takes no Enter in the first 75 ms, so that nobody chooses by mistake
    page.keyboard.press("Enter")
    page.keyboard.type("{lev")
    expect(options).to_contain_text(["level"])
    expect(page.locator(".cm-completionInfo")).to_contain_text("Primary log level threshold")
    page.wait_for_timeout(100)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Space")
    expect(options).to_have_text(['"silent"', '"error"', '"warn"', '"info"', '"debug"', '"trace"'])
    page.keyboard.type('"de')
    expect(options).to_have_text(['"debug"'])
    page.wait_for_timeout(100)
    page.keyboard.press("Enter")
    expect(content(page)).to_contain_text('logging: {level: "debug"}')
    # A key that is there is not offered again.
    page.keyboard.type(", ")
    page.keyboard.press("Control+Space")
    expect(options).to_have_text(["filestring", "maxFileBytesinteger"])


def test_hover_explains(editor):
    page = editor()
    page.get_by_text("level", exact=True).hover()
    help_ = page.locator(".cm-tooltip .help")
    expect(help_).to_contain_text("Log Level")
    expect(help_).to_contain_text("Primary log level threshold")
    expect(help_).to_contain_text('"silent"')
    # What the schema says nothing of, its hints may.
    write(page, '{logging: {file: "x"}}')
    page.get_by_text("file", exact=True).hover()
    expect(help_).to_contain_text("Where the log goes.")


def test_format_keeps_comments_and_can_be_taken_back(editor):
    page = editor()
    messy = "{// one\nlogging:{level:'debug'  ,/* two */},\n\n\n\nagents:{},// three\n}"
    write(page, messy)
    page.get_by_role("button", name="Format").click()
    expect(page.locator("#state")).to_have_text("Formatted. Nothing is saved yet.")
    assert text_of(page) == (
        "{\n  // one\n  logging: {\n    level: 'debug', /* two */\n  },\n\n  agents: {}, // three\n}\n"
    )
    content(page).press("Control+z")
    assert text_of(page) == messy
    write(page, "{a: }")
    page.get_by_role("button", name="Format").click()
    expect(page.locator("#state")).to_contain_text("a value is missing")
    assert text_of(page) == "{a: }"


def test_openclaw_looks_at_a_text_on_demand(editor, stack):
    page = editor()
    stack.config.problems = [{"path": "logging.level", "message": "Invalid input", "line": 3, "column": 3}]
    page.get_by_role("button", name="Check with OpenClaw").click()
    expect(page.locator("#problem-list li")).to_contain_text("Line 3 logging.level Invalid input")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)
    # It was about that text, not about another.
    content(page).press("Control+End")
    page.keyboard.type("// more")
    expect(page.locator("#problem-list li")).to_have_count(0)
    stack.config.problems = []
    page.get_by_role("button", name="Check with OpenClaw").click()
    expect(page.locator("#state")).to_have_text("OpenClaw takes this text.")
    assert stack.jobs.asked("config_check")[-1] == {"text": TEXT + "// more"}


@pytest.mark.parametrize("scripts", [True, False])
def test_a_change_is_shown_before_it_is_saved(editor, make_page, stack, scripts):
    if scripts:
        page = editor()
        write(page, TEXT.replace('"info"', '"debug"'))
    else:
        page = make_page(scripts=False)
        page.goto("/pages/config")
        page.get_by_label("operator.json5").fill(TEXT.replace('"info"', '"debug"'))
    page.get_by_role("button", name="Review and save…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Save this change?")
    expect(page.locator(".diff del, .diff ins")).to_have_text(["info", "debug"])
    assert stack.jobs.asked("config") == []
    page.get_by_role("button", name="Save and restart bot1").click()
    if scripts:
        expect(page.get_by_role("heading", level=1)).to_have_text("Change of the configuration is done")
        expect(page.get_by_text("bot1 was restarted and got ready with it")).to_be_visible()
    page.goto("/pages/config")
    assert stack.config.text == TEXT.replace('"info"', '"debug"')
    assert text_of(page) == stack.config.text


@pytest.mark.parametrize("scripts", [True, False])
def test_what_openclaw_refuses_is_not_saved_and_not_lost(editor, make_page, stack, scripts):
    stack.config.problems = [{"path": "agents.defaults", "message": "<b>Unknown</b> model", "line": 6, "column": 5}]
    text = TEXT.replace('"low"', '"high"')
    if scripts:
        page = editor()
        write(page, text)
    else:
        page = make_page(scripts=False)
        page.goto("/pages/config")
        page.get_by_label("operator.json5").fill(text)
    page.get_by_role("button", name="Review and save…").click()
    entry = page.locator("#problem-list li")
    expect(entry).to_contain_text("Line 6 agents.defaults <b>Unknown</b> model")
    if scripts:
        expect(page.locator(".cm-lint-marker-error")).to_have_count(1)
        entry.get_by_role("link", name="Line 6").click()
        expect(page.locator(".cm-activeLine")).to_contain_text("defaults")
    assert text_of(page) == text and stack.config.text == TEXT and stack.jobs.asked("config") == []


def test_two_editors_do_not_overwrite_each_other(editor, stack):
    mine, theirs = editor(), editor()
    write(mine, TEXT.replace('"info"', '"debug"'))
    write(theirs, TEXT.replace('"low"', '"high"'))
    # Both have seen their change before either of them saves.
    for page in (mine, theirs):
        page.get_by_role("button", name="Review and save…").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Save this change?")
    theirs.get_by_role("button", name="Save and restart bot1").click()
    expect(theirs.get_by_role("heading", level=1)).to_have_text("Change of the configuration is done")
    mine.get_by_role("button", name="Save and restart bot1").click()
    expect(mine.get_by_role("alert")).to_contain_text("Somebody else saved meanwhile")
    # What they saved is on the left, what I wrote on the right, and my text is in the field.
    expect(mine.locator(".diff del")).to_have_text(["info", "high"])
    expect(mine.locator(".diff ins")).to_have_text(["debug", "low"])
    assert text_of(mine) == TEXT.replace('"info"', '"debug"')
    assert stack.config.text == TEXT.replace('"low"', '"high"')
    # Taken over, it can be saved.
    write(mine, TEXT.replace('"info"', '"debug"').replace('"low"', '"high"'))
    mine.get_by_role("button", name="Review and save…").click()
    expect(mine.locator(".diff del, .diff ins")).to_have_text(["info", "debug"])
    mine.get_by_role("button", name="Save and restart bot1").click()
    expect(mine.get_by_role("heading", level=1)).to_have_text("Change of the configuration is done")
    assert '"debug"' in stack.config.text and '"high"' in stack.config.text


def test_what_was_put_back_is_said_and_offered_again(editor, stack):
    stack.config.ready = False
    page = editor()
    text = TEXT.replace('"info"', '"trace"')
    write(page, text)
    page.get_by_role("button", name="Review and save…").click()
    page.get_by_role("button", name="Save and restart bot1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Change of the configuration has failed")
    expect(page.get_by_text("has the configuration of before")).to_be_visible()
    page.get_by_role("link", name="Back to the configuration").click()
    assert text_of(page) == TEXT
    page.get_by_role("button", name="Take it up").click()
    assert text_of(page) == text
    expect(content(page)).to_contain_text("trace")


def test_go_back_to_the_one_of_before(editor, stack):
    stack.config.known_good = TEXT.replace('"info"', '"warn"')
    page = editor()
    page.get_by_role("link", name="Go back to the one of before").click()
    expect(page.locator(".diff del, .diff ins")).to_have_text(["info", "warn"])
    assert stack.jobs.asked("config_revert") == []
    page.get_by_role("button", name="Go back and restart bot1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Return to the configuration of before is done")
    assert '"warn"' in stack.config.text and stack.config.known_good == TEXT


def test_edit_on_after_the_review(editor):
    page = editor()
    text = TEXT.replace('"info"', '"error"')
    write(page, text)
    page.get_by_role("button", name="Review and save…").click()
    page.get_by_role("button", name="Edit on").click()
    expect(content(page)).to_contain_text("error")
    assert text_of(page) == text


OLLAMA = {
    "id": "ollama",
    "url": "http://host.docker.internal:11434",
    "problem": "",
    "models": [
        {"name": "gemma4:12b", "size": 8149190253, "context": 131072, "tokens": 15360, "problem": ""},
        {"name": "qwen3.5:122b", "size": 81 << 30, "context": 262144, "tokens": 0,
         "problem": "there is not enough free memory for it"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("scripts", [True, False])
def test_a_model_of_ollama_is_found_and_added(editor, make_page, stack, scripts):
    stack.config.ollama["ollama"]["providers"] = [OLLAMA]
    page = editor() if scripts else make_page(scripts=False)
    page.goto("/pages/config")
    page.get_by_role("button", name="Look for models").click()
    expect(page.get_by_text("Room for a context of 15,360 tokens")).to_be_visible()
    expect(page.get_by_text("there is not enough free memory for it")).to_be_visible()
    page.get_by_role("button", name="Add gemma4:12b to the text").click()
    expect(page.get_by_text("gemma4:12b is in the text now. Nothing is saved yet.")).to_be_visible()
    assert text_of(page) == TEXT[:-2] + (
        '  models: {\n    providers: {\n      ollama: {\n        models: [\n          {id: "gemma4:12b", '
        'name: "gemma4:12b", contextWindow: 131072, contextTokens: 15360},\n        ],\n      },\n    },\n  },\n}\n'
    )
    assert stack.config.text == TEXT
    if not scripts:
        return
    # The managed layer has the address, so nothing is missing.
    expect(page.locator("#problem-list li")).to_have_count(0)
    page.get_by_role("button", name="Add gemma4:12b to the text").click()
    expect(page.locator("#state")).to_contain_text("gemma4:12b is there already, in line 14")


def test_without_ollama_the_page_says_how_to_get_it(editor, stack):
    page = editor()
    page.get_by_role("button", name="Look for models").click()
    expect(page.get_by_text("bot_providers: [{name: ollama}]")).to_be_visible()


def test_without_a_schema_the_page_still_edits(make_page):
    page = make_page()
    page.route("**/gateway/config/schema", lambda route: route.fulfill(status=423, json={"detail": "bot1 is locked"}))
    page.goto("/pages/config")
    expect(page.locator("#schema")).to_have_text("Without completion: bot1 is locked")
    write(page, "{a: }")
    expect(page.locator("#problem-list li")).to_contain_text("a value is missing")


def test_the_schema_of_a_gateway_that_starts_comes_later(make_page, complaints):
    page = make_page()
    page.clock.install()
    page.route("**/gateway/config/schema", lambda route: route.fulfill(status=503, json={"detail": "it starts"}))
    page.goto("/pages/config")
    expect(page.locator("#schema")).to_have_text("Without completion: it starts")
    complaints.clear()  # of the browser, about that answer
    page.unroute("**/gateway/config/schema")
    page.clock.fast_forward(10_000)
    expect(page.locator("#schema")).to_contain_text("OpenClaw 2026.9.6")


def test_leaving_with_a_change_asks_first(editor):
    page = editor()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    write(page, "{}")
    page.goto("/pages/jobs")
    assert asked == ["beforeunload"]


def test_the_keyboard_gets_in_and_out(editor):
    page = editor()
    content(page).focus()
    page.keyboard.press("Tab")
    expect(content(page)).not_to_be_focused()


def test_what_is_typed_runs_nowhere(editor):
    page = editor()
    write(page, '{"<img src=x onerror=alert(1)>": "</textarea><script>alert(2)</script>"}')
    expect(page.locator("#problem-list li")).to_contain_text("<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Format").click()
    page.get_by_role("button", name="Review and save…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Save this change?")
    assert page.locator("main img, main script").count() == 0 and "code of the bot" not in page.title()


# What reads JSON5 in the browser, beside what reads it on the machine.

_BROKEN = [
    "", "{", "{\n  a\n}", "{\n  a: }", "{a: 1,, b: 2}", "{a: 1 b: 2}", "{a: 'x\n}", '{a: "x', "[1, 2", "[1 2]",
    "{1a: 2}", "{a: tru}", "{a: 1, a: 2}", "{a: 1} x", "/* x", "{a: 01}", "{a: '\\x4'}", "{a: '\\1'}", "{a: 1]", "{,}",
    "[,]", "a", "{a: .}", "{a: +}", "{a: 0x}", "{a: 1e}", "// only", "{a: b: c}", "{é: 1, 'é': 2}", "[" * 120,
    "{a: '\\u12g4'}",
]  # fmt: skip
_WHOLE = [
    TEXT, "{}", "[]", "null", " 'a' ", "[0x1F, +.5, 5., -Infinity, 1e3, -0x10]", "{$ünï: true, _: null}",
    "{'a b': 1, \"c\": 2,}", "'\\u0041\\x42\\\nc\\0\\v\\q'", "/* a */[/* b */1/* c */,// d\n]", "\ufeff{a: 1}",
    "{a: {b: [{c: 'd'}]}}", "'\\ud83d\\ude00'",
]  # fmt: skip
_READ = """async texts => {
    const { parse, valueOf } = await import('/static/editor/json5.js');
    const finite = (_, one) => (typeof one === 'number' && !Number.isFinite(one) ? String(one) : one);
    return texts.map(text => {
        const { root, errors } = parse(text);
        if (errors.length === 0) return { value: JSON.stringify(valueOf(root), finite) };
        const before = text.slice(0, errors[0].from).split('\\n');
        return { error: [errors[0].message, before.length, before.at(-1).length + 1] };
    });
}"""


def test_the_browser_reads_what_the_machine_reads(make_page):
    texts = [*_WHOLE, *(scribble(random.Random(seed)) for seed in range(200))]  # noqa: S311 - the same in every run
    for text, found in zip(texts, make_page().evaluate(_READ, texts), strict=True):
        assert "error" not in found, text
        value = json.dumps(parse(text)[0]).replace("-Infinity", '"-Infinity"')
        value = re.sub(r'(?<!["-])Infinity', '"Infinity"', value)
        assert json.loads(found["value"]) == json.loads(value), text


def test_the_browser_refuses_what_the_machine_refuses(make_page):
    for text, found in zip(_BROKEN, make_page().evaluate(_READ, _BROKEN), strict=True):
        with pytest.raises(Json5Error) as caught:
            parse(text)
        assert found.get("error") == [caught.value.message, caught.value.line, caught.value.column], text


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_the_editor_at_work_fits_and_is_accessible(editor, stack, scheme, width):
    stack.config.ollama["ollama"]["providers"] = [OLLAMA]
    page = editor(scheme=scheme, width=width)
    problems = []

    def look(what):
        if page.evaluate("document.documentElement.scrollWidth") > width:
            problems.append(f"{what} is wider than the window")
        problems.extend(f"{what}: {one}" for one in serious(page))

    page.get_by_role("button", name="Look for models").click()
    expect(page.get_by_text("Room for a context")).to_be_visible()
    write(page, "{\n  logging: {levle: 1, maxFileBytes: -1},\n  agents: {defaults: {\n    ")
    expect(page.locator("#problem-list li").first).to_be_visible()
    look("problems")
    write(page, TEXT.replace("logging", "logging: {},\n  "))
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_be_visible()
    look("completion")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+f")
    look("search")
    page.keyboard.press("Escape")
    write(page, TEXT.replace('"info"', '"debug"'))
    page.get_by_role("button", name="Review and save…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Save this change?")
    look("review")
    stack.config.text = "{}\n"
    page.get_by_role("button", name="Save and restart bot1").click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody else saved meanwhile")
    expect(page.locator("#editor")).to_be_visible()
    look("conflict")
    assert problems == []
