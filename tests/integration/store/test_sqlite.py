"""What is SQLite's own: modes of its files, a full disk, a locked file."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from deployments.store import sqlite
from deployments.store.protocol import Record, StoreAway
from deployments.store.sqlite import SqliteStore


def test_nobody_else_may_read_its_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state" / "registry.db")
    store.put("stream", "gate", b"secret", None)
    files = list((tmp_path / "state").iterdir())
    assert {path.name for path in files} >= {"registry.db", "registry.db-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    store.close()


def test_a_locked_file_is_a_store_that_is_away_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    path = tmp_path / "registry.db"
    store = SqliteStore(path)
    store.put("stream", "gate", b"one", None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.close()  # what it opens now waits as short as set above
    with pytest.raises(StoreAway):
        store.put("stream", "gate", b"two", 1)
    other.execute("ROLLBACK")
    other.close()
    assert store.put("stream", "gate", b"two", 1) == 2
    store.close()


def test_once_tidy_its_one_file_is_a_copy_of_all_and_of_nothing_that_was_deleted(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    first, second = SqliteStore(path), SqliteStore(path)
    for number in range(50):
        first.put("stream", f"{number}", b"hunter%d" % number, None)
        second.put("stream", f"{number}", b"changed%d" % number, 1)
    for number in range(1, 50):
        first.delete("stream", f"{number}", 2)
    first.tidy()
    assert not any(b"hunter" in file.read_bytes() or b"changed1" in file.read_bytes() for file in tmp_path.iterdir())
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "registry.db").write_bytes(path.read_bytes())
    assert SqliteStore(tmp_path / "copy" / "registry.db").all("stream") == {"0": Record(b"changed0", 2)}
    assert second.put("stream", "1", b"again", 0) == 3


def test_who_reads_is_in_the_way_of_tidying_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    path = tmp_path / "registry.db"
    store = SqliteStore(path)
    store.put("stream", "gate", b"one", None)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM records").fetchall()
    with pytest.raises(StoreAway):
        store.tidy()
    reader.execute("ROLLBACK")
    reader.close()
    store.tidy()
    assert store.get("stream", "gate") == Record(b"one", 1)


def test_a_file_that_can_grow_no_more_is_a_store_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    store = SqliteStore(path)
    store.put("stream", "gate", b"one", None)
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 8")  # SQLITE_FULL, as a full disk gives it
    with pytest.raises(StoreAway, match="full"):
        store.put("stream", "gate", b"x" * 100_000, 1)
    assert store.get("stream", "gate") == Record(b"one", 1)
    assert store.put("stream", "gate", b"two", 1) == 2
    store.close()


def test_a_path_that_is_no_file_is_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreAway):
        SqliteStore(tmp_path / "file" / "registry.db").get("stream", "gate")
    (tmp_path / "junk.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreAway):
        SqliteStore(tmp_path / "junk.db").all("stream")
