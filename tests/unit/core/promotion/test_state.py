from __future__ import annotations

import json
import os
import stat
import threading
import time
from dataclasses import replace

import pytest

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.promotion import state
from clawfactory_core.promotion.journal import Journal, read_journal, remove_journal, write_journal
from clawfactory_core.promotion.records import (
    Denial,
    HistoryEntry,
    append_history,
    read_denials,
    read_history,
    remove_denial,
    was_approved,
    write_denial,
)
from clawfactory_core.promotion.repository import Remote
from clawfactory_core.promotion.state import BotPromotion, PromotionSettings, promotion_lock

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def bot(tmp_path) -> BotPromotion:
    (tmp_path / "promotion" / "bot1").mkdir(parents=True)
    return BotPromotion(tmp_path, "bot1", os.geteuid(), os.geteuid(), 1, PromotionSettings())


def settings(**changes: object) -> str:
    held = {
        "schema": 1,
        "remote": {"url": "https://git.example/bot1.git", "branch": "live", "user": "x"},
        "ready_seconds": 90,
        "stop_seconds": 20,
        "snapshot": False,
        "keep_history": 5,
        "limits": {"files": 7},
        **changes,
    }
    return json.dumps({key: value for key, value in held.items() if value is not None})


def write(bot: BotPromotion, text: str) -> None:
    state.settings_path(bot.root, bot.bot).write_text(text)
    entry = {"slot": 2, "gateway_port": 19029, "controller_port": 8082}
    (bot.root / "allocations.json").write_text(json.dumps({"schema": 1, "bots": {"bot1": entry}}))


def entry(number: int, result: str = "promoted", **changes: object) -> HistoryEntry:
    values = {"from_commit": A, "to_commit": B, **changes}
    return HistoryEntry(str(number), state.now(), "alice", "playbook", result=result, **values)  # type: ignore[arg-type]


def test_bot_is_what_role_and_slot_say(bot):
    write(bot, settings())
    found = state.load(bot.root, "bot1")
    assert (found.uid, found.gateway_uid, found.gateway_port) == (30003, 20003, 19029)
    assert found.settings == PromotionSettings(
        Remote("https://git.example/bot1.git", "live", "x"), 90, 20, False, 5, {"files": 7}
    )
    assert found.directory == bot.root / "promotion" / "bot1"
    assert found.audit == bot.root / "audit" / "bot1.jsonl"


def test_token_of_the_remote_comes_from_the_controllers_secrets(bot):
    write(bot, settings())
    secrets = bot.root / "secrets" / "bot1"
    secrets.mkdir(parents=True)
    found = state.load(bot.root, "bot1")
    assert found.remote.token == ""
    (secrets / "controller.env").write_text("CONTROLLER_REMOTE_TOKEN=abc\n")
    assert found.remote == Remote("https://git.example/bot1.git", "live", "x", "abc")
    assert "abc" not in repr(found.remote)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        settings(schema=2),
        settings(remote=None),
        settings(remote={"url": ""}),
        settings(remote={"url": "", "branch": "main", "user": "", "token": "x"}),
        settings(snapshot="false"),
        settings(ready_seconds="soon"),
        settings(more=1),
        settings(limits=[]),
    ],
)
def test_settings_that_no_role_wrote_are_refused(bot, text):
    write(bot, text)
    with pytest.raises(InvalidInput, match=r"run: ansible-playbook site.yml -l bot1"):
        state.load(bot.root, "bot1")


def test_bots_that_are_not_there(bot):
    with pytest.raises(InvalidInput, match="bot1 is not deployed"):
        state.load(bot.root, "bot1")
    with pytest.raises(InvalidInput, match="not valid"):
        state.load(bot.root, "../bot1")


def test_history_is_newest_first_and_bounded(bot):
    bot = replace(bot, settings=PromotionSettings(keep_history=3))
    for number in range(5):
        append_history(bot, entry(number))
    assert [one.id for one in read_history(bot)] == ["4", "3", "2"]
    assert stat.S_IMODE((bot.directory / "history.jsonl").stat().st_mode) == 0o640


def test_history_survives_a_line_that_power_cut_short(bot):
    append_history(bot, entry(1))
    with (bot.directory / "history.jsonl").open("a") as file:
        file.write('{"id": "2", "ti')
    assert [one.id for one in read_history(bot)] == ["1"]
    append_history(bot, entry(3))
    assert [one.id for one in read_history(bot)] == ["3", "1"]


@pytest.mark.parametrize("changes", [{"result": "good"}, {"source": "chat"}])
def test_history_takes_known_words_only(bot, changes):
    with pytest.raises(InvalidInput, match="known are"):
        append_history(bot, replace(entry(1), **changes))
    assert read_history(bot) == []


def test_what_was_approved(bot):
    append_history(bot, entry(1, "restored", to_commit=C))
    assert was_approved(bot, A)
    assert not was_approved(bot, C)
    append_history(bot, entry(2, to_commit=C))
    assert was_approved(bot, C)
    assert not was_approved(bot, "d" * 40)


def test_denials_are_kept_by_name(bot):
    denial = Denial("new-skill", A, "no\nreally", "alice", state.now())
    write_denial(bot, denial)
    assert read_denials(bot) == {"new-skill": denial}
    # A copy under another name denies nothing.
    path = bot.directory / "denied" / "new-skill.json"
    (path.parent / "other.json").write_text(path.read_text())
    (path.parent / "torn.json").write_text("{")
    assert read_denials(bot) == {"new-skill": denial}
    assert remove_denial(bot, "new-skill")
    assert not remove_denial(bot, "new-skill")


def test_second_promotion_waits_or_is_told_who(bot):
    held, release = threading.Event(), threading.Event()

    def first() -> None:
        with promotion_lock(bot, "a promotion by alice"):
            held.set()
            release.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)
    with pytest.raises(Conflict, match=r"a promotion by alice, since 20.* is going on"), promotion_lock(bot, "b", 0.2):
        pass
    threading.Timer(0.3, release.set).start()
    began = time.monotonic()
    with promotion_lock(bot, "c", 10):
        assert time.monotonic() - began >= 0.2
    thread.join()


def test_lock_is_no_way_to_another_file(bot):
    (bot.directory / "precious").write_text("keep")
    (bot.directory / "lock").symlink_to("precious")
    with pytest.raises(OSError), promotion_lock(bot, "x", 0):  # noqa: PT011 - the kernel's own error says it all
        pass
    assert (bot.directory / "precious").read_text() == "keep"


def test_journal_is_read_back_and_removed(bot):
    journal = Journal("1", "switched", A, B, "alice", "webhook", state.now(), True, False, delivery="d")
    assert read_journal(bot) is None
    write_journal(bot, journal)
    assert read_journal(bot) == journal
    remove_journal(bot)
    remove_journal(bot)
    assert read_journal(bot) is None


@pytest.mark.parametrize("text", ["", "{}", '{"phase": "x"}', "[]"])
def test_damaged_journal_stops_everything(bot, text):
    (bot.directory / "journal.json").write_text(text)
    with pytest.raises(Conflict, match=r"journal.json is damaged"):
        read_journal(bot)


def test_journal_of_an_unknown_phase_or_commit_stops_everything(bot):
    good = Journal("1", "switched", A, B, "alice", "webhook", state.now(), True, False)
    for bad in (replace(good, phase="done"), replace(good, to_commit="main")):
        write_journal(bot, bad)
        with pytest.raises(Conflict, match="damaged"):
            read_journal(bot)
