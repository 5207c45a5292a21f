"""The tools of the chaos suite do what they say: its proxy, its network, the clocks that it steps, its small disk."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import clocks
from tests.chaos.network import Network, unavailable
from tests.chaos.proxy import CHUNK, Proxy
from tests.chaos.store import SqliteStore


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


def test_a_clock_steps_while_its_process_runs_and_no_other(tmp_path: Path) -> None:
    told = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.time_ns() // 10**9, flush=True)"
    path = {"PYTHONPATH": str(Path(clocks.__file__ or "").parent), "CHAOS_CLOCKS": str(tmp_path)}
    command = [sys.executable, "-c", told]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": {**os.environ, **path}}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:  # type: ignore[call-overload]

        def times(process: subprocess.Popen[str]) -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return [float(word) for word in process.stdout.readline().split()]

        before = times(one)
        (tmp_path / str(one.pid)).write_text("-3600")
        assert times(one) == pytest.approx([second - 3600 for second in before], abs=30)
        assert times(other) == pytest.approx(before, abs=30)
        (tmp_path / str(one.pid)).unlink()
        assert times(one) == pytest.approx(before, abs=30)


@pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
def test_a_network_connects_until_its_router_is_cut() -> None:
    with Network() as network:
        # A port where nobody listens refuses at once; a network that is cut says nothing.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((network.address, 9), 5)
        network.in_router("ip", "link", "set", "south", "down")
        with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
            socket.create_connection((network.address, 9), 0.3)
        network.in_router("ip", "link", "set", "south", "up")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((network.address, 9), 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_refuses_what_sqlite_writes(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "disk") as store:
        with sqlite3.connect(store.folder / "registry.db") as database:
            database.execute("CREATE TABLE kept (value BLOB)")
        store.fill()
        with pytest.raises(sqlite3.OperationalError), sqlite3.connect(store.folder / "registry.db") as database:
            database.execute("INSERT INTO kept VALUES (zeroblob(100000))")
        store.empty()
        with sqlite3.connect(store.folder / "registry.db") as database:
            database.execute("INSERT INTO kept VALUES (zeroblob(100000))")
        database.close()
