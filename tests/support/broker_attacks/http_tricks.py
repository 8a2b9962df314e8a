"""Bytes that two readers of HTTP may take for different requests, and clients that are too big or too slow."""

from __future__ import annotations

import json

from ..broker_client import API, USER_AGENT, Wire, http
from .attack import MALFORMED, MISSING, SILENT, Attack, variant, variants
from .calls import upgraded
from .scene import Scene

_KIND = "HTTP tricks"
_OK, _UPGRADED = frozenset({200}), frozenset({101})
_BAD = MALFORMED | {404}
# A reader may also hang up on what is no request at all.
_NO_REQUEST = MALFORMED | SILENT
_HEAD = f"Host: x\r\nUser-Agent: {USER_AGENT}"
_PING = http("GET", "/_ping", close=False)


def _evil(scene: Scene, close: bool = True) -> bytes:
    body = json.dumps(scene.create({"HostConfig": {"Privileged": True, "Binds": ["/:/workspace/x"]}}))
    return http("POST", f"{API}/containers/create?name={scene.fill('$evil')}", body, close=close)


def _raw(
    name: str, text: str, *, expected: frozenset[int] = MALFORMED, real: bool = False, audited: bool = True,
) -> Attack:  # fmt: skip
    """Exactly these characters; ``H`` stands for the usual headers."""
    data = text.replace("<H>", _HEAD).encode("latin-1")
    return Attack(
        _KIND,
        name,
        lambda scene: Wire(((scene.fill(data.decode("latin-1")).encode("latin-1"), 0),), seconds=15),
        (expected,),
        real=real,
        audited=audited,
    )


def _target(name: str, target: str, *, method: str = "GET", real: bool = False) -> Attack:
    return Attack(
        _KIND,
        f"path: {name}",
        lambda scene: http(method, scene.fill(target), "" if method == "POST" else None),
        (_BAD,),
        real=real,
    )


def _create_at(name: str, target: str, real: bool = False) -> Attack:
    """An allowed container, asked for at another address."""

    def wire(scene: Scene) -> bytes:
        return http("POST", scene.fill(target), json.dumps(scene.create()))

    return Attack(_KIND, f"path: {name}", wire, (_BAD,), real=real)


def _query(name: str, target: str, real: bool = True, method: str = "GET") -> Attack:
    return Attack(_KIND, f"query: {name}",
                  lambda scene: http(method, API + scene.fill(target), "" if method == "POST" else None),
                  (MALFORMED,), real=real)  # fmt: skip


def _header(name: str, *headers: str, real: bool = True, target: str = "/_ping", method: str = "GET") -> Attack:
    return Attack(_KIND, f"header: {name}", lambda scene: http(method, target, None, *headers), (MALFORMED,), real=real)


def _framed(name: str, *headers: str, body: str = "BODY", real: bool = False) -> Attack:
    """A container whose body has its length from these headers, and an evil one behind it."""

    def wire(scene: Scene) -> Wire:
        whole = json.dumps(scene.create())
        lengths = {"LENGTH": str(len(whole)), "HEX": f"{len(whole):x}", "SHORT": "4"}
        lines = [f"POST {API}/containers/create?name={scene.fill('$new')} HTTP/1.1", _HEAD,
                 "Content-Type: application/json", *headers]  # fmt: skip
        head = "\r\n".join(lines)
        for word, value in lengths.items():
            head, body_text = head.replace(word, value), body.replace(word, value)
        for word, value in {**lengths, "BODY": whole}.items():
            body_text = body_text.replace(word, value)
        return Wire((((head + "\r\n\r\n" + body_text).encode("latin-1") + _evil(scene), 0),), seconds=15)

    return Attack(_KIND, f"framing: {name}", wire, (MALFORMED,), real=real)


def _refused_then(name: str, first: bytes | None = None) -> Attack:
    """An attack, and in the same packet something allowed, which must not be answered any more."""

    def wire(scene: Scene) -> Wire:
        return Wire((((first or _evil(scene, close=False)) + _PING, 0),), answers=2)

    return Attack(_KIND, f"splicing: ping behind {name}", wire, (MALFORMED | {404},), real=False)


_v_raw, _v_framed, _v_header = variant(_raw), variant(_framed), variant(_header)
_v_target, _v_query = variant(_target), variant(_query)


