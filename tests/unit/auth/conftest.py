"""A store in a file, and an API with closed doors over it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.store.sqlite import SqliteStore
from tests.support.closed_api import ClosedApi, CountingStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    opened = CountingStore(SqliteStore(tmp_path / "registry.db"))
    yield opened
    opened.close()


@pytest.fixture
def closed(store: CountingStore) -> Iterator[ClosedApi]:
    with asyncio.Runner() as runner:
        yield ClosedApi(runner, store)
