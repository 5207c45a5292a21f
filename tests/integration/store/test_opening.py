"""Which store a URL names, and what is encrypted in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deployments.store.opening import open_store, refuse_nodes, sqlite_url, warnings_of
from deployments.store.protocol import Record, StoreAway
from deployments.store.sealed import KEY_FILE_VARIABLE, KEY_VARIABLE

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.mark.parametrize("url", ["", "sqlite://", "postgres://host/db", "redis://", "registry.db"])
def test_what_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreAway, match="has to be"):
        open_store(url, {})


def test_a_file_is_refused_where_there_are_several_nodes() -> None:
    refuse_nodes("sqlite:///state/registry.db", 1)
    refuse_nodes("redis://host", 3)
    with pytest.raises(StoreAway, match="redis://"):
        refuse_nodes("sqlite:///state/registry.db", 2)


def test_secrets_are_not_found_in_the_file_of_a_store_with_a_key(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "registry.db")
    store = open_store(url, {KEY_VARIABLE: NEW})
    store.put("stream", "gate", b"hunter2", None)
    store.close()
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(StoreAway, match=KEY_VARIABLE):
        open_store(url, {}).all("stream")
    with pytest.raises(StoreAway, match="no key"):
        open_store(url, {KEY_VARIABLE: OLD}).get("stream", "gate")


def test_a_key_is_exchanged_by_putting_a_new_one_before_it(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "registry.db")
    open_store(url, {}).put("stream", "door", b"in clear text", None)
    open_store(url, {KEY_VARIABLE: OLD}).put("stream", "gate", b"one", None)
    file = tmp_path / "keys"
    file.write_text(f"{NEW}\n{OLD}\n")
    both = open_store(url, {KEY_FILE_VARIABLE: str(file)})
    assert both.all("stream") == {"door": Record(b"in clear text", 1), "gate": Record(b"one", 1)}
    both.put("stream", "gate", b"two", 1)
    assert open_store(url, {KEY_VARIABLE: NEW}).get("stream", "gate") == Record(b"two", 2)


def test_a_key_that_is_none_and_a_file_that_is_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(StoreAway, match="Fernet"):
        open_store(sqlite_url(tmp_path / "registry.db"), {KEY_VARIABLE: "letmein"})
    with pytest.raises(StoreAway, match=KEY_FILE_VARIABLE):
        open_store(sqlite_url(tmp_path / "registry.db"), {KEY_FILE_VARIABLE: str(tmp_path / "none")})


def test_clear_text_is_warned_of(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "registry.db")
    (line,) = warnings_of(url, {})
    assert KEY_VARIABLE in line
    assert warnings_of(url, {KEY_VARIABLE: NEW}) == []
