"""What a bot's controller and the jobs service of the machine say to each other.

The service listens on ``<root>/run/<bot>/jobs/jobs.sock`` (in the controller's container: ``/run/jobs/jobs.sock``),
one socket for each bot: which bot is meant is known by the socket, never by what is said. Only root and the bot's
controller may connect.

One connection carries one request: a JSON object in UTF-8 on one line of at most 262,144 bytes, its ``\\n`` included,
which has to arrive within 5 seconds. The answer is one JSON object on one line of at most 4 MiB; then the service
closes. A field that is not named here, a field twice, or a value of another type is refused. A field marked ``?`` may
be left out; it must not be null.

======================== ============================================================== =======================
``op``                   other fields                                                   answer
======================== ============================================================== =======================
``snapshot``             ``actor`` (``agent`` or ``operator``), ``label`` ?             ``{"job": JOB}``
``promotion``            ``actor``, ``source``; ``sha`` ?, or ``proposal`` with          ``{"job": JOB}``
                         ``expected_sha`` ?; ``delivery`` ?
``rollback``             ``actor``, ``sha`` ?                                           ``{"job": JOB}``
``deny``                 ``actor``, ``proposal``, ``reason``                            ``{"job": JOB}``
``memory_backup``        ``actor``                                                      ``{"job": JOB}``
``snapshot_verify``      ``actor``, ``snapshot``, ``how``                               ``{"job": JOB}``
``snapshot_restore``     ``actor``, ``snapshot``                                        ``{"job": JOB}``
``snapshot_rename``      ``actor``, ``snapshot``, ``new_label``                         ``{"job": JOB}``
``snapshot_delete``      ``actor``, ``snapshot``                                        ``{"job": JOB}``
``config``               ``actor``, ``text``, ``base``                                  ``{"job": JOB}``
``config_revert``        ``actor``, ``base``                                            ``{"job": JOB}``
``lock``                 ``actor``, ``reason`` ?                                        ``{"lock": {…}}``
``job``                  ``id``                                                         ``{"job": JOB}``
``jobs``                                                                                ``{"jobs": [JOB, …]}``
``follow``               ``id``                                                         lines, see below
``snapshots``                                                                           ``{"snapshots": […]}``
``snapshot_contents``    ``snapshot``, ``path`` ?                                       ``{"contents": {…}}``
``promotion_info``                                                                      ``{"promotion": {…}}``
``machine_info``                                                                        ``{"machine": {…}}``
``memory_info``                                                                         ``{"memory": {…}}``
``egress_info``                                                                         ``{"egress": {…}}``
``config_info``                                                                         ``{"config": {…}}``
``config_check``         ``text`` ?                                                     ``{"check": {…}}``
``ollama_info``                                                                         ``{"ollama": {…}}``
``audit``                ``event`` ?, ``before`` ?                                      ``{"audit": {…}}``
``audit_verify``                                                                        ``{"audit": {…}}``
``refused``              ``what``, ``code``, ``count``                                  ``{"written": true}``
``decided``              ``actor``, ``decision``, ``outcome``; ``request`` ?,           ``{"written": true}``
                         ``channel`` ?, ``account`` ?, ``subject`` ?
======================== ============================================================== =======================

Fields, all of them strings:

- ``actor``: who asks, 1 to 100 printable ASCII characters without blanks: a login at the remote, or ``operator``.
- ``label``: at most 64 characters ``A-Z a-z 0-9 _ -`` and blank.
- ``source``: ``dashboard``, ``webhook`` or ``polling``; that of every other job is ``dashboard``, of the agent's
  snapshots ``agent``.
- ``sha``, ``expected_sha``: a commit, 40 lower-case hexadecimal digits. A promotion without ``sha`` and ``proposal``
  is of the newest commit of the approved branch; one with ``proposal`` merges that first, if it still is
  ``expected_sha``.
- ``proposal``: name of a proposal without ``proposal/``: ``[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?``.
- ``delivery``: the webhook's delivery id, ``[A-Za-z0-9-]{1,64}``; with ``source`` ``webhook`` only, and required
  there, as is ``sha``. An id is taken once: the second request with it gets 409, also after a restart.
- ``reason``: 1 to 500 characters, no control characters but ``\\n``.
- ``snapshot``: the whole id of a snapshot, as ``snapshots`` has it; ``how``: ``digest`` or ``content``, the latter
  and ``snapshot_contents`` only where the private key is on the machine; ``new_label``: 1 to 64 of
  ``A-Z a-z 0-9 _ -``.
- ``path``: of a directory in it, escaped as in docs/snapshot-format.md, at most 4,096 characters.
- ``event``: of the lines that are wanted, or the start of it, ``[a-z][a-z_.-]{0,63}``; ``before``: number of the line
  to end before, 1 to 12 digits.
- ``what``, ``code``: what the controller refused and why, one of :data:`REFUSALS`; ``count``: how often since it was
  last said, 1 to 999999. Nothing of what was refused is told: it is a stranger's text.
- ``decision``: what the operator has the gateway do, one of :data:`DECISIONS`; ``outcome``: one of :data:`OUTCOMES`.
  ``request``: the gateway's id of what is decided, ``[A-Za-z0-9][A-Za-z0-9_-]{0,127}``; ``channel``: where somebody
  asks, ``[a-z][a-z0-9-]{0,31}``; ``account`` of the channel, and ``subject``, who is let in or turned away: 1 to 200
  printable ASCII characters, for both.
- ``text``: of the operator's configuration, at most 65,536 bytes in UTF-8, no control characters but tabs and ends of
  lines; ``base``: digest (SHA-256, 64 lower-case hexadecimal digits) of the text that it was made from. No answer and
  no job that is over has ``text`` among its options.
- ``id``: of a job, 24 lower-case hexadecimal digits; ids of later jobs sort after those of earlier ones.

The kill switch, ``lock``, waits for no job, and nothing here takes it back. It answers as soon as the lock is there;
the machine's guard then cuts the network and kills. ``{"lock": {"actor": "…", "time": "…", "reason": "…", …}}`` says
whose lock it is: of a bot that was locked before, the earlier one's.

The first eleven ops start a job: the answer comes as soon as it is accepted and written down; jobs of a bot run one
after another, at most 8 wait. ``jobs`` names the latest 50, newest first. JOB::

    {"id": "0193…", "kind": "promotion", "actor": "octocat", "source": "webhook",
     "options": {"sha": "…", "delivery": "…"},          # the fields of the request but actor and source
     "state": "queued" | "running" | "done" | "failed",
     "asked": TIME, "started": TIME | null, "ended": TIME | null,
     "progress": null | {"phase": "…", "bytes": 0, "total": 0, "rate": 0.0, "seconds_left": 0.0},
     "result": null | {…},
     "error": null | {"status": 409, "title": "…", "detail": "…"}}

TIME is UTC, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``. In ``progress``, ``bytes`` are behind it, ``total`` and ``seconds_left``
are 0 while unknown, ``rate`` is bytes a second. ``result`` is there when ``state`` is ``done``, ``error`` when it is
``failed``. Results:

- ``snapshot``: one entry of ``snapshots``, and ``warnings``, a list of texts.
- ``promotion``, ``rollback``: ``{"result": "promoted" | "unchanged", "from": COMMIT, "to": COMMIT, "reason": "…",
  "snapshot": "…", "recreated": false}``; ``snapshot`` is the id of the one made first, or empty. A promotion that was
  undone because the gateway did not get ready is a failed job with status 422.
- ``deny``: ``{"proposal": "…", "commit": COMMIT}``.
- ``memory_backup``: ``{"commit": COMMIT, "changed": true, "files": 3, "left_out": 0}``, the last two being numbers.
- ``snapshot_verify``: ``{"snapshot": "…", "how": "…", "checks": 3}``; one that does not pass is a failed job, 422.
- ``snapshot_restore``: ``{"snapshot": "…", "before": "…"}``; ``before`` is the id of the snapshot made first. One whose
  bot did not get ready with it is a failed job with status 422, and the bot has its old state back.
- ``snapshot_rename``: ``{"snapshot": "…", "label": "…"}``; ``snapshot_delete``: ``{"snapshot": "…"}``.

- ``config``, ``config_revert``: ``{"result": "saved" | "unchanged", "from": DIGEST, "to": DIGEST, "restarted": true}``;
  status 412 when ``base`` is not what is there, 422 when it is refused, or was put back because the gateway did not get
  ready with it.

An entry of ``snapshots`` (newest last)::

    {"id": "…", "time": TIME, "kind": "full" | "inc" | "legacy", "size": 123, "label": "…", "parent": "…" | null,
     "verified": TIME | null, "problem": "…"}

``promotion_info`` answers what module ``clawfactory_promotion_info`` returns, without paths. The other questions::

    machine  {"locked": false, "key": true, "free_bytes": 0, "total_bytes": 0, "schedule": {} | {"state": "running" |
              "made" | "verified" | "failed", "time": TIME | "", "snapshot": "…", "problem": "…"}}
    contents {"path": "…", "count": 0, "bytes": 0, "listing": {"entries": [{"name": "…", "kind": "f" | "d" | "l",
              "bytes": 0, "files": 0, "mtime_ns": 0, "target": "…"}], "count": 0}}
    memory   {"commit": COMMIT | "", "changed": true, "files": {PATH: BYTES}, "left_out": {PATH: REASON},
              "indexes": {NAME: BYTES}, "remote": false}
    egress   {"lines": 400, "denied": [{"time": TIME, "from": "…", "host": "…", "port": "…", "count": 3}]}
    audit    {"entries": [{"number": 7, "time": "…", "event": "…", "fields": {…}}], "total": 7, "more": false}
    audit    {"lines": 7, "problems": ["…"]}
    config   {"text": "…", "digest": DIGEST, "managed": "…", "known_good": null | {"text": "…", "digest": DIGEST}}
    check    {"problems": [{"path": "…", "message": "…", "line": 3, "column": 5}]}
    ollama   {"available": BYTES, "total": BYTES, "reserve": BYTES, "providers": [{"id": "…", "url": "…",
              "problem": "…", "models": [{"name": "…", "size": BYTES, "context": 0, "tokens": 0, "problem": "…"}]}]}

Field ``key`` says whether the private key is on the machine, ``schedule`` what the last scheduled snapshot came to
(``time`` is when it began; empty where none was yet), ``changed`` whether a backup would save something new.
Of ``egress`` and ``audit`` the newest come first; the second ``audit`` is of ``audit_verify``, no problem being a
whole chain.

What was ``refused`` is put into the bot's log of decisions, ``<root>/audit/<bot>.jsonl``; ``written`` is false where
the last hour has a line with that ``code``, and the next one then counts it in ``left_out``. It starts no job.

What is ``decided`` goes there too, as a line whose event is ``decision``: before it is done with outcome ``asked``, and
then with what came of it. So nothing is decided that is not written down; a controller whose ``asked`` is refused does
not go on. An hour has at most :data:`.decisions.MOST` of each, so that nobody drives older lines out of the log.

``follow`` answers with ``{"job": JOB}`` on a line at once, again whenever the job changes (at most five times a
second), and after 15 seconds without a change as it was, so that both sides notice when the other is gone. The line
in which ``state`` is ``done`` or ``failed`` is the last; then the service closes. A connection that closes before
means that the service ended: ask again.

A request that is refused gets ``{"status": N, "title": "…", "detail": "…"}`` instead (``follow`` too); no other
answer has ``status``:

- 400 not a request; 403 not the bot's controller; 404 no such job; 408 the request did not arrive in time;
- 409 refused as things are (a delivery seen before, snapshots that nobody set up); 413 the line is too long;
- 423 the bot is locked (``detail`` says how to unlock); 429 too many: of the agent's snapshots in an hour, of
  deletions in a day, of decisions in an hour, or jobs that wait;
- 500 the service failed, its log says how; 503 too many connections, or it is ending.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import CoreError

SOCKET_NAME = "jobs.sock"
REQUEST_BYTES = 262144
#: Of a text of the configuration; JSON may need three bytes for each.
TEXT_BYTES = 65536
ANSWER_BYTES = 4 << 20
#: Seconds for a request to arrive.
REQUEST_SECONDS = 5.0
#: Seconds for all of a snapshot to be read, of which something is asked.
CONTENTS_SECONDS = 600.0
#: Seconds after which ``follow`` repeats a line.
HEARTBEAT_SECONDS = 15.0
#: Ops that start a job.
KINDS = (
    "snapshot", "promotion", "rollback", "deny", "memory_backup",
    "snapshot_verify", "snapshot_restore", "snapshot_rename", "snapshot_delete", "config", "config_revert",
)  # fmt: skip
#: Ops that a process of its own answers, to the field of the answer.
QUESTIONS = {
    "snapshot_contents": "contents",
    "promotion_info": "promotion",
    "memory_info": "memory",
    "egress_info": "egress",
    "audit": "audit",
    "audit_verify": "audit",
    "config_info": "config",
    "config_check": "check",
    "ollama_info": "ollama",
}
#: What a controller refuses, to the reasons there are.
REFUSALS = {
    "webhook": (
        *("signature", "size", "type", "delivery", "event", "body", "settings", "merged", "repository", "branch"),
        *("actor", "commit", "replay", "machine"),
    ),
    "push": ("reference", "limit", "time", "content", "git"),
}
#: What an operator decides that the gateway keeps.
DECISIONS = ("device.approve", "device.reject", "pairing.approve", "gateway.restart")
#: ``unknown``: the gateway did not answer in time, and may have done it.
OUTCOMES = ("asked", "done", "failed", "unknown")
#: States in which a job is over.
ENDED = ("done", "failed")


class Refusal(CoreError):
    """A request that is refused, as the answer says it.

    :param status: as in HTTP, 400 to 599.
    :param title: a few words.
    :param detail: what was wrong and the way out.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail

    def to_dict(self) -> dict[str, Any]:
        """The answer."""
        return {"status": self.status, "title": self.title, "detail": self.detail}


