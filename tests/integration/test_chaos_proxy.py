"""The proxy of the chaos suite does to a connection what it says."""

from __future__ import annotations

import random
import socket

import pytest

from tests.chaos.proxy import CHUNK, Proxy


def test_a_proxy_passes_delays_and_spoils() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as echo,
        Proxy(("127.0.0.1", echo.getsockname()[1])) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), 5) as client,
    ):
        server, _ = echo.accept()
        with server:
            server.settimeout(5)
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
            server.sendall(b"world")
            assert client.recv(5) == b"world"
            proxy.delay_s = 0.3
            server.sendall(b"later")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(5)
            client.settimeout(5)
            assert client.recv(5) == b"later"
            proxy.delay_s = 0.0
            proxy.spoil(1, random.Random(0))
            server.sendall(b"plain")
            assert client.recv(5) == random.Random(0).randbytes(CHUNK)[:5]
            server.sendall(b"plain")
            assert client.recv(5) == b"plain"
        assert client.recv(1) == b""
