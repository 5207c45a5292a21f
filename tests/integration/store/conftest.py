"""Every store there is, for the tests of the contract that all keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deployments.store.opening import open_store as open_store_at
from deployments.store.opening import sqlite_url
from deployments.store.protocol import Store
from deployments.store.sealed import KEY_VARIABLE
from tests.support.redis_server import RedisServer

Opener = Callable[[], Store]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "sealed sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store as often as it is called, as different processes would."""
    opened: list[Store] = []
    key = Fernet.generate_key().decode()
    url = sqlite_url(tmp_path / "state" / "registry.db")
    if request.param == "redis":
        url = f"{request.getfixturevalue('redis_server').url}?prefix={tmp_path.name}"

    def open_it() -> Store:
        opened.append(open_store_at(url, {KEY_VARIABLE: key} if request.param.startswith("sealed") else {}))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Opener) -> Store:
    return open_store()