@dataclass(frozen=True)
class Request:
    """A request whose fields are what the table allows.

    :param op: one of the table.
    :param fields: the others of the request, all strings.
    """

    op: str
    fields: Mapping[str, str] = field(default_factory=dict)


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as its line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def parse_request(line: bytes) -> Request:
    """The request on a line, with or without its end.

    :raises Refusal: 400, or 413 for a line that is too long.
    """
    if len(line) > REQUEST_BYTES:
        raise Refusal(413, "Request too long", f"a request has at most {REQUEST_BYTES} bytes")
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "Not a request", f"the line is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(400, "Not a request", "the line is not a JSON object")
    op = found.pop("op", None)
    allowed = _FIELDS.get(op) if isinstance(op, str) else None
    if allowed is None:
        raise Refusal(400, "Not a request", f"op {_shown(op)} is unknown; known are {', '.join(_FIELDS)}")
    for name, value in found.items():
        if name not in allowed:
            raise Refusal(
                400, "Not a request", f"{op} has no field {_shown(name)}; it has {', '.join(allowed) or 'none'}"
            )
        if not isinstance(value, str) or not _CHECKS[name](value):
            raise Refusal(400, "Not a request", f"{name} of {op} is not valid: {_shown(value)}")
    request = Request(str(op), found)
    _check_together(request)
    return request


