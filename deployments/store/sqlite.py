"""The store of one node: a single SQLite file, written ahead and flushed to the disk before a call returns."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deployments.store.protocol import Conflict, Fenced, Guard, Record, StoreAway

BUSY_S = 2.0
"""Longest wait for another process that writes; its changes take milliseconds."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, "
    "version INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    # The highest version of any deleted record of a kind: one that is made again goes on above it.
    "CREATE TABLE IF NOT EXISTS floors (kind TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
)


class SqliteStore:
    """`Store` in one file that several processes of a node may open; only its owner may read it (mode 0600)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def all(self, kind: str) -> dict[str, Record]:
        with self._transaction("BEGIN") as sql:
            rows = sql.execute("SELECT key, value, version FROM records WHERE kind = ?", (kind,)).fetchall()
        return {key: Record(value, version) for key, value, version in rows}

    def get(self, kind: str, key: str) -> Record | None:
        with self._transaction("BEGIN") as sql:
            row = _row(sql, kind, key)
        return Record(*row) if row is not None else None

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        with self._transaction("BEGIN IMMEDIATE") as sql:
            current = _checked(sql, kind, key, expected, guard)
            version = (current or _floor(sql, kind)) + 1
            sql.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (kind, key, value, version))
        return version

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        with self._transaction("BEGIN IMMEDIATE") as sql:
            current = _checked(sql, kind, key, expected, guard)
            if current:
                floor = max(current, _floor(sql, kind))
                sql.execute("INSERT OR REPLACE INTO floors VALUES (?, ?)", (kind, floor))
                sql.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, key))

    def kinds(self) -> frozenset[str]:
        with self._transaction("BEGIN") as sql:
            return frozenset(kind for (kind,) in sql.execute("SELECT DISTINCT kind FROM records"))

    def rewrite(self, kind: str, key: str, value: bytes, version: int) -> None:
        with self._transaction("BEGIN IMMEDIATE") as sql:
            _checked(sql, kind, key, version, None)
            sql.execute("UPDATE records SET value = ? WHERE kind = ? AND key = ?", (value, kind, key))

    def tidy(self) -> None:
        """All that is stored is in the one file afterwards, and the files beside it are empty."""
        with self._connected() as sql:
            sql.execute("VACUUM")  # also what was deleted before `secure_delete`
            (in_the_way, *_) = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if in_the_way:
            raise StoreAway(f"the store {self._path} can't be tidied: another process reads it")

    def server(self) -> str:
        return ""  # none: a file is there or it isn't

    def close(self) -> None:
        with self._lock:
            self._close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._connected() as sql:
            sql.execute(begin)
            try:
                yield sql
            except BaseException:
                if sql.in_transaction:  # a full disk has ended it already
                    sql.execute("ROLLBACK")
                raise
            sql.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Whatever SQLite says becomes StoreAway, and the next call opens the file anew."""
        with self._lock:
            try:
                self._connection = self._connection or self._open()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise StoreAway(f"the store {self._path} can't be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):  # SQLite gives its other files the same mode
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        sql = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            with _alone(self._path.parent):
                sql.execute("PRAGMA journal_mode = WAL")
                for statement in _SCHEMA:
                    sql.execute(statement)
            sql.execute("PRAGMA synchronous = FULL")
            sql.execute("PRAGMA secure_delete = ON")
        except BaseException:
            sql.close()
            raise
        return sql

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()  # rolls back what was not committed
            self._connection = None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time makes a file of a folder ready: of two that switch a new one to WAL, SQLite lets neither wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _row(sql: sqlite3.Connection, kind: str, key: str) -> tuple[bytes, int] | None:
    found = sql.execute("SELECT value, version FROM records WHERE kind = ? AND key = ?", (kind, key))
    row: tuple[bytes, int] | None = found.fetchone()
    return row


def _version(sql: sqlite3.Connection, kind: str, key: str) -> int:
    row = _row(sql, kind, key)
    return row[1] if row is not None else 0


def _checked(sql: sqlite3.Connection, kind: str, key: str, expected: int | None, guard: Guard | None) -> int:
    """The record's version, 0 where there is none."""
    if guard is not None and _version(sql, guard.kind, guard.key) != guard.version:
        raise Fenced(f"{guard.kind} {guard.key!r} is no longer at version {guard.version}: another took over")
    current = _version(sql, kind, key)
    if expected is not None and expected != current:
        raise Conflict(kind, key, current)
    return current


def _floor(sql: sqlite3.Connection, kind: str) -> int:
    row = sql.execute("SELECT version FROM floors WHERE kind = ?", (kind,)).fetchone()
    return int(row[0]) if row is not None else 0
