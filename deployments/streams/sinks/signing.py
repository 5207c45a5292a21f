"""The signature of a webhook: HMAC-SHA256 over the time and the body, so that neither can be changed or sent later."""

from __future__ import annotations

import hashlib
import hmac

TIMESTAMP = "Raysight-Timestamp"
"""Header with the Unix time of the try, whole seconds."""

SIGNATURE = "Raysight-Signature"
"""Header with ``sha256=`` and the hex digest over the timestamp's digits, a dot and the body."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `SIGNATURE`."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"
