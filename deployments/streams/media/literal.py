"""URLs with the address that was checked in place of the host's name, for protocols that know no redirects."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from deployments.streams.media.loopback import connected

PORTS = {"rtsp": 554, "rtmp": 1935}
"""As FFmpeg takes them; of the protocols over TCP."""

TIMEOUT_S = 2.0
"""For each of several addresses to take a connection."""


def literal(url: str, addresses: list[str]) -> str:
    """``url`` with one of ``addresses`` as its host; credentials, port, path and query stay.

    Of several it is the first that takes a connection, since FFmpeg can try no further one; with SRT, the first.
    """
    parts = urlsplit(url)
    address = addresses[0]
    if len(addresses) > 1 and (usual := PORTS.get(parts.scheme.lower())) is not None:
        with suppress(OSError), connected(addresses, parts.port or usual, TIMEOUT_S) as taken:
            address = taken.getpeername()[0]
    user_info, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ":" in address else address
    port = f":{parts.port}" if parts.port is not None else ""
    return urlunsplit(parts._replace(netloc=f"{user_info}{at}{host}{port}"))


def rtmp_options(url: str) -> dict[str, str]:
    """What keeps the host's name in front of an RTMP server that tells its sites apart by it.

    The application is what FFmpeg takes for it (libavformat/rtmpproto.c): the first two segments of the path where a
    third follows, else the first.
    """
    parts = urlsplit(url)
    segments = parts.path.lstrip("/").split("/")
    app = "/".join(segments[:2] if len(segments) > 2 and ":" not in segments[1] else segments[:1])
    return {"rtmp_tcurl": f"rtmp://{parts.netloc.rpartition('@')[2]}/{app}"}
