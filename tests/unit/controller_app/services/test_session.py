from __future__ import annotations

import pytest

from controller_app.services import session as session_module
from controller_app.services.session import SESSION_SECONDS, SessionService, TooManyAttempts, WrongToken
from controller_app.services.throttle import LoginThrottle

OTHER_TOKEN = "1e7b3d5f9a0c2846c8e4d6b0a1f39c57"


@pytest.fixture
def make_sessions(token, clock):
    def make(token: str = token, bot: str = "bot1") -> SessionService:
        return SessionService(token=token, bot=bot, throttle=LoginThrottle(clock=clock), clock=clock)

    return make


@pytest.fixture
def sessions(make_sessions) -> SessionService:
    return make_sessions()


def test_session_is_open_until_it_expires(sessions, clock):
    cookie = sessions.open()
    clock.now += SESSION_SECONDS - 1
    assert sessions.is_open(cookie)
    clock.now += 1
    assert not sessions.is_open(cookie)


def test_sessions_differ(sessions):
    assert sessions.open() != sessions.open()


def test_any_changed_part_closes_the_door(sessions):
    cookie = sessions.open()
    expiry, nonce, signature = cookie.split(".")
    later = str(int(expiry) + 1)
    other_nonce = nonce[:-1] + ("0" if nonce[-1] != "0" else "1")
    other_signature = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    changed = [f"{later}.{nonce}.{signature}", f"{expiry}.{other_nonce}.{signature}"]
    changed += [f"{expiry}.{nonce}.{other_signature}", f"{cookie} ", f"{cookie}\n", "", "a.b.c", None]
    assert [value for value in changed if sessions.is_open(value)] == []
    assert sessions.is_open(cookie)


def test_new_token_ends_every_session(sessions, make_sessions):
    assert not make_sessions(token=OTHER_TOKEN).is_open(sessions.open())


def test_restart_keeps_sessions(sessions, make_sessions):
    assert make_sessions().is_open(sessions.open())


def test_session_of_another_bot_is_refused(sessions, make_sessions):
    other = make_sessions(bot="bot2")
    assert other.cookie_name != sessions.cookie_name
    assert not other.is_open(sessions.open())


def test_closed_session_stays_closed(sessions):
    cookie, other = sessions.open(), sessions.open()
    sessions.close(cookie)
    assert not sessions.is_open(cookie)
    assert sessions.is_open(other)


def test_closing_what_is_not_open_does_nothing(sessions):
    sessions.close(None)
    sessions.close("nonsense")
    sessions.close("9" * 12 + "." + "a" * 32 + "." + "b" * 64)
    assert sessions._closed == {}


def test_memory_of_closed_sessions_is_bounded(sessions, clock, monkeypatch):
    monkeypatch.setattr(session_module, "_CLOSED_REMEMBERED", 3)
    cookies = [sessions.open() for _ in range(5)]
    for cookie in cookies:
        sessions.close(cookie)
    assert len(sessions._closed) == 3
    assert not sessions.is_open(cookies[-1])
    clock.now += SESSION_SECONDS
    sessions.close(sessions.open())
    assert len(sessions._closed) == 1, "expired sessions need no memory"


def test_right_token_clears_the_failures(sessions, token):
    for _ in range(4):
        with pytest.raises(WrongToken):
            sessions.check_token("wrong", channel="form", client="a")
    sessions.check_token(token, channel="form", client="a")
    with pytest.raises(WrongToken):
        sessions.check_token("wrong", channel="form", client="a")


def test_waiting_client_is_not_listened_to(sessions, token, clock):
    for _ in range(5):
        with pytest.raises(WrongToken):
            sessions.check_token("wrong", channel="form", client="a")
    with pytest.raises(TooManyAttempts) as refusal:
        sessions.check_token(token, channel="form", client="a")
    assert refusal.value.retry_after == 60
    clock.now += 60
    sessions.check_token(token, channel="form", client="a")


def test_refused_token_is_not_logged(sessions, caplog):
    with pytest.raises(WrongToken):
        sessions.check_token("hunter2", channel="form", client="192.0.2.7")
    assert "192.0.2.7" in caplog.text
    assert "hunter2" not in caplog.text
