"""Sessions of browsers: a signed cookie, and a second token that only the server's own pages can read and send.

A session stands for itself: the server keeps none, but those that ended before their time (`logouts`). It names a key,
which is looked up at each request, so that it ends when the key is removed, or holds what a JWT said of its bearer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from typing import Any, NamedTuple

COOKIE = "raysight_session"
CSRF_COOKIE = "raysight_csrf"
CSRF_HEADER = "x-csrf-token"


class Session(NamedTuple):
    """One session, without whose it is. Times are Unix times, in seconds."""

    id: str
    began_at: float
    expires_at: float


class SessionSigner:
    """Seals and opens sessions with a secret of 32 bytes or more, the same in all replicas."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("a session secret has at least 32 bytes")
        self._secret = secret

    def seal(self, content: dict[str, Any], began_at: float, expires_at: float) -> str:
        """A cookie's value for a new session of ``content``."""
        session = Session(secrets.token_hex(8), began_at, expires_at)
        sealed = _encode(json.dumps({"of": content, "session": session}, separators=(",", ":")).encode())
        return f"{sealed}.{self._mac('session', sealed)}"

    def open(self, cookie: str, now: float) -> tuple[dict[str, Any], Session] | None:
        """What was sealed; None where it was not sealed here, as it is today, or has expired."""
        sealed, _, mac = cookie.partition(".")
        if not hmac.compare_digest(self._mac("session", sealed).encode(), mac.encode()):
            return None
        try:
            body = json.loads(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
            content, session = body["of"], Session(*body["session"])
        except (binascii.Error, ValueError, KeyError):
            return None
        return (content, session) if session.expires_at > now else None

    def csrf(self, cookie: str) -> str:
        """The token that goes with a cookie: who holds one can't make the other."""
        return self._mac("csrf", cookie)

    def csrf_fits(self, cookie: str, token: str) -> bool:
        """Whether ``token`` goes with the cookie."""
        return hmac.compare_digest(self.csrf(cookie).encode(), token.encode())

    def _mac(self, purpose: str, text: str) -> str:
        return _encode(hmac.digest(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