def parse_answer(line: bytes) -> dict[str, Any]:
    """The answer on a line.

    :raises Refusal: the answer is one; 502 if it is not an answer at all.
    """
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal(502, "No answer", f"the jobs service did not answer with JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(502, "No answer", "the jobs service did not answer with a JSON object")
    if "status" in found:
        status = found["status"] if type(found["status"]) is int else 502
        raise Refusal(status, str(found.get("title", "")), str(found.get("detail", "")))
    return found


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: compiled.fullmatch(value) is not None


_TEXT = _matches(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]*")


def _is_text(value: str) -> bool:
    return _TEXT(value) and len(value.encode()) <= TEXT_BYTES


_COMMIT = _matches("[0-9a-f]{40}")
_CHECKS: dict[str, Callable[[str], bool]] = {
    "actor": _matches(r"[!-~]{1,100}"),
    "label": _matches(r"[A-Za-z0-9_ -]{0,64}"),
    "source": _matches("dashboard|webhook|polling"),
    "sha": _COMMIT,
    "expected_sha": _COMMIT,
    "proposal": _matches("[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?"),
    "delivery": _matches("[A-Za-z0-9-]{1,64}"),
    # C0, C1 and surrogates: what reads it may be a terminal, and a surrogate is no character.
    "reason": _matches(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]{1,500}"),
    "what": lambda value: value in REFUSALS,
    "code": _matches("[a-z]{1,16}"),
    "count": _matches("[1-9][0-9]{0,5}"),
    "id": _matches("[0-9a-f]{24}"),
    "snapshot": _matches(r"(?:[A-Za-z0-9_-]{1,80}--|snapshot-)\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ"),
    "how": _matches("digest|content"),
    "path": _matches(r"(?=.{1,4096}\Z)(?:[A-Za-z0-9._/-]|\\0[0-3][0-7]{2})+"),
    "new_label": _matches("[A-Za-z0-9_-]{1,64}"),
    "event": _matches("[a-z][a-z_.-]{0,63}"),
    "base": _matches("[0-9a-f]{64}"),
    "text": _is_text,
    "before": _matches("[0-9]{1,12}"),
    "decision": lambda value: value in DECISIONS,
    "outcome": lambda value: value in OUTCOMES,
    "request": _matches("[A-Za-z0-9][A-Za-z0-9_-]{0,127}"),
    "channel": _matches("[a-z][a-z0-9-]{0,31}"),
    "account": _matches("[ -~]{1,200}"),
    "subject": _matches("[ -~]{1,200}"),
}
#: Fields of each op; those in the second tuple may be left out.
_TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "snapshot": (("actor",), ("label",)),
    "promotion": (("actor", "source"), ("sha", "proposal", "expected_sha", "delivery")),
    "rollback": (("actor",), ("sha",)),
    "deny": (("actor", "proposal", "reason"), ()),
    "memory_backup": (("actor",), ()),
    "snapshot_verify": (("actor", "snapshot", "how"), ()),
    "snapshot_restore": (("actor", "snapshot"), ()),
    "snapshot_rename": (("actor", "snapshot", "new_label"), ()),
    "snapshot_delete": (("actor", "snapshot"), ()),
    "config": (("actor", "text", "base"), ()),
    "config_revert": (("actor", "base"), ()),
    "lock": (("actor",), ("reason",)),
    "job": (("id",), ()),
    "jobs": ((), ()),
    "follow": (("id",), ()),
    "snapshots": ((), ()),
    "snapshot_contents": (("snapshot",), ("path",)),
    "promotion_info": ((), ()),
    "machine_info": ((), ()),
    "memory_info": ((), ()),
    "egress_info": ((), ()),
    "audit": ((), ("event", "before")),
    "audit_verify": ((), ()),
    "refused": (("what", "code", "count"), ()),
    "decided": (("actor", "decision", "outcome"), ("request", "channel", "account", "subject")),
    "config_info": ((), ()),
    "ollama_info": ((), ()),
    "config_check": ((), ("text",)),
}
_FIELDS = {op: (*required, *optional) for op, (required, optional) in _TABLE.items()}


