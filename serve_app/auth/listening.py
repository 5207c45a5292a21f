"""Whether the API may ask nobody: only where nobody but this machine reaches it."""

from __future__ import annotations

import ipaddress

from engines.errors import EngineError

__all__ = ["OpenDoors", "require_closed_or_local"]


class OpenDoors(EngineError):
    """The API would be open to other machines."""


def require_closed_or_local(auth: str, host: str | None, grpc_from: str) -> None:
    """Refuse to start open to others.

    Args:
        host: where the server listens, as ``http_options`` have it; None where that is unknown.

    Raises:
        OpenDoors: with what to set.
    """
    if auth != "off":
        return
    if not _is_local(host):
        raise OpenDoors(
            f"the API would be open to everybody: it listens on {host or 'an unknown address'} and asks nobody "
            "who they are. Set `auth: keys` in its args, or `host: 127.0.0.1` in http_options"
        )
    if grpc_from == "anywhere":
        raise OpenDoors(
            "`grpc_from: anywhere` would open the API to everybody, since it asks nobody who they are. "
            "Set `auth: keys` in its args, or leave grpc_from out"
        )


def _is_local(host: str | None) -> bool:
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