def _behind_a_hijack(scene: Scene) -> Wire:
    return Wire(((upgraded(scene.fresh_exec("cat")) + _evil(scene), 0),), answers=2, half_close=True, seconds=10)


def _behind_a_hijack_later(scene: Scene) -> Wire:
    return Wire(((upgraded(scene.fresh_exec("true")), 0), (_evil(scene), 1500)), answers=2, seconds=10)


def _slowly(data: bytes, pause: int, keep: int) -> tuple[tuple[bytes, int], ...]:
    """A beginning, then single bytes with pauses."""
    return ((data[:keep], 0), *((data[place : place + 1], pause) for place in range(keep, min(len(data), keep + 60))))


_CHUNKED = "HEX\r\nBODY\r\n0\r\n\r\n"
_TWO_LENGTHS = http("POST", "/_ping", None, "Content-Length: 0", "Content-Length: 5", close=False)
_METHODS = ("PUT", "PATCH", "OPTIONS", "TRACE", "COPY", "PROPFIND", "get", "GETT", "M-SEARCH", "PRI")

_TRANSPORT = [
    _framed("chunked", "Transfer-Encoding: chunked", body=_CHUNKED, real=True),
    _v_framed("chunked and length", "Transfer-Encoding: chunked", "Content-Length: LENGTH", body=_CHUNKED, real=True),
    _framed("length and chunked", "Content-Length: 4", "Transfer-Encoding: chunked", body=_CHUNKED, real=True),
    _v_framed("chunked twice", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=_CHUNKED),
    _v_framed("chunked, then another", "Transfer-Encoding: chunked, identity", body=_CHUNKED),
    _framed("identity", "Transfer-Encoding: identity", "Content-Length: LENGTH"),
    _v_framed("unknown coding", "Transfer-Encoding: xchunked", "Content-Length: LENGTH"),
    _framed("chunked with a blank in front of the colon", "Transfer-Encoding : chunked", "Content-Length: LENGTH"),
    _v_framed("chunked behind a tab", "Transfer-Encoding:\tchunked", body=_CHUNKED, real=True),
    _framed("chunked behind a vertical tab", "Transfer-Encoding: \x0bchunked", "Content-Length: LENGTH"),
    _framed("chunked on a folded line", "Transfer-Encoding:\r\n chunked", body=_CHUNKED),
    _framed("underscore", "Transfer_Encoding: chunked", "Content-Length: LENGTH"),
    _framed("chunk with an extension", "Transfer-Encoding: chunked", body="HEX;x=y\r\nBODY\r\n0\r\n\r\n", real=True),
    _framed("chunk with a trailer", "Transfer-Encoding: chunked", body="HEX\r\nBODY\r\n0\r\nX-Evil: 1\r\n\r\n"),
    _v_framed("chunk of a negative size", "Transfer-Encoding: chunked", body="-1\r\nBODY\r\n0\r\n\r\n"),
    _framed("two lengths", "Content-Length: LENGTH", "Content-Length: 4"),
    _framed("two lengths, the short one first", "Content-Length: 4", "Content-Length: LENGTH"),
    _framed("length twice", "Content-Length: LENGTH", "Content-Length: LENGTH", real=True),
    _framed("list of lengths", "Content-Length: LENGTH, 4"),
    _v_framed("list of the same length", "Content-Length: LENGTH, LENGTH"),
    _v_framed("length with a sign", "Content-Length: +LENGTH"),
    _framed("negative length", "Content-Length: -1"),
    _framed("hexadecimal length", "Content-Length: 0xHEX"),
    _v_framed("length with an underscore", "Content-Length: 1_0"),
    _v_framed("length with a point", "Content-Length: LENGTH.0"),
    _v_framed("length in other digits", "Content-Length: \xb2"),
    _framed("empty length", "Content-Length:"),
    _framed("length beyond 64 bits", "Content-Length: 99999999999999999999999"),
    _framed("length of a gigabyte", "Content-Length: 1073741824"),
    _framed("no length"),
    _framed("short length", "Content-Length: SHORT"),
    _refused_then("a container that is refused"),
    _refused_then("a path that is refused", http("GET", f"{API}/swarm", close=False)),
    Attack(
        _KIND,
        "splicing: evil behind a foreign container",
        lambda scene: Wire(
            ((http("GET", f"{API}/containers/{scene.words['other']}/json", close=False) + _evil(scene), 0),), answers=2
        ),
        (MISSING, MALFORMED),
        real=False,
    ),
    _refused_then("two lengths", _TWO_LENGTHS),
    _refused_then("a header that is refused", http("GET", "/_ping", None, "X-Evil: 1", close=False)),
    _refused_then("a query that is refused", http("GET", f"{API}/info?x=1", close=False)),
    Attack(
        _KIND,
        "splicing: evil behind a ping",
        lambda scene: Wire(((_PING + _evil(scene), 0),), answers=2),
        (_OK, MALFORMED),
    ),
    Attack(
        _KIND,
        "splicing: evil behind twenty pings",
        lambda scene: Wire(((_PING * 20 + _evil(scene), 0),), answers=21),
        (*[_OK] * 20, MALFORMED),
    ),
    Attack(
        _KIND,
        "splicing: evil in two halves",
        lambda scene: Wire(((_PING + (evil := _evil(scene))[:40], 0), (evil[40:], 300)), answers=2),
        (_OK, MALFORMED),
    ),
    Attack(
        _KIND,
        "splicing: evil as the body of a ping",
        lambda scene: Wire(((http("GET", "/_ping", None, f"Content-Length: {len(_evil(scene))}") + _evil(scene), 0),)),
        (MALFORMED,),
        real=False,
    ),
    Attack(
        _KIND,
        "splicing: evil as the body of a start",
        lambda scene: Wire(((http("POST", f"{API}/containers/{scene.words['sandbox']}/start", _evil(scene)), 0),)),
        (MALFORMED,),
        real=False,
    ),
    Attack(
        _KIND,
        "splicing: evil behind an inspect",
        lambda scene: Wire(
            ((http("GET", f"{API}/containers/{scene.words['sandbox']}/json", close=False) + _evil(scene), 0),),
            answers=2,
        ),
        (_OK, MALFORMED),
    ),
    Attack(
        _KIND,
        "splicing: evil behind a HEAD",
        lambda scene: Wire(((http("HEAD", "/_ping", close=False) + _evil(scene), 0),), answers=2),
        (_OK, MALFORMED),
    ),
    Attack(_KIND, "splicing: evil behind a hijack", _behind_a_hijack, (_UPGRADED,), real=False, audited=False),
    Attack(
        _KIND,
        "splicing: evil behind a hijack that has ended",
        _behind_a_hijack_later,
        (_UPGRADED,),
        real=False,
        audited=False,
    ),
    Attack(
        _KIND,
        "splicing: evil behind a refused upgrade",
        lambda scene: Wire(
            ((http("GET", "/_ping", None, "Connection: Upgrade", "Upgrade: tcp", close=False) + _evil(scene), 0),),
            answers=2,
        ),
        (MALFORMED,),
    ),
]

