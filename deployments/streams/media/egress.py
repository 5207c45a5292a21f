"""The one way out of a source that names further addresses, as an HLS playlist does its segments and keys.

FFmpeg opens those by itself, past any check of the source's own URL, and follows their redirects. So it is told to
use an HTTP proxy for them, which is this one: on loopback, for one source. Each host is checked against the URL policy
and connected to by the very address that was checked, so that a name which resolves otherwise a moment later leads
nowhere else.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from deployments.errors import ForbiddenAddress, RaysightError

MAX_HEAD_BYTES = 65_536
_CHUNK_BYTES = 65_536
_HOP_BY_HOP = (b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive")
_PORTS = {"http": 80, "https": 443}


class Egress:
    """Listens from `open` until `close`; connections end when FFmpeg closes them.

    Args:
        addresses: those of a URL's host, all of them allowed; raises `RaysightError`.
        timeout_s: for connecting, and for each wait after it.

    Attributes:
        refusal: the first refusal of an address, None so far.
    """

    def __init__(self, addresses: Callable[[str], list[str]], timeout_s: float) -> None:
        self.refusal: ForbiddenAddress | None = None
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._closed = False

    def open(self) -> str:
        """Begin to listen; what to give FFmpeg as ``http_proxy``."""
        _hide_no_proxy()
        with self._lock:
            if self._closed:
                raise OSError("the source was closed meanwhile")
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", 0))
                accept = threading.Thread(target=self._accept, args=(self._listener,), name="egress", daemon=True)
                accept.start()
            return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections."""
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends the wait for the next one
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="egress-connection", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request on one connection, then bytes both ways until either side ends."""
        with client, suppress(OSError):
            client.settimeout(self._timeout_s)
            head, rest = _head_of(client)
            try:
                method, url, forwarded = _parsed(head)
                server = self._connected(url)
            except ForbiddenAddress as error:
                self.refusal = self.refusal or error
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except (RaysightError, OSError, ValueError):
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                with server:
                    if method == b"CONNECT":
                        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                        server.sendall(rest)
                    else:
                        server.sendall(forwarded + rest)
                    _relay(client, server, self._timeout_s)

    def _connected(self, url: str) -> socket.socket:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        failure = OSError("the host has no address")
        for address in self._addresses(url):
            try:
                return socket.create_connection((address, port), self._timeout_s)
            except OSError as error:
                failure = error
        raise failure


def _hide_no_proxy() -> None:
    """Give ``no_proxy`` other names: FFmpeg would go past the proxy to the hosts in it, and knows only this one.

    Python, gRPC and curl read the others alike.
    """
    hosts = os.environ.pop("no_proxy", None)
    if hosts is not None:
        os.environ.setdefault("NO_PROXY", hosts)
        os.environ.setdefault("no_grpc_proxy", hosts)


def _head_of(client: socket.socket) -> tuple[bytes, bytes]:
    """The head of a request, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = client.recv(_CHUNK_BYTES)
        if not received or len(data) > MAX_HEAD_BYTES:
            raise OSError("no request")
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _parsed(head: bytes) -> tuple[bytes, str, bytes]:
    """The method, the URL to check, and the head as the server gets it: one request, for this connection only.

    Raises ValueError where it is no request to a proxy.
    """
    first, *fields = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    if method == b"CONNECT":
        return method, f"https://{target.decode('ascii')}", b""
    parts = urlsplit(target.decode("latin-1"))
    if parts.scheme != "http":
        raise ValueError("not a URL that goes through a proxy")
    path = urlunsplit(("", "", parts.path or "/", parts.query, "")).encode("latin-1")
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in _HOP_BY_HOP]
    lines = [method + b" " + path + b" HTTP/1.1", *kept, b"Connection: close"]
    return method, parts.geturl(), b"\r\n".join(lines) + b"\r\n\r\n"


def _relay(one: socket.socket, other: socket.socket, timeout_s: float) -> None:
    poll = select.poll()
    across = {one.fileno(): (one, other), other.fileno(): (other, one)}
    for descriptor in across:
        poll.register(descriptor, select.POLLIN)
    while ready := poll.poll(timeout_s * 1000):
        for descriptor, _ in ready:
            source, target = across[descriptor]
            data = source.recv(_CHUNK_BYTES)
            if not data:
                return
            target.sendall(data)
