"""Tells a TLS failure from other ones: FFmpeg reports every failed handshake as a mere I/O error."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

DEFAULT_PORTS = {"https": 443, "rtsps": 322, "rtmps": 443}
"""Of the schemes that begin with a handshake, as FFmpeg takes them."""

TIMEOUT_S = 2.0


def fails(url: str) -> bool:
    """Whether the server of ``url`` accepts connections but not TLS ones; certificates are not looked at."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or parts.hostname is None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = (parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme])
    try:
        with (
            socket.create_connection(address, TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=parts.hostname),
        ):
            return False
    except ssl.SSLError:
        return True
    except OSError:
        return False
