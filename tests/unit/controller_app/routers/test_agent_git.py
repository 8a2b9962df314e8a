"""The bot's repository over real HTTP: what git itself sees, and what an attacker with the bot's token gets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import threading
import time
from pathlib import Path

import httpx
import pytest

from clawfactory_core.promotion.secret_rules import make_fingerprints
from controller_app.agent import create_agent_app
from controller_app.dependencies import get_app_services
from controller_app.services.push_commands import PushCommands, read_commands
from tests.support.agent_server import serving
from tests.support.git_repositories import commit, git, hash_object, make_repositories, plant, run

SECRET = "hunter2-is-the-key-of-the-gateway"
PRIVATE_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"b3BlbnNz" * 30 + b"\n-----END OPENSSH PRIVATE KEY-----\n"
FILES = {"workspace/SOUL.md": "I am a bot.\n", "workspace/skills/a/SKILL.md": "A skill.\n", "README.md": "Bot 1\n"}


@pytest.fixture
def repositories(settings):
    made = make_repositories(settings.repositories_dir, FILES)
    (settings.promotion_dir / "denied").mkdir(parents=True)
    settings.fingerprints_file.write_text(json.dumps(make_fingerprints([SECRET])))
    return made


@pytest.fixture
def options() -> dict:
    """Settings that a test changes."""
    return {}


@pytest.fixture
def address(settings, app, repositories, options):
    with serving(create_agent_app(settings.model_copy(update=options), get_app_services(app))) as address:
        yield address


@pytest.fixture
def url(address, secret_values):
    return f"http://bot:{secret_values['CONTROLLER_AGENT_TOKEN']}@{address}/agent/repository.git"


@pytest.fixture
def work(url, tmp_path) -> Path:
    path = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", url, str(path))
    return path


@pytest.fixture
def headers(secret_values):
    return {"Authorization": f"Bearer {secret_values['CONTROLLER_AGENT_TOKEN']}"}


def push(work: Path, *refspecs: str, force: bool = False):
    return run(work, "push", *(["--force"] if force else []), "origin", *refspecs)


def refused(ended, *texts: str) -> None:
    assert ended.returncode != 0, ended.stderr
    missing = [text for text in texts if text not in ended.stderr]
    assert not missing, ended.stderr


def test_clone_has_the_approved_history(work, repositories):
    assert git(work, "rev-parse", "origin/main") == repositories.main
    assert (work / "workspace" / "SOUL.md").read_text() == FILES["workspace/SOUL.md"]
    assert git(work, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_proposal_is_taken_and_can_be_fetched(work, repositories, url, tmp_path):
    sha = commit(work, "Be kinder", {"workspace/SOUL.md": "I am a kind bot.\n"})
    ended = push(work, "HEAD:refs/heads/proposal/kinder")
    assert ended.returncode == 0, ended.stderr
    assert repositories.refs(repositories.proposals) == {"refs/heads/proposal/kinder": sha}
    git(tmp_path, "clone", "--quiet", "--branch", "proposal/kinder", url, "again")
    assert (tmp_path / "again" / "workspace" / "SOUL.md").read_text() == "I am a kind bot.\n"


def test_proposal_grows(work, repositories):
    commit(work, "One", {"a.md": "1\n"})
    assert push(work, "HEAD:refs/heads/proposal/x").returncode == 0
    sha = commit(work, "Two", {"a.md": "2\n"})
    assert push(work, "HEAD:refs/heads/proposal/x").returncode == 0
    assert repositories.refs(repositories.proposals) == {"refs/heads/proposal/x": sha}


def test_large_push_is_sent_in_chunks(work, repositories):
    commit(work, "Noise", {f"noise/{number}.txt": os.urandom(450_000).hex() for number in range(4)})
    ended = push(work, "HEAD:refs/heads/proposal/noise")
    assert ended.returncode == 0, ended.stderr


def test_main_moves_on(work, repositories):
    sha = commit(repositories.directory / "work", "second", {"README.md": "Bot 1, approved\n"})
    git(repositories.directory / "work", "push", "--quiet", str(repositories.origin), "HEAD:main")
    git(work, "pull", "--quiet", "--ff-only")
    assert git(work, "rev-parse", "HEAD") == sha


@pytest.mark.parametrize(
    "refspec",
    [
        "HEAD:refs/heads/main",
        "HEAD:refs/heads/master",
        "HEAD:refs/heads/memory-backup",
        "HEAD:refs/heads/proposal/",
        "HEAD:refs/heads/proposal",
        "HEAD:refs/heads/proposal/A",
        "HEAD:refs/heads/proposal/a/b",
        "HEAD:refs/heads/proposal/-a",
        "HEAD:refs/heads/proposal/" + "a" * 65,
        "HEAD:refs/heads/proposals/a",
        "HEAD:refs/tags/v1",
        "HEAD:refs/tags/proposal/a",
        "HEAD:refs/notes/commits",
        "HEAD:refs/pull/1/head",
        "HEAD:refs/pull/1/merge",
        "HEAD:refs/proposals/a",
        "HEAD:refs/replace/" + "1" * 40,
        "HEAD:refs/remotes/origin/main",
        "HEAD:refs/stash",
        "HEAD:refs/meta/config",
        "HEAD:refs/namespaces/a/refs/heads/proposal/a",
    ],
)
def test_no_other_ref_can_be_pushed(work, repositories, refspec):
    before = repositories.refs(repositories.proposals), repositories.refs(repositories.origin)
    commit(work, "Mine", {"workspace/SOUL.md": "I obey nobody.\n"})
    ended = push(work, refspec, force=True)
    assert ended.returncode != 0
    if refspec.count("/") > 2 and not refspec.endswith("/"):
        refused(ended, "only refs/heads/proposal/<name> may be pushed", "git push origin HEAD:")
    assert (repositories.refs(repositories.proposals), repositories.refs(repositories.origin)) == before


def test_one_bad_ref_refuses_the_whole_push(work, repositories):
    commit(work, "Mine", {"a.md": "1\n"})
    refused(push(work, "HEAD:refs/heads/proposal/fine", "HEAD:refs/heads/main"), "refused with the rest")
    assert repositories.refs(repositories.proposals) == {}


def test_annotated_tag_is_no_proposal(work, repositories):
    git(work, "tag", "--annotate", "--message=x", "v1")
    refused(push(work, "refs/tags/v1:refs/heads/proposal/tag"))
    assert repositories.refs(repositories.proposals) == {}


def test_proposal_cannot_be_deleted(work, repositories):
    commit(work, "One", {"a.md": "1\n"})
    push(work, "HEAD:refs/heads/proposal/x")
    before = repositories.refs(repositories.proposals)
    assert before
    refused(push(work, ":refs/heads/proposal/x"), "cannot be deleted")
    assert repositories.refs(repositories.proposals) == before


def test_history_cannot_be_rewritten(work, repositories):
    commit(work, "One", {"a.md": "1\n"})
    push(work, "HEAD:refs/heads/proposal/x")
    before = repositories.refs(repositories.proposals)
    git(work, "commit", "--quiet", "--amend", "--message=Other")
    refused(push(work, "HEAD:refs/heads/proposal/x", force=True), "REFUSED")
    assert repositories.refs(repositories.proposals) == before


def test_foreign_history_is_refused(work, repositories):
    git(work, "checkout", "--quiet", "--orphan", "other")
    commit(work, "No parents")
    refused(push(work, "HEAD:refs/heads/proposal/x"), "REFUSED")
    assert repositories.refs(repositories.proposals) == {}


TREES = {
    "dot git": [("100644", ".git", b"x")],
    "dot git in capitals": [("100644", ".GIT", b"x")],
    "dot git of HFS": [("100644", ".g\u200cit", b"x")],
    "dot git of NTFS": [("100644", "git~1", b"x")],
    "dot git with a dot": [("100644", ".git.", b"x")],
    "gitmodules": [("100644", ".gitmodules", b'[submodule "a"]\n')],
    "gitattributes": [("100644", ".gitattributes", b"* filter=x\n")],
    "submodule": [("160000", "module", b"")],
    "parent": [("100644", "..", b"x")],
    "absolute link": [("120000", "link", b"/etc/passwd")],
    "link upwards": [("120000", "link", b"../../outside")],
    "looping link": [("120000", "one", b"two"), ("120000", "two", b"one")],
    "equal in lower case": [("100644", "a.md", b"1"), ("100644", "A.md", b"2")],
    "control character": [("100644", "a\x1b[2J", b"x")],
    "line break": [("100644", "a\nb", b"x")],
    "backslash": [("100644", "a\\b", b"x")],
    "not UTF-8": [("100644", "a\udcff", b"x")],
    "setuid": [("104755", "a", b"x")],
    "long name": [("100644", "a" * 300, b"x")],
    "large blob": [("100644", "large", b"x" * (5 * 2**20 + 1))],
    "duplicate": [("100644", "a", b"x"), ("100644", "a", b"y")],
    "secret of the bot": [("100644", "notes.md", f"the key is {SECRET}!".encode())],
    "private key": [("100644", "key", PRIVATE_KEY)],
}


@pytest.mark.parametrize("kind", TREES)
def test_crafted_tree_is_refused(work, repositories, kind):
    sha = plant(work, TREES[kind])
    ended = push(work, f"{sha}:refs/heads/proposal/x")
    refused(ended)
    assert "remote:" in ended.stderr, "the bot is told why"
    assert SECRET not in ended.stderr
    assert repositories.refs(repositories.proposals) == {}


def test_tree_is_looked_at_in_every_commit(work, repositories):
    bad = plant(work, [("120000", "link", b"/etc/passwd")])
    git(work, "reset", "--quiet", "--soft", bad)
    commit(work, "Nothing to see here", {"a.md": "1\n"})
    refused(push(work, "HEAD:refs/heads/proposal/x"), "REFUSED")
    assert repositories.refs(repositories.proposals) == {}


def test_broken_objects_are_refused(work, repositories):
    tree = git(work, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nparent {repositories.main}\nauthor nobody\ncommitter nobody\n\nx\n"
    sha = hash_object(work, "commit", text.encode())
    refused(push(work, f"{sha}:refs/heads/proposal/x"))
    assert repositories.refs(repositories.proposals) == {}


def test_secret_in_a_message_is_refused(work, repositories):
    commit(work, f"The key is {SECRET}", {"a.md": "1\n"})
    ended = push(work, "HEAD:refs/heads/proposal/x")
    refused(ended, "REFUSED")
    assert SECRET not in ended.stderr


def test_denied_name_is_refused_with_the_reason(work, repositories, settings):
    record = {"name": "x", "commit": "1" * 40, "reason": "Too kind.", "actor": "operator", "time": "2027-01-15"}
    (settings.promotion_dir / "denied" / "x.json").write_text(json.dumps(record))
    commit(work, "One", {"a.md": "1\n"})
    refused(push(work, "HEAD:refs/heads/proposal/x"), "Too kind.")
    assert push(work, "HEAD:refs/heads/proposal/y").returncode == 0


def test_limits_of_promotions_hold_for_pushes(work, repositories, settings):
    limits = {"files": 3, "blob_bytes": 100, "total_bytes": 1000, "name_bytes": 1000, "depth": 4}
    (settings.promotion_dir / "settings.json").write_text(json.dumps({"schema": 1, "limits": limits}))
    commit(work, "Longer", {"README.md": "x" * 101})
    refused(push(work, "HEAD:refs/heads/proposal/longer"), "REFUSED")
    git(work, "reset", "--quiet", "--hard", "origin/main")
    commit(work, "More", {"more.md": "x"})
    refused(push(work, "HEAD:refs/heads/proposal/more"), "REFUSED")
    git(work, "reset", "--quiet", "--hard", "origin/main")
    commit(work, "Fine", {"README.md": "y"})
    assert push(work, "HEAD:refs/heads/proposal/fine").returncode == 0


@pytest.mark.parametrize("broken", ["fingerprints", "denied", "settings"])
def test_what_cannot_be_checked_is_refused(work, repositories, settings, broken, caplog):
    if broken == "fingerprints":
        settings.fingerprints_file.unlink()
    elif broken == "settings":
        (settings.promotion_dir / "settings.json").write_text('{"limits": {"colour": 1}}')
    else:
        (settings.promotion_dir / "denied" / "x.json").write_text("{")
    commit(work, "One", {"a.md": "1\n"})
    with caplog.at_level(logging.WARNING, logger="controller_app.audit"):
        refused(push(work, "HEAD:refs/heads/proposal/x"), "could not be checked")
    assert repositories.refs(repositories.proposals) == {}
    assert broken in caplog.text


def test_refusals_are_in_the_log(work, caplog):
    commit(work, "Mine", {"a.md": "1\n"})
    with caplog.at_level(logging.WARNING, logger="controller_app.audit"):
        push(work, "HEAD:refs/heads/main")
        push(work, f"{plant(work, [('120000', 'l', b'/etc')])}:refs/heads/proposal/x")
    first, second = [json.loads(record.getMessage()) for record in caplog.records]
    assert (first["event"], first["ref"]) == ("push.refused", "refs/heads/main")
    assert second["event"] == "push.refused"
    assert "proposal/x" in second["reason"]


def test_machine_is_told_of_refusals(app, work, jobs):
    commit(work, "Mine", {"a.md": "1\n"})
    push(work, "HEAD:refs/heads/main")
    push(work, f"{plant(work, [('120000', 'l', b'/etc')])}:refs/heads/proposal/x")
    broken = hash_object(work, "commit", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor\n\nx\n")
    push(work, f"{broken}:refs/heads/proposal/y")
    assert push(work, "HEAD:refs/heads/proposal/z").returncode == 0
    assert asyncio.run(get_app_services(app).refusals.tell())
    told = [(fields["what"], fields["code"], fields["count"]) for fields in jobs.asked("refused")]
    assert told == [("push", "reference", "1"), ("push", "content", "1"), ("push", "git", "1")]


def test_nothing_of_a_refused_push_stays(work, repositories):
    push(
        work, f"{plant(work, [('100644', 'notes', os.urandom(1 << 20)), ('120000', 'l', b'/x')])}:refs/heads/proposal/x"
    )
    left = [path for path in (repositories.proposals / "objects").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["alternates"]


class TestLimits:
    @pytest.mark.parametrize("options", [{"push_max_mb": 1}])
    def test_pack(self, work, repositories):
        commit(work, "Large", {f"{n}.txt": os.urandom(600_000).hex() for n in range(2)})
        ended = push(work, "HEAD:refs/heads/proposal/x")
        refused(ended)
        assert repositories.refs(repositories.proposals) == {}

    @pytest.mark.parametrize("options", [{"pushes_per_hour": 2}])
    def test_rate(self, work, repositories):
        commit(work, "One", {"a.md": "1\n"})
        for _ in range(2):
            push(work, f"{plant(work, [('120000', 'l', b'/x')])}:refs/heads/proposal/x")
        refused(push(work, "HEAD:refs/heads/proposal/x"), "too many pushes in an hour; try again in")
        assert repositories.refs(repositories.proposals) == {}

    @pytest.mark.parametrize("options", [{"proposals_max_mb": 1}])
    def test_size_of_all_proposals(self, work, repositories):
        (repositories.proposals / "objects" / "filler").write_bytes(b"x" * (2 << 20))
        commit(work, "One", {"a.md": "1\n"})
        refused(push(work, "HEAD:refs/heads/proposal/x"), "all proposals together take 2 MiB, more than the 1 MiB")

    @pytest.mark.parametrize("options", [{"proposals_max": 2, "pushes_per_hour": 20}])
    def test_number_of_open_proposals(self, work, repositories, settings):
        for name in ("a", "b"):
            commit(work, name, {f"{name}.md": name})
            assert push(work, f"HEAD:refs/heads/proposal/{name}").returncode == 0
        commit(work, "More", {"more.md": "x"})
        refused(push(work, "HEAD:refs/heads/proposal/c"), "only 2 proposals may be open")
        assert push(work, "HEAD:refs/heads/proposal/b").returncode == 0, "an open one may go on"
        assert set(repositories.refs(repositories.proposals)) == {"refs/heads/proposal/a", "refs/heads/proposal/b"}
        commit_of_a = repositories.refs(repositories.proposals)["refs/heads/proposal/a"]
        record = json.dumps({"name": "a", "commit": commit_of_a, "reason": "No."})
        (settings.promotion_dir / "denied" / "a.json").write_text(record)
        assert push(work, "HEAD:refs/heads/proposal/c").returncode == 0, "a decision made room"
        refused(push(work, "HEAD:refs/heads/proposal/d"), "only 2 proposals may be open")

    @pytest.mark.parametrize("options", [{"proposals_max_mb": 3}])
    def test_decided_proposals_make_room(self, work, repositories, settings):
        main = git(work, "rev-parse", "HEAD")
        for name in ("merged", "denied", "open"):
            git(work, "reset", "--quiet", "--hard", main)
            commit(work, name, {f"{name}.txt": os.urandom(700_000).hex()})
            ended = push(work, f"HEAD:refs/heads/proposal/{name}")
            assert ended.returncode == 0, ended.stderr
        git(repositories.origin, "fetch", "--quiet", str(repositories.proposals), "proposal/merged:main")
        record = json.dumps({"name": "denied", "commit": "1" * 40, "reason": "No."})
        (settings.promotion_dir / "denied" / "denied.json").write_text(record)
        (repositories.proposals / "objects" / "filler").write_bytes(os.urandom(1 << 20))
        git(work, "reset", "--quiet", "--hard", main)
        commit(work, "More", {"a.md": "1\n"})
        ended = push(work, "HEAD:refs/heads/proposal/more")
        assert ended.returncode == 0, ended.stderr
        left = set(repositories.refs(repositories.proposals))
        assert left == {"refs/heads/proposal/open", "refs/heads/proposal/more"}
        git(repositories.proposals, "fsck", "--connectivity-only")

    def test_body_that_unpacks_to_more_than_a_push_may_have(self, address, headers):
        bomb = gzip.compress(b"\0" * (64 << 20))
        assert len(bomb) < 100_000
        sent = {**headers, "Content-Type": "application/x-git-receive-pack-request", "Content-Encoding": "gzip"}
        response = httpx.post(f"http://{address}/agent/repository.git/git-receive-pack", headers=sent, content=bomb)
        assert response.status_code == 413

    def test_object_that_unpacks_to_more_than_memory(self, work, repositories):
        sha = plant(work, [("100644", "zeros", b"\0" * (200 << 20))])
        ended = push(work, f"{sha}:refs/heads/proposal/x")
        refused(ended)
        assert repositories.refs(repositories.proposals) == {}

    @pytest.mark.parametrize("options", [{"push_seconds": 5}])
    def test_slow_body_gives_way(self, address, headers, work):
        def slowly():
            for _ in range(80):
                yield b"0"
                time.sleep(0.1)

        sent = {**headers, "Content-Type": "application/x-git-receive-pack-request"}
        target = f"http://{address}/agent/repository.git/git-receive-pack"
        thread = threading.Thread(target=lambda: httpx.post(target, headers=sent, content=slowly(), timeout=20))
        thread.start()
        time.sleep(0.3)
        commit(work, "One", {"a.md": "1\n"})
        assert push(work, "HEAD:refs/heads/proposal/x").returncode == 0
        thread.join()


class TestAccess:
    @pytest.mark.parametrize("login", ["", "bot@", "bot:wrong@", "bot:{operator}@", "bot:{webhook}@"])
    def test_only_the_agent_token_opens(self, address, secret_values, tmp_path, login):
        login = login.format(
            operator=secret_values["CONTROLLER_TOKEN"], webhook=secret_values["CONTROLLER_WEBHOOK_SECRET"]
        )
        ended = run(tmp_path, "ls-remote", f"http://{login}{address}/agent/repository.git")
        assert ended.returncode != 0
        assert "refs/" not in ended.stdout

    def test_bearer_opens_too(self, address, tmp_path, headers, repositories):
        setting = f"http.extraHeader=Authorization: {headers['Authorization']}"
        listed = git(tmp_path, "-c", setting, "ls-remote", f"http://{address}/agent/repository.git")
        assert f"{repositories.main}\trefs/heads/main" in listed

    def test_login_is_for_git_alone(self, address, secret_values):
        login = httpx.BasicAuth("bot", secret_values["CONTROLLER_AGENT_TOKEN"])
        assert httpx.get(f"http://{address}/agent/status", auth=login).status_code == 401
        target = f"http://{address}/agent/repository.git/info/refs?service=git-upload-pack"
        assert httpx.get(target, auth=login).status_code == 200

    @pytest.mark.parametrize(
        "path",
        [
            "info/refs",
            "info/refs?service=git-upload-archive",
            "info/refs?service=../../x",
            "HEAD",
            "objects/info/packs",
            "objects/info/alternates",
            "../origin.git/HEAD",
            "..%2forigin.git%2fHEAD",
            "config",
        ],
    )
    def test_nothing_else_is_served(self, address, headers, path):
        response = httpx.get(f"http://{address}/agent/repository.git/{path}", headers=headers)
        assert response.status_code in (404, 422)

    @pytest.mark.parametrize(
        ("body", "sent", "status"),
        [
            (b"nonsense", {}, 400),
            (b"0000", {"Content-Type": "text/plain"}, 415),
            (b"0000", {"Content-Encoding": "br"}, 415),
            (b"nonsense", {"Content-Encoding": "gzip"}, 400),
            (gzip.compress(b"0000", mtime=0)[:-4], {"Content-Encoding": "gzip"}, 400),
            (gzip.compress(b"0000", mtime=0) + b"x", {"Content-Encoding": "gzip"}, 400),
            (gzip.compress(b"0000", mtime=0), {"Content-Encoding": "gzip"}, 200),
            (b"ffff", {}, 400),
            (b"0001", {}, 400),
            (b"0032shallow " + b"1" * 40, {}, 400),
            (b"0000", {}, 200),
        ],
    )
    def test_malformed_push_is_refused(self, address, headers, body, sent, status):
        sent = {**headers, "Content-Type": "application/x-git-receive-pack-request", **sent}
        response = httpx.post(f"http://{address}/agent/repository.git/git-receive-pack", headers=sent, content=body)
        assert response.status_code == status

    @pytest.mark.parametrize("service", ["git-receive-pack", "git-upload-pack"])
    def test_nothing_may_follow_a_gzip_body(self, address, headers, service):
        def chunks():
            yield gzip.compress(b"0000")
            time.sleep(0.2)  # a chunk of its own
            yield b"x" * 1000

        sent = {**headers, "Content-Type": f"application/x-{service}-request", "Content-Encoding": "gzip"}
        response = httpx.post(f"http://{address}/agent/repository.git/{service}", headers=sent, content=chunks())
        assert response.status_code == 400 and "follows the end" in response.text

    def test_hidden_refs_and_loose_objects_stay_hidden(self, address, headers, repositories, tmp_path, url):
        git(repositories.proposals, "update-ref", "refs/notes/x", repositories.main)
        assert "refs/notes" not in git(tmp_path, "ls-remote", url)


def test_failing_fetch_tells_nothing(address, headers):
    sent = {**headers, "Content-Type": "application/x-git-upload-pack-request"}
    want = b"0032want " + b"1" * 40 + b"\n00000009done\n"
    response = httpx.post(f"http://{address}/agent/repository.git/git-upload-pack", headers=sent, content=want)
    assert b"not our ref" in response.content
    assert b"proposals.git" not in response.content


def test_commands_are_read():
    line = f"{'0' * 40} {'1' * 40} refs/heads/proposal/x\0 report-status side-band-64k agent=git/2\n".encode()
    body = f"{len(line) + 4:04x}".encode() + line + b"0000PACK"
    push = read_commands(body)
    assert isinstance(push, PushCommands)
    assert [(command.new, command.ref) for command in push.commands] == [("1" * 40, "refs/heads/proposal/x")]
    assert push.capabilities == {"report-status", "side-band-64k", "agent=git/2"}


@pytest.mark.parametrize(
    "body", [b"", b"0000", b"x", b"zzzz", b"0009want", b"000ewant none\n0000", b"0032want " + b"f" * 40 + b"\n"]
)
def test_a_body_that_is_no_fetch_is_refused_as_one(address, headers, body):
    headers = {**headers, "Content-Type": "application/x-git-upload-pack-request"}
    response = httpx.post(f"http://{address}/agent/repository.git/git-upload-pack", content=body, headers=headers)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert response.json()["detail"] == "The body is not a fetch as git sends it."
    else:
        assert not response.content.startswith(b"PACK")
