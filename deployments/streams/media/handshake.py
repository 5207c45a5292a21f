"""Tells a TLS failure from other ones: FFmpeg reports every failed handshake as a mere I/O error."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from deployments.errors import RaysightError
from deployments.streams.media.loopback import connected

DEFAULT_PORTS = {"https": 443, "rtmps": 443}
"""Of the schemes that begin with a handshake, as FFmpeg takes them."""

TIMEOUT_S = 2.0


def fails(url: str, addresses: Callable[[str], list[str]]) -> bool:
    """Whether the server of ``url`` accepts connections but not TLS ones; certificates are not looked at.

    Args:
        addresses: those of the URL's host that may be connected to; raises `RaysightError`.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or parts.hostname is None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            connected(addresses(url), parts.port or DEFAULT_PORTS[parts.scheme], TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=parts.hostname),
        ):
            return False
    except ssl.SSLError:
        return True
    except (OSError, RaysightError):
        return False
