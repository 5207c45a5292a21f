"""What unit tests may not do is refused."""

from __future__ import annotations

import socket

import pytest
import ray


def test_ray_does_not_start() -> None:
    with pytest.raises(AssertionError, match="started Ray"):
        ray.init()
    with pytest.raises(AssertionError, match="started Ray"):
        ray.put(1)  # would start it by itself
    assert not ray.is_initialized()


def test_nothing_is_connected() -> None:
    with socket.socket() as connection:
        with pytest.raises(AssertionError, match="connected"):
            connection.connect(("127.0.0.1", 9))
        with pytest.raises(AssertionError, match="connected"):
            connection.connect_ex(("127.0.0.1", 9))