_WORDS = [
    *variants(
        (
            _raw(f"method {method}", f"{method} {API}/containers/json HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST)
            for method in _METHODS
        ),
        3,
    ),
    _raw("HEAD where GET is allowed", f"HEAD {API}/containers/json HTTP/1.1\r\n<H>\r\n\r\n"),
    _v_raw("HEAD of the gateway", f"HEAD {API}/containers/$gateway/json HTTP/1.1\r\n<H>\r\n\r\n"),
    _raw("POST where GET is allowed", f"POST {API}/info HTTP/1.1\r\n<H>\r\nContent-Length: 0\r\n\r\n"),
    _raw("GET where POST is allowed", f"GET {API}/containers/create?name=$new HTTP/1.1\r\n<H>\r\n\r\n"),
    _v_raw("DELETE of everything", f"DELETE {API}/containers HTTP/1.1\r\n<H>\r\n\r\n"),
    _raw("CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\n<H>\r\n\r\n"),
    _v_raw("OPTIONS of all", "OPTIONS * HTTP/1.1\r\n<H>\r\n\r\n"),
    _raw("absolute target", f"GET http://x{API}/info HTTP/1.1\r\n<H>\r\n\r\n", real=True),
    _v_raw("absolute target of the engine's socket", "GET unix:///run/engine/docker.sock HTTP/1.1\r\n<H>\r\n\r\n"),
    _raw("target of a host", "GET //x/_ping HTTP/1.1\r\n<H>\r\n\r\n"),
    _v_raw("target without a slash", f"GET {API[1:]}/info HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("target with a fragment", "GET /_ping#x HTTP/1.1\r\n<H>\r\n\r\n"),
    _raw("HTTP/1.0", f"GET {API}/info HTTP/1.0\r\n<H>\r\n\r\n", real=True),
    _v_raw("HTTP/1.0 kept alive", f"GET {API}/info HTTP/1.0\r\n<H>\r\nConnection: keep-alive\r\n\r\n", real=True),
    _raw("HTTP/0.9", "GET /_ping\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("HTTP/1.2", "GET /_ping HTTP/1.2\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _raw("HTTP/2.0", "GET /_ping HTTP/2.0\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _raw("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("version in small letters", "GET /_ping http/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("version with a blank behind it", "GET /_ping HTTP/1.1 \r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("two blanks", "GET  /_ping HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("tab for a blank", "GET\t/_ping\tHTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("blank in front", " GET /_ping HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _raw("NUL in the target", "GET /_ping\0 HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("letters of another script in the target", "GET /\xff\xfe HTTP/1.1\r\n<H>\r\n\r\n", expected=_NO_REQUEST),
    _raw("no host", "GET /_ping HTTP/1.1\r\n\r\n"),
    _raw("two hosts", "GET /_ping HTTP/1.1\r\n<H>\r\nHost: y\r\n\r\n"),
    _raw("header without a colon", "GET /_ping HTTP/1.1\r\n<H>\r\nevil\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("header without a name", "GET /_ping HTTP/1.1\r\n<H>\r\n: x\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("header with a blank in its name", "GET /_ping HTTP/1.1\r\n<H>\r\nX Y: x\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("header with a blank in front", "GET /_ping HTTP/1.1\r\n Host: x\r\n\r\n", expected=_NO_REQUEST),
    _raw("folded header", "GET /_ping HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n b\r\n\r\n", expected=_NO_REQUEST),
    _raw("NUL in a header", "GET /_ping HTTP/1.1\r\nHost: x\0y\r\n\r\n", expected=_NO_REQUEST),
    _raw("carriage return in a header", "GET /_ping HTTP/1.1\r\nHost: x\rX-Evil: 1\r\n\r\n", expected=_NO_REQUEST),
    _v_raw("lines that end with carriage returns", "GET /_ping HTTP/1.1\rHost: x\r\r", expected=_NO_REQUEST),
    _raw("bytes of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", expected=_NO_REQUEST),
    _v_raw("noise", "\x00" * 300 + "\r\n\r\n", expected=_NO_REQUEST),
    _raw(
        "33 headers", "GET /_ping HTTP/1.1\r\n<H>\r\n" + "".join(f"X-{n}: x\r\n" for n in range(33)) + "\r\n", real=True
    ),
    _raw("headers of 17 KiB", f"GET /_ping HTTP/1.1\r\nHost: x\r\nUser-Agent: {'x' * 17408}\r\n\r\n", real=True),
    _raw(
        "headers of 2 MiB", f"GET /_ping HTTP/1.1\r\nHost: x\r\nUser-Agent: {'x' * 2**21}\r\n\r\n", expected=_NO_REQUEST
    ),
    _v_raw("target of 17 KiB", f"GET /{'x' * 17408} HTTP/1.1\r\n<H>\r\n\r\n"),
]

_ADDRESSES = [
    *variants(
        (
            _target(f"version {version}", f"/{version}/info", real=version in {"v1.24", "v1.40", "v1.41.0"})
            for version in (
                "v1.24",
                "v1.40",
                "v1.42",
                "v1.43",
                "v01.41",
                "V1.41",
                "v1.041",
                "v1.41.0",
                "v1",
                "1.41",
                "v1.4\xb9",
                "v1.41/v1.41",
                "v2",
                "v",
                "v1.41;x",
            )
        ),
        4,
    ),
    _target("no version", "/info", real=True),
    _target("no version, foreign container", "/containers/$other/json", real=True),
    _create_at("no version, a container", "/containers/create?name=$new", real=True),
    _create_at("another version", "/v1.40/containers/create?name=$new", real=True),
    _create_at("old version", "/v1.24/containers/create?name=$new", real=True),
    _create_at("slash behind create", f"{API}/containers/create/?name=$new"),
    _create_at("two slashes in front", f"/{API}/containers/create?name=$new"),
    _create_at("encoded letter", f"{API}/containers/%63reate?name=$new", real=True),
    _create_at("encoded slash", f"{API}/containers%2Fcreate?name=$new", real=True),
    _create_at("dots", f"{API}/containers/x/../create?name=$new"),
    _create_at("dots behind ping", f"/_ping/..{API}/containers/create?name=$new"),
    _create_at("capitals", f"{API}/Containers/Create?name=$new"),
    _target("two slashes inside", f"{API}//info"),
    _v_target("dot", f"{API}/./info"),
    _target("dots to another version", f"{API}/../v1.24/info"),
    _v_target("encoded dots", f"{API}/%2e%2e/v1.24/info"),
    _v_target("dots encoded twice", f"{API}/%252e%252e/info"),
    _target("backslash", f"{API}\\info"),
    _v_target("semicolon", f"{API}/info;x=y"),
    _v_target("NUL, encoded", f"{API}/info%00"),
    _v_target("line break, encoded", f"{API}/info%0d%0aX:%20y"),
    _v_target("question mark, encoded", f"{API}/info%3F"),
    _v_target("encoded ping", "/%5fping", real=True),
    _v_target("slash at the end", "/_ping/"),
    _target("foreign container, encoded", f"{API}/containers/%63lawfactory-victim-gateway/json", real=True),
    _target("foreign container behind a slash, encoded", f"{API}/containers/%2Fclawfactory-victim-gateway/json"),
    _v_target("root", "/"),
    _query("same key twice", "/containers/json?all=1&all=0"),
    _query("unknown key", "/containers/json?evil=1"),
    _v_query("key without a value", "/containers/json?all"),
    _query("encoded key", "/containers/json?%61ll=1"),
    _query("encoded value", "/containers/json?all=%31"),
    _v_query("plus for a blank", "/containers/json?all=1+"),
    _v_query("empty pair", "/containers/json?all=1&&limit=1"),
    _v_query("semicolon", "/containers/json?all=1;limit=1", real=False),
    _v_query("question mark inside", "/containers/json?all=1?x"),
    _query("sizes of the host's files", "/containers/json?size=1"),
    _query("sizes in an inspect", "/containers/$sandbox/json?size=1"),
    _v_query("limit of letters", "/containers/json?limit=x", real=False),
    _query("negative limit", "/containers/json?limit=-1"),
    _v_query("filters that are no JSON", "/containers/json?filters=x", real=False),
    _v_query("filters of a list", "/containers/json?filters=%5B%5D", real=False),
    _query("unknown filter", "/containers/json?filters=%7B%22volume%22%3A%7B%22x%22%3Atrue%7D%7D"),
    _query(
        "filters with a key twice",
        "/containers/json?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%2C%22label%22%3A%7B%22b%22%3Atrue%7D%7D",
    ),
    _v_query("filters encoded twice", "/containers/json?filters=%257B%257D", real=False),
    _v_query("ping with one", "/_ping?x=1"),
    _query("info with one", "/info?x=1"),
    _v_query("version with one", "/version?x=1"),
    _query("start with a checkpoint", "/containers/$sandbox/start?checkpoint=x", method="POST", real=False),
    _query("start with keys to detach", "/containers/$stopped/start?detachKeys=ctrl-a", method="POST"),
    _query("stop after -1 seconds", "/containers/$stopped/stop?t=-1", method="POST"),
    _query("stop after a year", "/containers/$stopped/stop?t=31536000", method="POST"),
    _v_query("stop after letters", "/containers/$stopped/stop?t=x", method="POST", real=False),
    _v_query("stop with a signal", "/containers/$stopped/stop?signal=KILL", method="POST"),
    _v_query("pause with one", "/containers/$stopped/pause?x=1", method="POST", real=False),
    _v_query("removal with its link", "/containers/$stopped?force=1&link=1", method="DELETE", real=False),
    _query("removal with force of 2", "/containers/$stopped?force=2", method="DELETE"),
]

_HEADERS = [
    _header("unknown", "X-Evil: 1"),
    _header("X-Registry-Auth", "X-Registry-Auth: e30="),
    _v_header("X-Registry-Config", "X-Registry-Config: e30="),
    _header("Authorization", "Authorization: Bearer x"),
    _v_header("Cookie", "Cookie: a=b"),
    _header("X-HTTP-Method-Override", "X-HTTP-Method-Override: DELETE"),
    _v_header("X-Forwarded-For", "X-Forwarded-For: 127.0.0.1"),
    _v_header("X-Original-URL", f"X-Original-URL: {API}/containers/json"),
    _v_header("Origin", "Origin: http://evil.example"),
    _v_header("Range", "Range: bytes=0-1"),
    _header("Expect", "Expect: 100-continue"),
    _v_header("Expect of something else", "Expect: evil", real=False),
    _header("TE", "TE: trailers"),
    _v_header("Trailer", "Trailer: X-Evil", real=False),
    _v_header("Via", "Via: 1.1 x"),
    _v_header("Keep-Alive", "Keep-Alive: timeout=9999"),
    _v_header("Proxy-Connection", "Proxy-Connection: keep-alive"),
    _header("user agent twice", "User-Agent: x"),
    _v_header("two Accept", "Accept: */*", "accept: */*"),
    _v_header("underscore", "Content_Length: 5"),
    _v_header("letters of another script", "User-\xc4gent: x", real=False),
    _header("upgrade of a ping", "Upgrade: tcp"),
    _header("h2c", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    _header(
        "WebSocket", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
    ),
    _v_header("h2c of a list", "Upgrade: h2c", target=f"{API}/containers/json"),
    _v_header("upgrade of an inspect", "Upgrade: tcp", target=f"{API}/info"),
    _header("body of a GET", "Content-Length: 5", real=False),
    Attack(
        _KIND,
        "header: Expect of a container",
        lambda scene: scene.creation_of(json.dumps(scene.create()), "$new", "Expect: 100-continue"),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "header: upgrade of a container",
        lambda scene: scene.creation_of(json.dumps(scene.create()), "$new", "Upgrade: tcp"),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "body of a container beyond 256 KiB",
        lambda scene: scene.creation_of(json.dumps(scene.create()) + " " * 2**18),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "body of an exec beyond 256 KiB",
        lambda scene: http(
            "POST", f"{API}/containers/{scene.words['sandbox']}/exec", json.dumps(scene.exec_body("id")) + " " * 2**18
        ),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "body of a start of an exec beyond 4 KiB",
        lambda scene: Wire(
            (
                (
                    http(
                        "POST",
                        f"{API}/exec/{scene.fresh_exec('id')}/start",
                        '{"Detach":false,"Tty":false}' + " " * 4096,
                        "Upgrade: tcp",
                        "Connection: Upgrade",
                        close=False,
                    ),
                    0,
                ),
            )
        ),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "body of a stop",
        lambda scene: http("POST", f"{API}/containers/{scene.words['stopped']}/stop", "{}"),
        (MALFORMED,),
    ),
    Attack(
        _KIND,
        "body of a start",
        lambda scene: http("POST", f"{API}/containers/{scene.words['sandbox']}/start", '{"Binds": ["/:/workspace"]}'),
        (MALFORMED,),
        real=False,
    ),
    Attack(
        _KIND,
        "body of a removal",
        lambda scene: http("DELETE", f"{API}/containers/{scene.words['stopped']}", "{}"),
        (MALFORMED,),
        real=False,
    ),
]

_LATE = MALFORMED | SILENT
_SLOW = [
    Attack(
        _KIND,
        "slow: nothing at all",
        lambda scene: Wire(((b"", 0),), seconds=75),
        (SILENT | {408},),
        real=False,
        audited=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: headers that never end",
        lambda scene: Wire(((_PING[:-2], 0),), seconds=40),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: headers byte by byte",
        lambda scene: Wire(_slowly(_PING, 400, 0), seconds=40),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: headers in two halves for ever",
        lambda scene: Wire(((_PING[:20], 0), *((b"x", 3000) for _ in range(10))), seconds=45),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: body that never comes",
        lambda scene: Wire(((scene.creation()[: scene.creation().index(b"\r\n\r\n") + 4], 0),), seconds=40),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: body byte by byte",
        lambda scene: Wire(_slowly(data := scene.creation(), 500, data.index(b"\r\n\r\n") + 4), seconds=45),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: body cut off",
        lambda scene: Wire(((scene.creation()[:-5], 0),), half_close=True, seconds=30),
        (_LATE,),
        real=False,
        slow=True,
    ),
    Attack(
        _KIND,
        "slow: headers cut off",
        lambda scene: Wire(((_PING[:-5], 0),), half_close=True, seconds=30),
        (_LATE,),
        real=False,
        slow=True,
    ),
]

HTTP_TRICKS = [*_TRANSPORT, *_WORDS, *_ADDRESSES, *_HEADERS, *_SLOW]
