"""The one way out for HTTP and TLS: of a source that names further addresses, as an HLS playlist does, and of outputs.

FFmpeg resolves names by itself, past any check, and follows redirects. So it is told to use an HTTP proxy for all it
opens, which is this one: on loopback, for one source or output. Each host is checked against the URL policy at the
moment it is connected to, and by the very address that was checked, so that a name which resolves otherwise a moment
later leads nowhere else. TLS goes through as it is (``CONNECT``): FFmpeg still names the host to the server (SNI).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from deployments.errors import ForbiddenAddress, RaysightError
from deployments.streams.media.loopback import CHUNK_BYTES, Loopback, connected, relay

MAX_HEAD_BYTES = 65_536
_HOP_BY_HOP = (b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive")
_PORTS = {"http": 80, "https": 443}


class Egress:
    """Listens from `open` until `close`.

    Args:
        addresses: those of a URL's host, all of them allowed; raises `RaysightError`.
        timeout_s: for connecting.
        idle_s: for how long nothing may come then; None: for ever.

    Attributes:
        refusal: the first refusal of an address, None so far.
        failure: why the last connection failed, None so far.
    """

    def __init__(self, addresses: Callable[[str], list[str]], timeout_s: float, idle_s: float | None) -> None:
        self.refusal: ForbiddenAddress | None = None
        self.failure: RaysightError | OSError | None = None
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._loopback = Loopback(self._serve, timeout_s)

    def open(self) -> str:
        """Begin to listen; what to give FFmpeg as ``http_proxy``."""
        _hide_no_proxy()
        return f"http://{self._loopback.open()}"

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        self._loopback.close()

    def _serve(self, client: socket.socket) -> None:
        """One request on one connection, then bytes both ways until either side ends."""
        head, rest = _head_of(client)
        try:
            method, url, forwarded = _parsed(head)
            parts = urlsplit(url)
            server = connected(self._addresses(url), parts.port or _PORTS[parts.scheme], self._timeout_s)
        except ForbiddenAddress as error:
            self.refusal = self.refusal or error
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except (RaysightError, OSError, ValueError) as error:
            self.failure = error if not isinstance(error, ValueError) else None
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            with server:
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                    server.sendall(rest)
                else:
                    server.sendall(forwarded + rest)
                relay(client, server, self._idle_s)


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
        received = client.recv(CHUNK_BYTES)
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
