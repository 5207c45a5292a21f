"""What decides: roles, scope, keys, sessions, and where the doors may stay open."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.spec import StreamSpec
from deployments.supervisor.registry import StreamRegistry
from engines.errors import EngineError
from serve_app.auth.config import SECRET_VARIABLE, session_secret
from serve_app.auth.listening import OpenDoors, require_closed_or_local
from serve_app.auth.logouts import KEPT, Ended
from serve_app.auth.roles import Principal, Role, patched_labels
from serve_app.auth.secret import new_key, read_key
from serve_app.auth.session import Session, SessionSigner
from tests.support.closed_api import SECRET

words = st.text("abc", max_size=2)
labels = st.dictionaries(words, words, max_size=4)


def test_roles_are_in_order() -> None:
    assert [[role.covers(needed) for needed in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@given(labels, labels)
def test_a_scope_is_a_part_of_the_labels(scope: dict[str, str], of_stream: dict[str, str]) -> None:
    who = Principal("key:a", "a", Role.VIEWER, scope)
    assert who.sees(of_stream) == (scope.items() <= of_stream.items())
    assert who.sees({**of_stream, **scope})


@given(labels, st.one_of(st.none(), st.dictionaries(words, st.one_of(st.none(), words), max_size=4)))
def test_patched_labels_are_those_that_the_stream_will_have(before: dict[str, str], change: Any) -> None:
    registry = StreamRegistry()
    spec = StreamSpec.model_validate({"id": "gate", "source": {"url": "testsrc://"}, "labels": before})
    registry.put(spec, None)
    for patch in ({"labels": change}, {"paused": True}):
        assert patched_labels(before, patch) == registry.merged("gate", patch).labels


@given(st.sampled_from([5, ["a"], "a=b", True]))
def test_labels_that_are_none_are_in_no_scope(change: Any) -> None:
    assert not Principal("key:a", "a", Role.VIEWER, {"site": "north"}).sees(
        patched_labels({"site": "north"}, {"labels": change})
    )


def test_keys_are_long_and_hidden() -> None:
    key, other = new_key(), new_key()
    assert read_key(str(key)) == key
    assert len(key.secret) * 4 == 256
    assert (key.fits(key.digest()), key.fits(other.digest())) == (True, False)
    assert key.secret not in repr(key) + key.digest()


@given(st.one_of(st.text(), st.text("rsk_0123456789abcdef", min_size=70, max_size=110)))
def test_other_texts_are_no_keys(text: str) -> None:
    found = read_key(text)
    assert found is None or str(found) == text


@given(st.integers(0, 200), st.sampled_from(string.printable + "é"))
def test_a_session_that_was_touched_does_not_hold(place: int, put: str) -> None:
    signer = SessionSigner(SECRET)
    cookie = signer.seal({"key": "abc"}, 10.0, 100.0)
    opened = signer.open(cookie, 99.0)
    assert opened is not None
    content, session = opened
    assert (content, session[1:]) == ({"key": "abc"}, (10.0, 100.0))
    assert signer.open(cookie, 100.0) is None
    changed = cookie[: place % len(cookie)] + put + cookie[place % len(cookie) + 1 :]
    assert changed == cookie or signer.open(changed, 0.0) is None
    assert SessionSigner(SECRET[::-1]).open(cookie, 0.0) is None
    assert signer.csrf_fits(cookie, signer.csrf(cookie))
    assert not signer.csrf_fits(signer.seal({"key": "abc"}, 10.0, 100.0), signer.csrf(cookie))


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(1, 50), st.floats(0, 5)), max_size=3 * KEPT))
def test_what_ended_stays_ended_in_bounded_memory(logouts: list[tuple[float, float, float]]) -> None:
    """However many sessions end, and whenever they began."""
    ended, now, sessions = Ended(), 50.0, []
    for number, (began_at, lasts, pause) in enumerate(logouts):
        now += pause
        sessions.append(Session(str(number), began_at, now + lasts))
        ended = ended.ending(sessions[-1], now)
        assert all(ended.covers(session) for session in sessions if session.expires_at > now)
        assert len(ended.sessions) <= KEPT
    assert not ended.covers(Session("new", now + 1, now + 2))
    if len(sessions) <= KEPT:
        assert not ended.covers(Session("another of long ago", 1.0, now + 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.0.1", "::1", "[::1]", "localhost"])
def test_open_doors_on_this_machine(host: str) -> None:
    require_closed_or_local("off", host, "loopback")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "", "cameras.example", None, "127.0.0.1.example"])
def test_open_doors_are_refused_elsewhere(host: str | None) -> None:
    with pytest.raises(OpenDoors, match=r"Set `auth: keys`.*or `host: 127\.0\.0\.1` in http_options"):
        require_closed_or_local("off", host, "loopback")
    require_closed_or_local("keys", host, "anywhere")


def test_open_grpc_is_refused() -> None:
    with pytest.raises(OpenDoors, match="Set `auth: keys`"):
        require_closed_or_local("off", "127.0.0.1", "anywhere")


def test_what_signs_sessions() -> None:
    assert session_secret({SECRET_VARIABLE: "s" * 32}, 3) == b"s" * 32
    assert session_secret({}, 1) != session_secret({}, 1)
    for environment, replicas in (({}, 2), ({SECRET_VARIABLE: "short"}, 1)):
        with pytest.raises(EngineError, match="openssl rand -hex 32"):
            session_secret(environment, replicas)
