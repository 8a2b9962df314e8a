"""Bodies that two readers of JSON may take for different things. On the engine's side Go reads them."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..broker_client import API, http
from .attack import MALFORMED, Attack, variant, variants
from .scene import Scene

_KIND = "JSON tricks"
_BAD = MALFORMED
_OFF = '"Privileged": false'
_EVIL = '"Privileged": true'


def _text(name: str, change: Callable[[str], str | bytes], real: bool = True) -> Attack:
    """The body of an allowed container, changed as text."""
    return Attack(_KIND, name, lambda scene: scene.creation_of(change(json.dumps(scene.create()))), (_BAD,), real=real)


def _swap(name: str, old: str, new: str, real: bool = True) -> Attack:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return _text(name, change, real)


def _whole(name: str, body: str | bytes, real: bool = False) -> Attack:
    return Attack(_KIND, f"body: {name}", lambda scene: scene.creation_of(body), (_BAD,), real=real)


def _headers(name: str, *headers: str, real: bool = True) -> Attack:
    """An allowed body under other headers than ``application/json``."""

    def wire(scene: Scene) -> bytes:
        body = json.dumps(scene.create()).encode()
        head = http("POST", f"{API}/containers/create?name={scene.fill('$new')}", None, f"Content-Length: {len(body)}",
                    *headers)  # fmt: skip
        return head + body

    return Attack(_KIND, name, wire, (_BAD,), real=real)


_v_text, _v_swap, _v_whole = variant(_text), variant(_swap), variant(_whole)

_UNDERSTOOD = {
    "last of two": f"{_OFF}, {_EVIL}",
    "first of two": f"{_EVIL}, {_OFF}",
    "another case": f'{_OFF}, "privileged": true',
    "capitals": f'{_OFF}, "PRIVILEGED": true',
    "another case alone": '"privileged": true',
    "escaped letter": f'{_OFF}, "Privil\\u0065ged": true',
    "escaped letter alone": '"Privil\\u0065ged": true',
    "null and true": f'"Privileged": null, {_EVIL}',
}

JSON_TRICKS = [
    *variants((_swap(f"Privileged, {name}", _OFF, text) for name, text in _UNDERSTOOD.items()), 5),
    # Go folds these two to the letters k and s when it looks for a field.
    _v_swap("long s in a key", '"NetworkingConfig"', '"Vol\\u017fumes": {}, "NetworkingConfig"'),
    _swap("long s in Binds", '"Binds"', '"Bind\u017f": ["/:/workspace/x"], "Binds"'),
    _swap("Kelvin sign in NetworkMode", '"NetworkMode"', '"Networ\u212aMode": "host", "NetworkMode"'),
    _v_swap("long s in Devices, escaped", '"Devices"', '"Device\\u017f": [], "Devices"'),
    _swap("second HostConfig", '"NetworkingConfig"', '"HostConfig": {"Privileged": true}, "NetworkingConfig"'),
    _swap(
        "second HostConfig, another case",
        '"NetworkingConfig"',
        '"hostconfig": {"Privileged": true}, "NetworkingConfig"',
    ),
    _swap("second key deep inside", '"MaximumRetryCount": 0', '"MaximumRetryCount": 0, "Name": "always"'),
    _swap("second key of a map", '"openclaw.sandbox": "1"', '"openclaw.sandbox": "1", "openclaw.sandbox": "2"'),
    _v_swap("second name of the same target", '"/run": ""', '"/run": "", "/run": "exec"'),
    _swap("second image", '"Image"', '"Image": "scratch", "Image"'),
    _swap("unknown key", '"Image"', '"Evil": 1, "Image"'),
    _swap("unknown key of HostConfig", '"Binds"', '"Evil": {}, "Binds"'),
    _swap("unknown key deep inside", '"MaximumRetryCount"', '"Evil": 1, "MaximumRetryCount"'),
    _v_swap("key of a newer API", '"Binds"', '"Annotations": {"a": "b"}, "Binds"'),
    _v_swap("key of Podman", '"Binds"', '"secrets": [], "Binds"'),
    _v_swap("empty key", '"Image"', '"": 1, "Image"'),
    _swap("key with NUL", '"Image"', '"Image\\u0000": 1, "Image"'),
    _v_swap("key with blanks", '"Image"', '" Image": 1, "Image"'),
    _v_swap("prototype", '"Image"', '"__proto__": {"Privileged": true}, "Image"'),
    *variants(
        (
            _swap(f"HostConfig {name}", '"HostConfig": {', f'"HostConfig": {value}, "NetworkDisabled": {{', real=False)
            for name, value in {"as a list": "[]", "as text": '"x"', "as a number": "1"}.items()
        ),
        1,
    ),
    _swap("HostConfig as null", '"HostConfig": {', '"HostConfig": null, "Evil": {'),
    _v_swap("Env as an object", '["X=1"]', '{"X": "1"}', real=False),
    _v_swap("Env as text", '["X=1"]', '"X=1"', real=False),
    _swap("Env with a number", '["X=1"]', '["X=1", 1]', real=False),
    _v_swap("Env with a list", '["X=1"]', '[["X=1"]]', real=False),
    _v_swap("label as a number", '"openclaw.sandbox": "1"', '"openclaw.sandbox": 1', real=False),
    _swap("flag as a number", _OFF, '"Privileged": 0', real=False),
    _v_swap("flag as text", _OFF, '"Privileged": "false"', real=False),
    _v_swap("Memory as text", '"Memory": 1073741824', '"Memory": "1073741824"', real=False),
    _swap("NaN", '"Memory": 1073741824', '"Memory": NaN', real=False),
    _v_swap("Infinity", '"Memory": 1073741824', '"Memory": Infinity', real=False),
    _v_swap("negative Infinity", '"Memory": 1073741824', '"Memory": -Infinity', real=False),
    _v_swap("negative zero", '"CpuShares": 0', '"CpuShares": -0.0', real=False),
    _swap("number with an exponent", '"Memory": 1073741824', '"Memory": 1e9', real=False),
    _v_swap("number beyond floats", '"Memory": 1073741824', '"Memory": 1e999', real=False),
    _swap("number of 5000 digits", '"Memory": 1073741824', f'"Memory": {"9" * 5000}', real=False),
    _swap("number of 5000 digits where none is read", '"Image"', f'"Evil": {"9" * 5000}, "Image"'),
    _v_swap("hexadecimal number", '"Memory": 1073741824', '"Memory": 0x40000000', real=False),
    _v_swap("leading zero", '"Memory": 1073741824', '"Memory": 01073741824', real=False),
    _v_swap("digits of another script", '"Memory": 1073741824', '"Memory": \u0661\u0662', real=False),
    _swap("lone surrogate", "X=1", "X=\\ud800"),
    _v_swap("surrogates the wrong way round", "X=1", "X=\\udc00\\ud800"),
    _swap("lone surrogate in a bind", ":/workspace:z", ":/workspace/\\udfff:z"),
    _swap("NUL in Env", "X=1", "X=1\\u0000Y=2"),
    _swap("raw control character", "X=1", "X=\x01", real=False),
    _v_swap("raw line break", "X=1", "X=\n", real=False),
    _v_swap("unknown escape", "X=1", "X=\\x41", real=False),
    _v_swap("comma at the end", '"X=1"', '"X=1",', real=False),
    _swap("comment", '"Image"', '/* x */ "Image"', real=False),
    _v_swap("single quotes", '"X=1"', "'X=1'", real=False),
    _text("two values", lambda text: text + '{"Image": "x"}', real=False),
    _v_text("same value twice", lambda text: text + text, real=False),
    _v_text("letters behind it", lambda text: text + "x", real=False),
    _text("NUL behind it", lambda text: text + "\0", real=False),
    _v_text("bracket behind it", lambda text: text + "}"),
    _text("byte order mark", lambda text: b"\xef\xbb\xbf" + text.encode(), real=False),
    _text("UTF-16", lambda text: text.encode("utf-16"), real=False),
    _v_text("UTF-16 without a mark", lambda text: text.encode("utf-16-le"), real=False),
    _v_text("UTF-32", lambda text: text.encode("utf-32-be"), real=False),
    _v_text("UTF-7", lambda text: text.replace("{", "+AHs-").encode(), real=False),
    _text("byte that is no UTF-8", lambda text: text.encode().replace(b"X=1", b"X=\xff")),
    _text("letter in too many bytes", lambda text: text.encode().replace(b"X=1", b"X=\xc1\x81")),
    _v_text("surrogate in UTF-8", lambda text: text.encode().replace(b"X=1", b"X=\xed\xa0\x80")),
    _text("cut off", lambda text: text[:-1], real=False),
    _v_text("in a list", lambda text: f"[{text}]", real=False),
    _text("as text", json.dumps, real=False),
    _text("17 levels deep", lambda text: text.replace('"Image"', f'"Evil": {"[" * 17}{"]" * 17}, "Image"', 1)),
    _text(
        "100000 levels deep",
        lambda text: text.replace('"Image"', f'"Evil": {"[" * 10**5}{"]" * 10**5}, "Image"', 1),
        real=False,
    ),
    _v_text("100000 levels deep, never closed", lambda text: "[" * 10**5, real=False),
    _v_text("100000 objects deep", lambda text: '{"a":' * 20000, real=False),
    _whole("nothing", b"", real=False),
    _v_whole("blank", " "),
    _whole("null", "null"),
    _v_whole("true", "true"),
    _v_whole("number", "1"),
    _v_whole("text", '"x"'),
    _whole("list", "[]"),
    _whole("empty object", "{}"),
    _v_whole("form", "Image=x&HostConfig.Privileged=true"),
    _v_whole("YAML", "Image: x\nHostConfig:\n  Privileged: true\n"),
    _headers("no content type", real=False),
    _headers("content type of text", "Content-Type: text/plain", real=False),
    _headers("content type of another JSON", "Content-Type: application/json5", real=False),
    _headers("content type in UTF-16", "Content-Type: application/json; charset=utf-16"),
    _headers("content type with a boundary", "Content-Type: application/json; boundary=x"),
    _headers("two content types", "Content-Type: application/json", "Content-Type: text/plain"),
    _headers("compressed", "Content-Type: application/json", "Content-Encoding: gzip"),
]
