"""A store whose values are encrypted, so that who reads its file or its backup learns no password."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from deployments.store.protocol import Conflict, Guard, Record, Store, StoreAway

KEY_VARIABLE = "RAYSIGHT_STORE_KEY"
"""Keys, split by commas: the first one encrypts, all of them decrypt."""

KEY_FILE_VARIABLE = "RAYSIGHT_STORE_KEY_FILE"
"""Path of a file with the same, one a line."""

MAKE_KEY = "python -c 'from cryptography.fernet import Fernet as F; print(F.generate_key().decode())'"

_MARK = b"sealed:"


def keys_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys that the environment gives, none where it gives none. Raises StoreAway."""
    text = environment.get(KEY_VARIABLE, "")
    path = environment.get(KEY_FILE_VARIABLE)
    if path:
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise StoreAway(f"{KEY_FILE_VARIABLE} can't be read: {error}") from error
    return tuple(text.replace(",", " ").split())


class SealedStore:
    """`Store` around another one. Values that were stored before there was a key are read as they are.

    Empty values, which tell nothing, are never encrypted: what counts of them is the version, with whatever key.

    Args:
        keys: of Fernet: 32 bytes in base64. Without one nothing is encrypted, and what is can't be read.

    Raises StoreAway where a key is none.
    """

    def __init__(self, inner: Store, keys: Sequence[str]) -> None:
        self._inner = inner
        self._untidy = False
        try:
            self._boxes = [Fernet(key) for key in keys]
            self._box = MultiFernet(self._boxes) if keys else None
        except ValueError:
            raise StoreAway(f"a key in {KEY_VARIABLE} or its file is none of Fernet: make one by {MAKE_KEY}") from None

    def all(self, kind: str) -> dict[str, Record]:
        return {key: self._opened(record) for key, record in self._inner.all(kind).items()}

    def get(self, kind: str, key: str) -> Record | None:
        record = self._inner.get(kind, key)
        return self._opened(record) if record is not None else None

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        return self._inner.put(kind, key, self._sealed(value), expected, guard)

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        self._inner.delete(kind, key, expected, guard)

    def kinds(self) -> frozenset[str]:
        return self._inner.kinds()

    def rewrite(self, kind: str, key: str, value: bytes, version: int) -> None:
        self._inner.rewrite(kind, key, self._sealed(value), version)

    def renew(self) -> int:
        """Encrypt with the first key what is not yet, be it with another one or with none: how many records that were.

        Their versions stay, and nothing is left of what was stored before. Other processes may read and write
        meanwhile. Raises StoreAway, also where no key opens a record; what was done by then stays done.
        """
        renewed = 0
        for kind in self._inner.kinds() if self._boxes else ():
            for key, record in self._inner.all(kind).items():
                if self._is_new(record.value):
                    continue
                with suppress(Conflict):  # just written anew, or gone
                    self.rewrite(kind, key, self._opened(record).value, record.version)
                    renewed += 1
                    self._untidy = True
        if self._untidy:
            self._inner.tidy()
            self._untidy = False
        return renewed

    def tidy(self) -> None:
        self._inner.tidy()

    def server(self) -> str:
        return self._inner.server()

    def close(self) -> None:
        self._inner.close()

    def _sealed(self, value: bytes) -> bytes:
        return _MARK + self._box.encrypt(value) if self._box is not None and value else value

    def _is_new(self, stored: bytes) -> bool:
        """Whether it is what `put` would store now."""
        if not stored.startswith(_MARK):
            return not stored
        try:
            return bool(self._boxes[0].decrypt(stored.removeprefix(_MARK)))
        except InvalidToken:
            return False

    def _opened(self, record: Record) -> Record:
        if not record.value.startswith(_MARK):
            return record
        if self._box is None:
            raise StoreAway(f"the store is encrypted: set {KEY_VARIABLE} or {KEY_FILE_VARIABLE} where Ray is started")
        try:
            return Record(self._box.decrypt(record.value.removeprefix(_MARK)), record.version)
        except InvalidToken:
            raise StoreAway(
                f"no key in {KEY_VARIABLE} or its file opens what is stored: add the one it was stored with"
            ) from None
