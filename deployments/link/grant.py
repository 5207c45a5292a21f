"""What a stream needs to attach: handed out by the replica over a channel that is trusted already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import zmq

from engines.types import EngineInfo


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, 40 characters each (Z85). The secret never leaves its side."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """A new pair."""
        return cls(*zmq.curve_keypair())


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave for the holder of one client key to attach once, within `ATTACH_WITHIN_S`.

    Attributes:
        lease: names the attachment, on both sides; 16 random bytes as hex, and a secret between them.
        local: the abstract name of a Unix socket, reachable by processes in the server's network namespace.
        tcp: reachable from elsewhere.
        server_key: the server's public key.
        info: what is loaded.
        window: how many frames may be out at once; as many slots, where memory is shared.
    """

    lease: str = field(repr=False)
    local: str
    tcp: str
    server_key: bytes
    info: EngineInfo
    window: int


ATTACH_WITHIN_S = 10.0
"""A grant that nobody used for so long is void."""
