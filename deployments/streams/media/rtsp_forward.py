"""The one way to an RTSP server: a connection on loopback for FFmpeg, with the server's answers written anew.

FFmpeg follows an RTSP redirect (any 3xx with a ``Location``) to whatever it names, and sends UDP to the ``source`` that
an answer names. So FFmpeg gets a loopback address instead of the server's, and connects nowhere else: what the server
says is parsed, and only what was understood is passed on. A redirect is checked against the URL policy and followed
here, by the address that was checked; FFmpeg is sent to this loopback address again.

``rtsps`` is spoken from here on, with the host's name for SNI; FFmpeg itself speaks plain RTSP on loopback. As
cameras sign their certificates themselves, these are not verified. The server sees the loopback address in the request
lines, as it would see a router's behind which it stands.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from deployments.errors import ForbiddenAddress, RaysightError, StreamError
from deployments.streams.media import errors
from deployments.streams.media.loopback import Loopback, connected, relay

PORTS = {"rtsp": 554, "rtsps": 322}
"""As FFmpeg takes them."""

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 1 << 20
MAX_REDIRECTS = 5

_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})(?: [^\r\n]*)?")
_REQUEST = re.compile(rb"[A-Z_]{3,20} \S+ RTSP/\d\.\d")
_BEGINNING = re.compile(rb"(?:RTSP/|[A-Z_]{3,20} )[^\r\n]*|[A-Z_]{1,20}")
"""Of the first line of a message, of which not all need have come."""

RTP_VERSION = 2
"""In the two highest bits of every RTP and RTCP packet (RFC 3550, 5.1 and 6.4.1)."""

_UDP = ("RTP/AVP", "RTP/AVP/UDP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF")
_KEPT_PARAMETERS = ("unicast", "client_port", "server_port", "interleaved", "ssrc", "mode")


class RtspForward:
    """Forwards one source's connection from `open` until `close`.

    Args:
        url: ``rtsp`` or ``rtsps``; user information in it is for FFmpeg alone.
        addresses: those of a URL's host, all of them allowed; raises `RaysightError`.
        timeout_s: for connecting and the handshake.

    Attributes:
        refusal: the first refusal of an address that the server named, None so far.
        garbled: set once what the server sent was no RTSP, which ended the connection; None so far.
    """

    def __init__(self, url: str, addresses: Callable[[str], list[str]], timeout_s: float) -> None:
        self.refusal: ForbiddenAddress | None = None
        self.garbled: StreamError | None = None
        self._url = url
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._redirects = 0
        self._lock = threading.Lock()
        self._first: socket.socket | None = None
        self._loopback = Loopback(self._serve, timeout_s)
        self._place = ""

    def open(self) -> str:
        """Connect to the server; the URL for FFmpeg, credentials included.

        Raises:
            RaysightError: the host can't be resolved or is forbidden.
            OSError: the server takes no connection; `ssl.SSLError` where it is the handshake that failed.
        """
        server = self._dialled()
        with self._lock:
            self._first = server
        try:
            self._place = self._loopback.open()
        except OSError:
            self.close()
            raise
        return self._on_loopback(urlsplit(self._url).netloc.rpartition("@")[0])

    def close(self) -> None:
        """End it."""
        self._loopback.close()
        with self._lock:
            first, self._first = self._first, None
        if first is not None:
            first.close()

    def _on_loopback(self, user_info: str = "") -> str:
        parts = urlsplit(self._url)
        return urlunsplit(("rtsp", f"{user_info}@{self._place}" if user_info else self._place, *parts[2:4], ""))

    def _dialled(self) -> socket.socket:
        parts = urlsplit(self._url)
        addresses = self._addresses(self._url)
        server = connected(addresses, parts.port or PORTS[parts.scheme.lower()], self._timeout_s)
        if parts.scheme.lower() == "rtsp":
            return server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            return context.wrap_socket(server, server_hostname=parts.hostname)
        except (OSError, ValueError):
            server.close()
            raise

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            server, self._first = self._first, None
        try:
            server = server or self._dialled()
        except ForbiddenAddress as error:
            self.refusal = self.refusal or error
            return
        except RaysightError:
            return
        with server:
            peer = server.getpeername()[0]
            answers = Answers(self._redirected, lambda named: self._source(named, peer))
            # A connection whose video comes over UDP is silent for long; FFmpeg closes it when it is done.
            try:
                relay(client, server, None, answers.rewritten)
            except NoRtsp:
                self.garbled = self.garbled or errors.garbled(self._url)

    def _redirected(self, location: str) -> str:
        """Where to send FFmpeg for a redirect to ``location``; OSError where it may not be followed."""
        self._redirects += 1
        try:
            parts = urlsplit(location)
            if parts.scheme.lower() not in PORTS or self._redirects > MAX_REDIRECTS:
                raise OSError("no redirect that can be followed")
            self._addresses(location)
        except ForbiddenAddress as error:
            self.refusal = self.refusal or error
            raise OSError("redirected to where it may not go") from None
        except (RaysightError, ValueError):
            raise OSError("no redirect that can be followed") from None
        if urlsplit(self._url).scheme.lower() == "rtsps" and parts.scheme.lower() != "rtsps":
            raise OSError("no redirect from TLS to plain text")
        self._url = location
        return self._on_loopback()

    def _source(self, named: str | None, peer: str) -> str:
        """Where FFmpeg may send RTCP to: what the answer names, where that is allowed, else the server itself."""
        if named is None:
            return peer
        try:
            address = ipaddress.ip_address(named)
            self._addresses(f"rtsp://[{address}]/" if address.version == 6 else f"rtsp://{address}/")
        except (RaysightError, ValueError):
            return peer
        return str(address)


class NoRtsp(OSError):
    """What came is no RTSP: a server of another kind, or one connection's bytes that were spoiled on the way."""


