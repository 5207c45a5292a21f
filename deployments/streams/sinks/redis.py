"""XADD to a stream of Redis."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import TIMEOUT_S, Dial, SinkDown, SinkFailed
from deployments.streams.sinks.spec import SinkSpec

PORT = 6379


class RedisSender:
    """`Sender` to one stream, which is trimmed to about ``max_len`` entries."""

    def __init__(self, spec: SinkSpec, stream_id: str, dial: Dial) -> None:
        parts, secrets = urlsplit(spec.url), spec.credentials
        self._key, self._max_len = spec.key(stream_id), spec.max_len
        username = secrets.username.get_secret_value() if secrets is not None and secrets.username is not None else ""
        password = secrets.password.get_secret_value() if secrets is not None and secrets.password is not None else None
        self._connection = _connection(parts.scheme, spec.url, parts.port or PORT, dial)(
            host=parts.hostname,
            port=parts.port or PORT,  # for its messages
            db=int(parts.path.lstrip("/") or 0),
            username=username or None,
            password=password,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # who waits and tries again is the worker
        )

    def send(self, letter: Letter) -> None:
        try:
            self._connection.connect()
        except redis.RedisError as error:
            raise SinkDown(f"Redis: {error}") from None
        fields = ("key", letter.key, "type", letter.type, "event", letter.body)
        try:
            self._connection.send_command("XADD", self._key, "MAXLEN", "~", self._max_len, "*", *fields)
            self._connection.read_response()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self.close()
            raise SinkDown(f"Redis: {error}") from None
        except redis.RedisError as error:  # full, a replica, a key of another type
            raise SinkFailed(f"Redis: {error}") from None

    def interrupt(self) -> None:
        found = self._connection._sock
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.disconnect()


def _connection(scheme: str, url: str, port: int, dial: Dial) -> Any:
    """A class of connections that takes its socket from ``dial``; TLS keeps the host's name."""

    def dialled(self: Any) -> socket.socket:
        found = dial(url, port)
        found.settimeout(TIMEOUT_S)
        return found

    if scheme.lower() == "redis":
        return type("Dialled", (redis.Connection,), {"_connect": dialled})

    def secured(self: Any) -> socket.socket:
        return self._wrap_socket_with_ssl(dialled(self))  # type: ignore[no-any-return]

    return type("DialledTls", (redis.SSLConnection,), {"_connect": secured})
