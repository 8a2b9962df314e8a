from __future__ import annotations

import json
import re

import pytest

from clawfactory_core.jobs import protocol
from clawfactory_core.jobs.protocol import Refusal, parse_answer, parse_request

SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "5d" * 32
ID = "0123456789abcdef01234567"

GOOD = [
    {"op": "snapshot", "actor": "agent"},
    {"op": "snapshot", "actor": "operator", "label": "before the update_1"},
    {"op": "snapshot", "actor": "operator", "label": ""},
    {"op": "promotion", "actor": "operator", "source": "dashboard"},
    {"op": "promotion", "actor": "octo-cat[bot]", "source": "polling", "sha": SHA},
    {
        "op": "promotion",
        "actor": "x",
        "source": "webhook",
        "sha": SHA,
        "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    },
    {"op": "promotion", "actor": "operator", "source": "dashboard", "proposal": "new-soul", "expected_sha": SHA},
    {"op": "rollback", "actor": "operator"},
    {"op": "rollback", "actor": "operator", "sha": SHA},
    {"op": "deny", "actor": "operator", "proposal": "a", "reason": "No.\nNot – ever."},
    {"op": "memory_backup", "actor": "operator"},
    {"op": "lock", "actor": "operator"},
    {"op": "lock", "actor": "operator", "reason": "It talks to strangers."},
    {"op": "job", "id": ID},
    {"op": "follow", "id": ID},
    {"op": "jobs"},
    {"op": "snapshots"},
    {"op": "promotion_info"},
    {"op": "snapshot_verify", "actor": "operator", "snapshot": "a_b-c--2026-11-22T10-00-00Z", "how": "content"},
    {"op": "snapshot_restore", "actor": "operator", "snapshot": "snapshot-2024-01-02T03-04-05Z"},
    {"op": "snapshot_rename", "actor": "operator", "snapshot": "a--2026-11-22T10-00-00Z", "new_label": "kept_1"},
    {"op": "snapshot_delete", "actor": "operator", "snapshot": "a--2026-11-22T10-00-00Z"},
    {"op": "snapshot_contents", "snapshot": "a--2026-11-22T10-00-00Z"},
    {"op": "snapshot_contents", "snapshot": "a--2026-11-22T10-00-00Z", "path": r"workspace/a\0040b"},
    {"op": "machine_info"},
    {"op": "memory_info"},
    {"op": "egress_info"},
    {"op": "audit"},
    {"op": "audit", "event": "restore.undone", "before": "7"},
    {"op": "audit_verify"},
    {"op": "refused", "what": "webhook", "code": "signature", "count": "1"},
    {"op": "refused", "what": "push", "code": "content", "count": "999999"},
    {"op": "config", "actor": "operator", "text": "{ // 日本\r\n\ta: 1,\n}", "base": DIGEST},
    {"op": "config", "actor": "operator", "text": "é" * 32768, "base": DIGEST},
    {"op": "config", "actor": "operator", "text": '"\n' * 32768, "base": DIGEST},
    {"op": "config_revert", "actor": "operator", "base": DIGEST},
    {"op": "config_info"},
    {"op": "ollama_info"},
    {"op": "config_check"},
    {"op": "config_check", "text": ""},
    {"op": "decided", "actor": "operator", "decision": "gateway.restart", "outcome": "asked"},
    {
        "op": "decided",
        "actor": "operator",
        "decision": "pairing.approve",
        "outcome": "done",
        "request": "b3b4",
        "channel": "telegram",
        "account": "my bot",
        "subject": "+49 170 1",
    },
]

BAD = [
    "",
    "null",
    "[]",
    '"jobs"',
    "{",
    "{}",
    '{"op":null}',
    '{"op":["jobs"]}',
    '{"op":{}}',
    '{"op":"resume"}',
    '{"op":"JOBS"}',
    '{"op":"jobs","id":"x"}',
    '{"op":"jobs","op":"jobs"}',
    '{"op":"jobs","":""}',
    '{"op":"job"}',
    '{"op":"refused","what":"webhook","code":"signature"}',
    '{"op":"refused","what":"webhook","code":"signature","count":1}',
    '{"op":"refused","what":"webhook","code":"signature","count":"0"}',
    '{"op":"refused","what":"webhook","code":"signature","count":"1000000"}',
    '{"op":"refused","what":"webhook","code":"signature","count":"1","delivery":"x"}',
    '{"op":"refused","what":"webhook","code":"content","count":"1"}',
    '{"op":"refused","what":"push","code":"the token is","count":"1"}',
    '{"op":"refused","what":"promotion","code":"content","count":"1"}',
    '{"op":"job","id":null}',
    '{"op":"job","id":7}',
    '{"op":"job","id":["<id>"]}',
    '{"op":"job","id":"<id>\\n"}',
    '{"op":"job","id":"<id>","id":"<id>"}',
    '{"op":"job","id":"../../../../etc/passwd00"}',
    '{"op":"snapshot"}',
    '{"op":"snapshot","actor":"octocat"}',
    '{"op":"snapshot_restore","actor":"operator","snapshot":"latest"}',
    '{"op":"snapshot_delete","actor":"operator","snapshot":"../x--2026-11-22T10-00-00Z"}',
    '{"op":"snapshot_delete","actor":"operator","snapshot":"a--2026-11-22T10-00-00Z\\n"}',
    '{"op":"snapshot_delete","actor":"operator"}',
    '{"op":"snapshot_verify","actor":"operator","snapshot":"a--2026-11-22T10-00-00Z"}',
    '{"op":"snapshot_contents"}',
    '{"op":"snapshot_contents","snapshot":"a--2026-11-22T10-00-00Z","path":""}',
    '{"op":"snapshot_contents","snapshot":"a--2026-11-22T10-00-00Z","path":"a b"}',
    '{"op":"snapshot_contents","snapshot":"a--2026-11-22T10-00-00Z","path":"a\\\\0999"}',
    '{"op":"snapshot_contents","snapshot":"a--2026-11-22T10-00-00Z","path":"a\\n"}',
    '{"op":"snapshot_verify","actor":"operator","snapshot":"a--2026-11-22T10-00-00Z","how":"no"}',
    '{"op":"snapshot_rename","actor":"operator","snapshot":"a--2026-11-22T10-00-00Z","new_label":""}',
    '{"op":"snapshot_rename","actor":"operator","snapshot":"a--2026-11-22T10-00-00Z","new_label":"a/b"}',
    '{"op":"decided","actor":"operator","decision":"device.approve"}',
    '{"op":"decided","actor":"operator","decision":"promotion","outcome":"done"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"promoted"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"done","request":"--all"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"done","subject":"a\\nb"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"done","subject":"\\u202e"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"done","subject":"' + "a" * 201 + '"}',
    '{"op":"decided","actor":"operator","decision":"pairing.approve","outcome":"done","channel":"Telegram"}',
    '{"op":"decided","actor":"operator","decision":"device.approve","outcome":"done","bot":"bot2"}',
    '{"op":"audit","before":"-1"}',
    '{"op":"audit","before":7}',
    '{"op":"audit","event":"<b>"}',
    '{"op":"audit","path":"/etc/shadow"}',
    '{"op":"machine_info","root":"/"}',
    '{"op":"config","actor":"operator","text":"{}"}',
    '{"op":"config","actor":"operator","base":"<digest>"}',
    '{"op":"config","actor":"operator","text":"{}","base":"main"}',
    '{"op":"config","actor":"operator","text":"\\u0000","base":"<digest>"}',
    '{"op":"config","actor":"operator","text":"\\ud800","base":"<digest>"}',
    '{"op":"config","actor":"operator","text":"' + "a" * 65537 + '","base":"<digest>"}',
    '{"op":"config","actor":"operator","text":"' + "é" * 32769 + '","base":"<digest>"}',
    '{"op":"config","actor":"operator","text":{},"base":"<digest>"}',
    '{"op":"config_revert","actor":"operator","base":"<digest>","text":"{}"}',
    '{"op":"config_info","path":"/etc/shadow"}',
    '{"op":"ollama_info","url":"http://10.0.0.1"}',
    '{"op":"config_check","image":"evil"}',
    '{"op":"snapshot","actor":"operator","label":"a/b"}',
    '{"op":"snapshot","actor":"operator","label":"' + "a" * 65 + '"}',
    '{"op":"snapshot","actor":"operator","kind":"full"}',
    '{"op":"promotion","source":"dashboard"}',
    '{"op":"promotion","actor":"","source":"dashboard"}',
    '{"op":"promotion","actor":"a b","source":"dashboard"}',
    '{"op":"promotion","actor":"\\u001b[31m","source":"dashboard"}',
    '{"op":"promotion","actor":"' + "a" * 101 + '","source":"dashboard"}',
    '{"op":"promotion","actor":"a","source":"playbook"}',
    '{"op":"promotion","actor":"a","source":"dashboard","sha":"main"}',
    '{"op":"promotion","actor":"a","source":"dashboard","sha":"0123456789ABCDEF0123456789abcdef01234567"}',
    '{"op":"promotion","actor":"a","source":"dashboard","sha":"0123456789abcdef0123456789abcdef0123456"}',
    '{"op":"promotion","actor":"a","source":"dashboard","sha":"--upload-pack=touch /tmp/x-----------------"}',
    '{"op":"promotion","actor":"a","source":"dashboard","proposal":"x"}',
    '{"op":"promotion","actor":"a","source":"dashboard","expected_sha":"<sha>"}',
    '{"op":"promotion","actor":"a","source":"dashboard","proposal":"-x","expected_sha":"<sha>"}',
    '{"op":"promotion","actor":"a","source":"dashboard","proposal":"a/../b","expected_sha":"<sha>"}',
    '{"op":"promotion","actor":"a","source":"dashboard","proposal":"x","expected_sha":"<sha>","sha":"<sha>"}',
    '{"op":"promotion","actor":"a","source":"dashboard","sha":"<sha>","delivery":"x"}',
    '{"op":"promotion","actor":"a","source":"webhook","sha":"<sha>"}',
    '{"op":"promotion","actor":"a","source":"webhook","delivery":"x"}',
    '{"op":"promotion","actor":"a","source":"webhook","sha":"<sha>","delivery":"a b"}',
    '{"op":"rollback"}',
    '{"op":"rollback","actor":"a","source":"webhook"}',
    '{"op":"deny","actor":"a","proposal":"x","reason":""}',
    '{"op":"deny","actor":"a","proposal":"x","reason":"\\u0000"}',
    '{"op":"deny","actor":"a","proposal":"x","reason":"\\u009b"}',
    '{"op":"deny","actor":"a","proposal":"x","reason":"\\ud800"}',
    '{"op":"deny","actor":"a","proposal":"x","reason":"' + "a" * 501 + '"}',
    "[" * 60000,
    '{"op":' * 10000,
    "9" * 60000,
    '{"op":NaN}',
]  # fmt: skip


@pytest.mark.parametrize("request_", GOOD, ids=lambda value: "-".join(map(str, value.values()))[:60])
def test_a_request_comes_through_as_it_was_meant(request_):
    found = parse_request(protocol.encode(request_))
    assert {"op": found.op, **found.fields} == request_


@pytest.mark.parametrize("line", BAD, ids=range(len(BAD)))
def test_every_other_line_is_refused_in_short_and_plain_words(line):
    with pytest.raises(Refusal) as caught:
        parse_request(line.replace("<sha>", SHA).replace("<id>", ID).replace("<digest>", DIGEST).encode())
    assert caught.value.status == 400
    assert len(caught.value.detail) < 500
    assert caught.value.detail.isprintable()


def test_a_line_has_its_bound():
    line = b'{"op":"jobs"}'
    assert parse_request(line + b" " * (protocol.REQUEST_BYTES - len(line))).op == "jobs"
    with pytest.raises(Refusal) as caught:
        parse_request(line + b" " * (protocol.REQUEST_BYTES - len(line) + 1))
    assert caught.value.status == 413


def test_a_refusal_comes_through_as_one():
    refusal = Refusal(423, "Locked", "because")
    with pytest.raises(Refusal) as caught:
        parse_answer(protocol.encode(refusal.to_dict()))
    assert (caught.value.status, caught.value.title, caught.value.detail) == (423, "Locked", "because")


@pytest.mark.parametrize("line", [b"", b"[]", b"\xff", b'{"status":"x"}', b"[" * 100000])
def test_what_is_no_answer_is_said_to_be_none(line):
    with pytest.raises(Refusal) as caught:
        parse_answer(line)
    assert caught.value.status == 502


def test_the_text_names_every_op_and_field_that_is_accepted():
    text = protocol.__doc__ or ""
    rows = dict(re.findall(r"^``(\w+)`` +(.*?)(?=^``|^===)", text, flags=re.MULTILINE | re.DOTALL))
    rows.pop("op", None)
    named = {json.loads(protocol.encode(one))["op"] for one in GOOD}
    # The last row ends where the table does.
    assert set(rows) - {"audit_verify"} == named - {"audit_verify"}
    for one in GOOD:
        for name in set(one) - {"op"}:
            assert f"``{name}``" in rows[one["op"]], (one["op"], name)
