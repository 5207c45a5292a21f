"""API keys: made, read and compared. What is stored is a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

_FORM = re.compile(r"rsk_([a-z0-9]{1,32})_([0-9a-f]{64})")


class ApiKey(NamedTuple):
    """A key as its holder has it: ``rsk_<id>_<secret>``."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"rsk_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"

    def digest(self) -> str:
        """What is stored. SHA-256 is enough: nobody guesses 256 random bits, however fast the hash."""
        return hashlib.sha256(str(self).encode()).hexdigest()

    def fits(self, digest: str) -> bool:
        """Whether this is the key of the digest, in a time that tells nothing."""
        return hmac.compare_digest(self.digest(), digest)


def new_key(key_id: str | None = None) -> ApiKey:
    """A key with a secret of 256 random bits."""
    return ApiKey(key_id or secrets.token_hex(6), secrets.token_hex(32))


def read_key(text: str) -> ApiKey | None:
    """The key that ``text`` is; None for anything else."""
    found = _FORM.fullmatch(text)
    return ApiKey(found[1], found[2]) if found else None
