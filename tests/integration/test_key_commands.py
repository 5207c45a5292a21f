"""`raysight keys`, on the store itself and through an API that listens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.store.sqlite import SqliteStore
from serve_app.cli.app import main
from serve_app.load_test.levels import LoadTestError
from serve_app.load_test.targets import HttpTarget, ModelFacts
from serve_app.local import free_port
from tests.support.closed_api import ClosedApi, CountingStore
from tests.support.served import Served


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit status of a command."""
    monkeypatch.setattr(sys, "argv", ["raysight", "keys", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    opened = CountingStore(SqliteStore(tmp_path / "registry.db"))
    yield opened
    opened.close()


@pytest.fixture
def closed(store: CountingStore) -> Iterator[ClosedApi]:
    with asyncio.Runner() as runner:
        yield ClosedApi(runner, store)


@pytest.fixture
def address(closed: ClosedApi) -> Iterator[str]:
    """Where the closed API listens."""
    with Served(closed.app) as served:
        yield served.url


def test_the_first_key_comes_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: ClosedApi
) -> None:
    store = f"sqlite://{tmp_path / 'registry.db'}"  # that of `closed`
    assert command(monkeypatch, "add", "first", "--role", "admin", "--store", store) == 0
    key = capsys.readouterr().out.strip()
    assert closed.call("GET", "/v1/keys", key).status_code == 200
    assert closed.keys.bootstrap() is None
    assert command(monkeypatch, "list", "--store", store) == 0
    assert "first" in capsys.readouterr().out
    assert command(monkeypatch, "rm", key.split("_")[1], "--store", store) == 0
    assert command(monkeypatch, "rm", key.split("_")[1], "--store", store) == 2
    assert "There is no key" in capsys.readouterr().err
    assert [entry.action for entry in closed.runner.run(closed.audit.newest(9))] == ["key.delete", "key.create"]


def test_an_admin_makes_keys_through_the_api(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: ClosedApi, address: str
) -> None:
    monkeypatch.setenv("RAYSIGHT_KEY", closed.key("admin"))
    words = ("--role", "operator", "--label", "site=north", "--streams", "3", "--url", address)
    assert command(monkeypatch, "add", "gatehouse", *words) == 0
    key = capsys.readouterr().out.strip()
    assert command(monkeypatch, "list", "--url", address) == 0
    assert "site=north" in capsys.readouterr().out
    assert closed.put("a", key, labels={"site": "south"}).status_code == 403
    assert command(monkeypatch, "rm", key.split("_")[1], "--url", address) == 0
    assert closed.call("GET", "/v1/streams", key).status_code == 401


def test_a_load_test_comes_with_its_key(closed: ClosedApi, address: str) -> None:
    async def facts(key: str | None) -> ModelFacts:
        target = HttpTarget(address, "default", key)
        try:
            return await target.facts()
        finally:
            await target.close()

    assert asyncio.run(facts(closed.key("viewer"))).width == 416
    with pytest.raises(LoadTestError, match="answers 401"):
        asyncio.run(facts(None))


def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: ClosedApi, address: str
) -> None:
    monkeypatch.setenv("RAYSIGHT_KEY", closed.key("viewer"))
    store = f"sqlite://{tmp_path / 'registry.db'}"
    for words, told in (
        (
            ("list", "--url", address),
            "This needs the role admin; yours is viewer. Give such a key by RAYSIGHT_KEY or --key.",
        ),
        (("list", "--store", "mysql://x"), "sqlite:///path"),
        (("add", "x", "--role", "admin", "--label", "a=b", "--store", store), "labels can't limit it"),
        (("add", "x", "--role", "viewer", "--label", "a"), "KEY=VALUE"),
    ):
        assert command(monkeypatch, *words) == 2
        errors = capsys.readouterr().err
        assert told in errors
        assert "Traceback" not in errors
    assert command(monkeypatch, "list", "--url", f"http://127.0.0.1:{free_port()}") == 3
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("list",), ("rm", "abcd")])
def test_looking_into_a_store_makes_none(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mistyped = tmp_path / "registri.db"
    assert command(monkeypatch, *words, "--store", f"sqlite://{mistyped}") == 2
    assert "registri.db" in capsys.readouterr().err
    assert not mistyped.exists()
