from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.promotion.secret_rules import (
    MAX_FINDINGS,
    SHORTEST,
    Fingerprints,
    find_secrets,
    kept_key,
    make_fingerprints,
)
from clawfactory_core.promotion.secret_shapes import SHAPES

REPOSITORY = Path(__file__).parents[4]
TOKEN = "5f0c1d2e3b4a69788796a5b4c3d2e1f0"
PASSWORD = "p:ss w/örd!"
VALUES = ["short", TOKEN, PASSWORD, "http://models.internal:11434", "x" * SHORTEST]
KNOWN = "a value from the bot's own secrets"
# Put together here, so that no scanner takes this file for one that holds them.
SECRETS = {
    "an age private key": "AGE-SECRET-KEY-" + "1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
    "a private key (PEM, OpenSSH or OpenPGP)": "-----BEGIN OPENSSH "
    + "PRIVATE KEY-----\n"
    + "b3BlbnNzaC1rZXktdjEAAAAABG5v" * 3,
    "a PuTTY private key": "PuTTY-User-Key-" + "File-3: ssh-ed25519\r\nEncryption: none",
    "an Anthropic key": "sk-ant-" + "api03-" + "aB3_-" * 19,
    "an OpenAI key": "sk-" + "proj-" + "aB3_-" * 20,
    "an OpenRouter key": "sk-" + "or-v1-" + "0a" * 32,
    "a key of Moonshot, DeepSeek or alike": "sk-" + "aB3" * 16,
    "a Google API key": "AI" + "za" + "aB3_-" * 7,
    "a GitHub token": "gh" + "p_" + "aB3" * 12,
    "a GitLab token": "gl" + "pat-" + "aB3_-" * 4,
    "a Slack token": "xo" + "xb-123456789012-1234567890123-" + "aB3" * 8,
    "a Discord token": "M" + "aB3_-" * 5 + ".aB3_-x." + "aB3_-" * 6,
    "a Telegram token": "123456789" + ":AA" + "aB3" * 11,
    "an AWS key": "AK" + "IA" + "ABCD2345" * 2,
    "a Hugging Face token": "h" + "f_" + "abCdeFghIj" * 3 + "klMn",
    "an npm token": "np" + "m_" + "aB3" * 12,
}
OTHER_FORMS = [
    ("a private key (PEM, OpenSSH or OpenPGP)", "-----BEGIN RSA PRIVATE KEY-----\\n" + "MIIEowIBAAKCAQEA" * 4),
    ("a private key (PEM, OpenSSH or OpenPGP)",
     "> -----BEGIN RSA PRIVATE KEY-----\n> Proc-Type: 4,E\n> DEK-Info: AES-128\n>\n> " + "MIIEowIBAAKCAQEA" * 4),
    ("a private key (PEM, OpenSSH or OpenPGP)",
     "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: x\n\n" + "lQOYBGXyZ1wBCAC7" * 4),
    ("an OpenAI key", "sk-" + "aB3De" * 4 + "T3Blbk" + "FJ" + "aB3De" * 4),
    ("a GitHub token", "github_" + "pat_" + "aB3_" * 20 + "xy"),
    ("a Slack token", "xa" + "pp-1-A0123456789-1234567890123-" + "0a" * 32),
]  # fmt: skip
# Processor seconds: many times what is needed, and a small part of what quadratic work would take.
_NOT_QUADRATIC = 30.0


@pytest.fixture(scope="module")
def prints() -> Fingerprints:
    return Fingerprints.from_dict(make_fingerprints(VALUES))


@pytest.mark.parametrize("value", VALUES[1:])
@pytest.mark.parametrize(
    "around", [("", ""), ("KEY=", "\n"), ("aaaa", "zzzz"), (TOKEN[:20], TOKEN[:20]), ("\n\n\x00\xff", "'")]
)
def test_known_value_is_found_wherever_it_stands(prints, value, around):
    before, after = (text.encode("latin-1") for text in around)
    line = before.count(b"\n") + 1
    assert find_secrets(before + value.encode() + after, "notes.md", prints) == [f"notes.md, line {line}: {KNOWN}"]


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_known_value_is_found_in_base64(prints, before, encode):
    for value in (TOKEN, PASSWORD):
        text = b"Authorization: Basic " + encode(before + value.encode() + b"\xfb\xff")
        assert find_secrets(text, "x", prints) == [f"x, line 1: {KNOWN}"]


def test_other_texts_are_no_secrets(prints):
    nearly = TOKEN[:-1] + "1"
    texts = [b"", b"short", TOKEN[1:].encode(), nearly.encode(), TOKEN.upper().encode(), os.urandom(100_000)]
    assert [find_secrets(text, "x", prints) for text in texts] == [[]] * len(texts)


