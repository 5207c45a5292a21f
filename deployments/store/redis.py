"""The store of a cluster: hashes in Redis, changed by scripts, each of which Redis runs alone and logs as one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployments.errors import StoreAway, StoreDown
from deployments.store.protocol import Conflict, Fenced, Guard, Record

CONNECT_TIMEOUT_S = 2.0

ANSWER_TIMEOUT_S = 3.0
"""Redis answers once the disk has the change, which takes some ms."""

DEFAULT_PREFIX = "raysight"

DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
"""Settings of Redis without which a change that was answered can be lost."""

FLOORS = "floors"
"""No kind of records: the highest version of any deleted record of each."""

_CHECKED = """
local function version(hash, field)
  local found = redis.call('HGET', hash, field)
  return found and tonumber(string.match(found, '^%d+')) or 0
end
local kind, key, value, expected, guard, guarded = unpack(ARGV)
if guarded ~= '' and version(KEYS[3], guard) ~= tonumber(guarded) then return {'fenced', 0} end
local current = version(KEYS[1], key)
if expected ~= '' and tonumber(expected) ~= current then return {'conflict', current} end
local floor = tonumber(redis.call('HGET', KEYS[2], kind) or 0)
"""

_PUT = """
local new = (current > 0 and current or floor) + 1
redis.call('HSET', KEYS[1], key, string.format('%d:', new) .. value)
return {'done', new}
"""

_REWRITE = """
redis.call('HSET', KEYS[1], key, string.format('%d:', current) .. value)
return {'done', current}
"""

# One that is made again goes on above the floor.
_DELETE = """
if current > 0 then
  redis.call('HSET', KEYS[2], kind, math.max(current, floor))
  redis.call('HDEL', KEYS[1], key)
end
return {'done', 0}
"""

logger = logging.getLogger(__name__)


class RedisStore:
    """`Store` in Redis. All keys begin with a prefix, in one slot.

    Args:
        url: as redis-py takes it, ``redis://`` or ``rediss://`` (TLS; ``ssl_ca_certs=`` in the query names the
            authority's file); ``prefix=`` in the query is ours, so that several systems can share one Redis.
        password: used where the URL names none.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        address, prefix = _without_prefix(url)
        self._prefix = f"{{{prefix}}}:"
        self._shown = urlsplit(url).hostname
        options = {} if password is None or urlsplit(url).password else {"password": password}
        self._client: redis.Redis = redis.Redis.from_url(
            address,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # a change whose answer was lost must not be made twice unseen
            **options,
        )
        self._put = self._client.register_script(_CHECKED + _PUT)
        self._delete = self._client.register_script(_CHECKED + _DELETE)
        self._rewrite = self._client.register_script(_CHECKED + _REWRITE)

    def all(self, kind: str) -> dict[str, Record]:
        with self._reached():
            found: Any = self._client.hgetall(self._prefix + kind)
        return {key.decode(): _record(packed) for key, packed in found.items()}

    def get(self, kind: str, key: str) -> Record | None:
        with self._reached():
            packed: Any = self._client.hget(self._prefix + kind, key)
        return _record(packed) if packed is not None else None

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        return self._change(self._put, kind, key, value, expected, guard)

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        self._change(self._delete, kind, key, b"", expected, guard)

    def kinds(self) -> frozenset[str]:
        pattern = re.sub(r"([][*?\\])", r"\\\1", self._prefix) + "*"
        with self._reached():
            found = {key.decode().removeprefix(self._prefix) for key in self._client.scan_iter(pattern)}
        return frozenset(found - {FLOORS})

    def rewrite(self, kind: str, key: str, value: bytes, version: int) -> None:
        self._change(self._rewrite, kind, key, value, version, None)

    def tidy(self) -> None:
        """Has Redis write its file anew, beside all else."""
        with self._reached(), suppress(redis.ResponseError):  # at it already, or a hosted one that forbids it
            self._client.bgrewriteaof()

    def server(self) -> str:
        with self._reached():
            found: Any = self._client.info("server")
        return str(found["run_id"])

    def close(self) -> None:
        self._client.close()

    def weaknesses(self) -> str | None:
        """What of Redis' settings lets it lose changes, in a line that says what to set; None where nothing does.

        Raises StoreAway.
        """
        try:
            with self._reached():
                found: Any = self._client.config_get(*DURABLE)
        except StoreAway as error:
            if isinstance(error.__cause__, redis.ResponseError):  # a hosted Redis may forbid the question
                return f"Redis does not tell its settings: make sure that it has {_settings(DURABLE)}"
            raise
        weaker = {name: wanted for name, wanted in DURABLE.items() if _text(found.get(name)) != wanted}
        return f"Redis may lose accepted changes: set {_settings(weaker)} there" if weaker else None

    def _change(self, script: Any, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None) -> int:
        guard_kind, guard_key, guard_version = guard if guard is not None else (kind, "", "")
        keys = [self._prefix + kind, self._prefix + FLOORS, self._prefix + guard_kind]
        wanted = "" if expected is None else expected
        with self._reached():
            outcome, number = script(keys=keys, args=[kind, key, value, wanted, guard_key, guard_version])
        if outcome == b"fenced":
            raise Fenced(f"{guard_kind} {guard_key!r} is no longer at version {guard_version}: another took over")
        if outcome == b"conflict":
            raise Conflict(kind, key, int(number))
        return int(number)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            # Its other connections are as broken; the next call makes a new one.
            self._client.connection_pool.disconnect(inuse_connections=False)
            kind = StoreDown if _is_down(error) else StoreAway
            raise kind(f"the store, Redis on {self._shown}, can't be used: {error}") from error


def _is_down(error: BaseException) -> bool:
    """Whether its host said that nobody listens there, or Redis that it only just reads its files."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ConnectionRefusedError | redis.BusyLoadingError):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _without_prefix(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    prefix = query.pop("prefix", [DEFAULT_PREFIX])[-1]
    return urlunsplit(parts._replace(query=urlencode(query, doseq=True))), prefix


def _record(packed: bytes) -> Record:
    version, _, value = packed.partition(b":")
    return Record(value, int(version))


def _settings(settings: Mapping[str, str]) -> str:
    return ", ".join(f"`{name} {value}`" for name, value in settings.items())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