def _check_together(request: Request) -> None:
    """:raises Refusal: 400, fields that are missing, or do not go together."""
    op, found = request.op, request.fields
    missing = next((name for name in _TABLE[op][0] if name not in found), None)
    if missing is not None:
        raise Refusal(400, "Not a request", f"{op} lacks {missing}")
    if op == "snapshot" and found["actor"] not in ("agent", "operator"):
        raise Refusal(400, "Not a request", f"actor of snapshot is agent or operator, not {_shown(found['actor'])}")
    if op == "refused" and found["code"] not in REFUSALS[found["what"]]:
        raise Refusal(400, "Not a request", f"code of {found['what']} is one of {', '.join(REFUSALS[found['what']])}")
    if op == "promotion":
        if set(found) & {"sha", "proposal", "expected_sha"} not in (set(), {"sha"}, {"proposal", "expected_sha"}):
            raise Refusal(400, "Not a request", "promotion takes sha, or proposal with expected_sha, or neither")
        webhook = found["source"] == "webhook"
        if ("delivery" in found) != webhook or (webhook and "sha" not in found):
            raise Refusal(400, "Not a request", "source webhook comes with delivery and sha, no other with delivery")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def _shown(value: object) -> str:
    """A value of the other side as a message may carry it: short, and ASCII."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "…"
