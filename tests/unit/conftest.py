"""Unit tests run alone: no Ray, no network."""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None)  # a busy machine is no failure
settings.load_profile("unit")

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _refuse_ray(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a unit test started Ray: move it to tests/integration")


def _local(connection: socket.socket, address: Any) -> None:
    if connection.family != socket.AF_UNIX:
        raise AssertionError(f"a unit test connected to {address}: move it to tests/integration")


def _checked_connect(connection: socket.socket, address: Any) -> None:
    _local(connection, address)
    _connect(connection, address)


def _checked_connect_ex(connection: socket.socket, address: Any) -> int:
    _local(connection, address)
    return _connect_ex(connection, address)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _checked_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", _checked_connect_ex)
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse_ray)