def test_no_message_holds_the_secret(prints):
    for secret in (TOKEN, PASSWORD, *SECRETS.values()):
        said = " ".join(find_secrets(f"a {secret} b".encode(), "x", prints))
        assert said and not any(secret[start : start + 8] in said for start in range(0, len(secret) - 8))


def test_every_shape_has_a_test_and_a_source():
    assert {shape.kind for shape in SHAPES} == set(SECRETS)
    assert all(shape.source.startswith("https://") for shape in SHAPES)


@pytest.mark.parametrize(("kind", "secret"), [*SECRETS.items(), *OTHER_FORMS])
def test_known_shape_is_found(kind, secret):
    for text in (secret, f'{{"key": "{secret}"}}', f"x\nexport KEY={secret}\n"):
        found = find_secrets(text.encode(), "x", None)
        assert f"x, line {text[: text.index(secret)].count(chr(10)) + 1}: what looks like {kind}" in found


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "grep 'BEGIN OPENSSH PRIVATE KEY' id",
        "-----BEGIN PUBLIC KEY-----\n" + "MIIBIjANBgkqhkiG" * 8,
        "age1" + "q" * 58,
        "AGE-SECRET-KEY-1…",
        "sk-ant-api03-…",
        "ANTHROPIC_API_KEY=sk-ant-your-key-here",
        "sk-proj-xxxx",
        "risk-averse-and-other-words-with-dashes-that-go-on-and-on",
        "task-" + "aB3" * 16,
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSy...",
        "ghp_example",
        "12:AAbc",
        "@scope/npm_package",
        "https://example.org/M/aB3.aB3_-x.html",
    ],
)
def test_text_that_only_resembles_is_accepted(text):
    assert find_secrets(text.encode(), "x", None) == []


def test_word_that_resembles_does_not_hide_the_one_behind_it():
    assert find_secrets(f"my_{SECRETS['a GitHub token']} {SECRETS['a GitHub token']}".encode(), "x", None)


def test_what_every_bot_gets_holds_no_secret():
    files = [path for path in (REPOSITORY / "bot_template").rglob("*") if path.is_file()]
    assert files and [find_secrets(path.read_bytes(), str(path), None) for path in files] == [[]] * len(files)


def test_findings_of_one_text_end_somewhere():
    assert len(find_secrets("\n".join(SECRETS.values()).encode(), "x", None)) == MAX_FINDINGS


def test_fingerprints_tell_no_value_and_their_order_nothing():
    key = bytes(32)
    data = make_fingerprints(VALUES, key)
    assert data == make_fingerprints(reversed(VALUES), key)
    text = json.dumps(data)
    assert not any(value in text or base64.b64encode(value.encode()).decode() in text for value in VALUES[1:])
    assert data["values"] != make_fingerprints(VALUES)["values"]
    assert {value["length"] for value in make_fingerprints([TOKEN], key)["values"]} >= {32}
    assert make_fingerprints(["short"], key)["values"] == []


def test_fingerprints_are_read_back(tmp_path):
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps(make_fingerprints([TOKEN], bytes(range(32)))))
    assert find_secrets(TOKEN.encode(), "x", Fingerprints.load(path))
    assert kept_key(path) == bytes(range(32))


GOOD = make_fingerprints([TOKEN])


@pytest.mark.parametrize(
    "data",
    [None, [], {}, "text", {**GOOD, "schema": 2}, {**GOOD, "key": "00"}, {**GOOD, "key": 1}, {**GOOD, "values": None},
     {**GOOD, "values": [{}]}, {**GOOD, "values": [{**GOOD["values"][0], "length": "32"}]},
     {**GOOD, "values": [{**GOOD["values"][0], "length": 0}]}, {**GOOD, "values": [{**GOOD["values"][0], "mark": ""}]},
     {**GOOD, "values": [{**GOOD["values"][0], "digest": "zz"}]}],
)  # fmt: skip
def test_damaged_fingerprints_are_refused(tmp_path, data):
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInput, match=r"run site.yml"):
        Fingerprints.load(path)
    assert kept_key(path) is None


def test_missing_fingerprints_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot read .*absent"):
        Fingerprints.load(tmp_path / "absent")


@pytest.mark.parametrize(
    "data",
    [base64.b64encode(os.urandom(3_750_000)), b"sk-ant-api03-" * 380_000, b"-----BEGIN PRIVATE KEY-----\n" * 180_000,
     b"M" * 5_000_000, b"1" * 5_000_000, (TOKEN[:-1] + "x").encode() * 160_000],
    ids=["base64", "prefixes", "headers", "letters", "digits", "nearly"],
)  # fmt: skip
def test_large_file_is_searched_quickly(prints, data):
    started = time.process_time()
    find_secrets(data, "x", prints)
    assert time.process_time() - started < _NOT_QUADRATIC
