"""A key that encrypts the store is exchanged, and the old one is thrown away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.store import renewal
from deployments.store.opening import open_store, sqlite_url
from deployments.store.protocol import Conflict, Record
from deployments.store.redis import RedisStore
from deployments.store.sealed import KEY_VARIABLE, SealedStore
from deployments.store.sqlite import SqliteStore
from tests.integration.store.conftest import Opener
from tests.support.cluster import wait_until
from tests.support.redis_server import RedisServer

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def fill(*stores: SealedStore) -> None:
    for number, store in enumerate(stores):
        for kind in ("stream", "key"):
            store.put(kind, f"{number}", b"to be changed", None)
            store.put(kind, f"{number}", b"hunter%d" % number, 1)
        store.put("lease", f"{number}", b"", None)


def assert_unwritten(word: bytes, folder: Path) -> None:
    """No file has it, be it after the moment that Redis takes."""
    wait_until(lambda: not any(word in path.read_bytes() for path in folder.rglob("*") if path.is_file()))


def kept(store: SealedStore) -> dict[str, dict[str, Record]]:
    return {kind: store.all(kind) for kind in store.kinds()}


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_all_is_encrypted_with_the_first_key_at_its_old_version(
    kind: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path / "registry.db") if kind == "sqlite" else f"{redis_server.url}?prefix=[{tmp_path.name}]"
    both = {KEY_VARIABLE: f"{NEW},{OLD}"}
    fill(open_store(url, {}), open_store(url, {KEY_VARIABLE: OLD}), open_store(url, both))
    before = kept(open_store(url, both))
    assert open_store(url, both).renew() == 4  # two in clear text and two with the old key; those with the new one stay
    assert kept(open_store(url, {KEY_VARIABLE: NEW})) == before
    assert open_store(url, both).renew() == 0
    assert_unwritten(b"hunter", redis_server.folder if kind == "redis" else tmp_path)
    bare = RedisStore(url) if kind == "redis" else SqliteStore(tmp_path / "registry.db")
    assert not any(b"hunter" in record.value for of in bare.kinds() for record in bare.all(of).values())


def test_what_has_nothing_in_it_is_read_with_any_key(tmp_path: Path) -> None:
    """A process that has not yet been told of a new key has to go on reading its lease."""
    url = sqlite_url(tmp_path / "registry.db")
    open_store(url, {KEY_VARIABLE: NEW}).put("lease", "gate", b"", None)
    assert open_store(url, {KEY_VARIABLE: OLD}).get("lease", "gate") == Record(b"", 1)
    # As it was stored earlier: encrypted all the same.
    SqliteStore(tmp_path / "registry.db").put("lease", "yard", b"sealed:" + Fernet(OLD).encrypt(b""), None)
    assert open_store(url, {KEY_VARIABLE: f"{NEW},{OLD}"}).renew() == 1
    assert open_store(url, {}).get("lease", "yard") == Record(b"", 1)


class Beaten(SqliteStore):
    """Another process changes each record just before it is rewritten."""

    def rewrite(self, kind: str, key: str, value: bytes, version: int) -> None:
        SealedStore(SqliteStore(self._path), [NEW]).put(kind, key, b"newer", version)
        super().rewrite(kind, key, value, version)


def test_what_another_changes_meanwhile_is_not_undone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    open_store(sqlite_url(path), {KEY_VARIABLE: OLD}).put("stream", "gate", b"older", None)
    assert SealedStore(Beaten(path), [NEW, OLD]).renew() == 0
    assert open_store(sqlite_url(path), {KEY_VARIABLE: NEW}).get("stream", "gate") == Record(b"newer", 2)


def test_it_goes_on_once_what_is_missing_is_there_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a key was left out: it can be given back while the supervisor tries again."""
    monkeypatch.setattr(renewal, "AGAIN_S", 0.01)
    caplog.set_level(logging.INFO)
    url = sqlite_url(tmp_path / "registry.db")
    stray, old = open_store(url, {KEY_VARIABLE: Fernet.generate_key().decode()}), open_store(url, {KEY_VARIABLE: OLD})
    stray.put("key", "k1", b"can't be read", None)
    old.put("stream", "gate", b"one", None)

    async def both() -> None:
        warned, loop = asyncio.Event(), asyncio.get_running_loop()
        monkeypatch.setattr(renewal.logger, "warning", lambda *told: (warnings.append(told), warned.set()))
        renewing = loop.create_task(renewal.renew(open_store(url, {KEY_VARIABLE: f"{NEW},{OLD}"})))
        async with asyncio.timeout(20):
            await warned.wait()
            stray.delete("key", "k1", None)
            await renewing

    warnings: list[tuple[object, ...]] = []
    asyncio.run(both())
    (warning,) = warnings  # once, however often it was tried
    assert "no key in RAYSIGHT_STORE_KEY or its file opens what is stored" in str(warning[1])
    (done,) = caplog.messages
    assert "needs the first key only" in done
    assert open_store(url, {KEY_VARIABLE: NEW}).get("stream", "gate") == Record(b"one", 1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", OLD, NEW]), st.sampled_from("abc"), st.binary(max_size=3)), max_size=8),
    st.lists(st.sampled_from([NEW, OLD]), min_size=2, max_size=2, unique=True),
)
def test_nothing_that_is_read_changes(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, str, bytes]], keys: list[str]
) -> None:
    url = sqlite_url(tmp_path_factory.mktemp("store") / "registry.db")
    for key, name, value in writes:
        open_store(url, {KEY_VARIABLE: key} if key else {}).put("stream", name, value, None)
    store = open_store(url, {KEY_VARIABLE: ",".join(keys)})
    before = kept(store)
    store.renew()
    assert kept(store) == kept(open_store(url, {KEY_VARIABLE: keys[0]})) == before


def test_what_is_as_it_should_be_is_left_with_a_key_and_without(open_store: Opener) -> None:
    store = open_store()
    store.put("stream", "gate", b"one", None)
    assert isinstance(store, SealedStore)
    assert store.renew() == 0
    with pytest.raises(Conflict):
        store.rewrite("stream", "gate", b"two", 2)
