"""Every store there is, for the tests of the contract that all keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.store.protocol import Store
from deployments.store.sqlite import SqliteStore

Opener = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store as often as it is called, as different processes would."""
    opened: list[Store] = []

    def open_sqlite() -> Store:
        opened.append(SqliteStore(tmp_path / "state" / "registry.db"))
        return opened[-1]

    yield {"sqlite": open_sqlite}[request.param]
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Opener) -> Store:
    return open_store()