class Answers:
    """What a server sends, in pieces as they come, written anew; used for one connection.

    FFmpeg looks for the next packet where garbage came, and often finds none any more, so that it reads on without a
    picture. So whatever begins neither as a packet nor as a message is refused at its first bytes.

    Args:
        redirected: what replaces the ``Location`` of a redirect; raises OSError where there is none.
        source: the address to name in a ``Transport`` over UDP, from the one that is named there.
    """

    def __init__(self, redirected: Callable[[str], str], source: Callable[[str | None], str]) -> None:
        self._redirected = redirected
        self._source = source
        self._data = bytearray()
        self._channels: set[int] = set()

    def rewritten(self, data: bytes) -> bytes:
        """What to pass on of all that has come; `NoRtsp` where it is none, another OSError where it must not pass."""
        self._data += data
        passed = bytearray()
        while piece := self._frame() or self._message():
            passed += piece
        return bytes(passed)

    def _taken(self, length: int) -> bytes:
        piece = bytes(self._data[:length])
        del self._data[:length]
        return piece

    def _frame(self) -> bytes:
        """One interleaved packet (RFC 2326, 10.12) where it comes next and is whole."""
        if self._data[:1] != b"$" or len(self._data) < 4:
            return b""
        length = 4 + int.from_bytes(self._data[2:4], "big")
        # FFmpeg skips a packet of either fault alone, which careless servers do send.
        unknown = self._data[1] not in self._channels and length > 4
        if unknown and len(self._data) > 4 and self._data[4] >> 6 != RTP_VERSION:
            raise NoRtsp("a packet of an unknown channel that is no RTP")
        return self._taken(length) if len(self._data) >= length else b""

    def _message(self) -> bytes:
        del self._data[: len(self._data) - len(self._data.lstrip(b"\r\n"))]
        if not self._data or self._data[:1] == b"$":
            return b""
        if _BEGINNING.fullmatch(self._data.partition(b"\n")[0].rstrip(b"\r")) is None:
            raise NoRtsp("no RTSP")
        end = re.search(rb"\r?\n\r?\n", self._data)
        if end is None:
            if len(self._data) > MAX_HEAD_BYTES:
                raise NoRtsp("no RTSP")
            return b""
        first, *lines = bytes(self._data[: end.start()]).replace(b"\r", b"").split(b"\n")
        fields = [(name.strip(), value.strip()) for name, colon, value in (line.partition(b":") for line in lines)]
        length = _length(fields)
        if len(self._data) < end.end() + length:
            return b""
        del self._data[: end.end()]
        body = self._taken(length)
        return self._head(first.strip(), fields, length) + body

    def _head(self, first: bytes, fields: list[tuple[bytes, bytes]], length: int) -> bytes:
        status = _STATUS.fullmatch(first)
        if status is None and _REQUEST.fullmatch(first) is None:
            raise NoRtsp("no RTSP")
        lines = [first]
        for name, value in fields:
            match name.lower():
                case b"content-length" | b"":
                    continue
                case b"location":
                    if status is None or not status[1].startswith(b"3"):
                        continue
                    value = self._redirected(value.decode("latin-1")).encode("latin-1")
                case b"transport":
                    value = self._transport(value.decode("latin-1")).encode("latin-1")
            lines.append(name + b": " + value)
        if length:
            lines.append(b"Content-Length: %d" % length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _transport(self, value: str) -> str:
        profile, *parameters = [part.strip() for part in value.partition(",")[0].split(";")]
        named = {name.lower(): (equals, given) for name, equals, given in (text.partition("=") for text in parameters)}
        kept = [name + "".join(named[name]) for name in _KEPT_PARAMETERS if name in named]
        channels = [int(text) for text in named.get("interleaved", ("", ""))[1].split("-") if text.isdigit()]
        self._channels |= set(channels)
        if profile.upper() in _UDP:
            if "multicast" in named:
                raise OSError("multicast was not asked for")
            source = named.get("source")
            kept = ["unicast", *(text for text in kept if text != "unicast")]
            kept.append(f"source={self._source(source[1] if source is not None else None)}")
        return ";".join([profile, *kept])


def _length(fields: list[tuple[bytes, bytes]]) -> int:
    lengths = {value for name, value in fields if name.lower() == b"content-length"}
    if not lengths:
        return 0
    if len(lengths) > 1 or not (text := lengths.pop()).isdigit() or int(text) > MAX_BODY_BYTES:
        raise NoRtsp("no RTSP")
    return int(text)
