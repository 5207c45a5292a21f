"""What every store promises, against each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.store.protocol import Conflict, Fenced, Guard, Record, Store
from tests.integration.store.conftest import Opener


def test_what_was_put_is_found_by_whoever_opens_the_store_next(open_store: Opener) -> None:
    first = open_store()
    assert first.put("stream", "gate", b"\x00one", 0) == 1
    assert first.put("stream", "gate", b"two\n:", 1) == 2
    first.put("key", "gate", b"another kind", None)
    first.close()
    second = open_store()
    assert second.get("stream", "gate") == Record(b"two\n:", 2)
    assert second.all("stream") == {"gate": Record(b"two\n:", 2)}
    assert second.all("key") == {"gate": Record(b"another kind", 1)}


def test_what_is_not_there(store: Store) -> None:
    assert store.get("stream", "gate") is None
    assert store.all("stream") == {}
    store.delete("stream", "gate", None)
    with pytest.raises(Conflict):
        store.delete("stream", "gate", 1)
    with pytest.raises(Conflict):
        store.put("stream", "gate", b"", 1)


def test_a_change_of_another_version_is_refused_and_changes_nothing(store: Store) -> None:
    store.put("stream", "gate", b"one", None)
    for expected in (0, 2):
        with pytest.raises(Conflict) as refused:
            store.put("stream", "gate", b"other", expected)
        assert refused.value.current == 1
        with pytest.raises(Conflict):
            store.delete("stream", "gate", expected)
    assert store.get("stream", "gate") == Record(b"one", 1)
    store.delete("stream", "gate", 1)
    assert store.get("stream", "gate") is None


def test_a_version_is_never_used_twice(store: Store) -> None:
    store.put("stream", "gate", b"one", None)
    store.put("stream", "gate", b"two", None)
    store.delete("stream", "gate", None)
    assert store.put("stream", "gate", b"again", 0) == 3
    store.delete("stream", "gate", 3)
    store.put("stream", "door", b"", None)
    store.delete("stream", "door", None)
    assert store.put("stream", "gate", b"and again", None) > 3


def test_who_was_replaced_can_write_nothing(store: Store) -> None:
    epoch = store.put("supervisor", "epoch", b"mine", None)
    mine = Guard("supervisor", "epoch", epoch)
    store.put("stream", "gate", b"one", 0, mine)
    store.put("supervisor", "epoch", b"another's", epoch)
    with pytest.raises(Fenced):
        store.put("stream", "gate", b"two", 1, mine)
    with pytest.raises(Fenced):
        store.put("stream", "gate", b"two", None, mine)
    with pytest.raises(Fenced):
        store.delete("stream", "gate", None, mine)
    assert store.get("stream", "gate") == Record(b"one", 1)


def test_kinds_are_those_that_have_records(store: Store) -> None:
    assert store.kinds() == frozenset()
    store.put("stream", "gate", b"one", None)
    store.put("key", "k1", b"", None)
    store.put("stream", "door", b"one", None)
    assert store.kinds() == {"stream", "key"}
    store.delete("key", "k1", None)
    assert store.kinds() == {"stream"}


def test_a_record_that_is_rewritten_stays_at_its_version(store: Store) -> None:
    store.put("stream", "gate", b"one", None)
    store.put("stream", "gate", b"two", None)
    store.rewrite("stream", "gate", b"two, in other words", 2)
    assert store.get("stream", "gate") == Record(b"two, in other words", 2)
    for key, version in (("gate", 1), ("gate", 3), ("nobody", 1)):
        with pytest.raises(Conflict):
            store.rewrite("stream", key, b"other", version)
    assert store.all("stream") == {"gate": Record(b"two, in other words", 2)}
    assert store.put("stream", "gate", b"three", 2) == 3


def test_of_those_who_write_at_once_one_wins_each_version(open_store: Opener) -> None:
    def count(store: Store) -> int:
        lost = 0
        for _ in range(20):
            while True:
                found = store.get("supervisor", "counter")
                value, version = (int(found.value), found.version) if found else (0, 0)
                try:
                    store.put("supervisor", "counter", str(value + 1).encode(), version)
                    break
                except Conflict:
                    lost += 1
        return lost

    stores = [open_store(), open_store()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, [*stores, *stores]))
    assert stores[0].get("supervisor", "counter") == Record(b"80", 80)
