"""An API with closed doors over a real store in a file, called without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from deployments.errors import StoreAway
from deployments.store.protocol import Guard, Record
from deployments.store.sqlite import SqliteStore
from serve_app.api.application import create_api
from serve_app.auth.audit import AuditLog
from serve_app.auth.doors import Doors
from serve_app.auth.keyring import Keyring
from serve_app.auth.logouts import Logouts
from serve_app.auth.records import KeySpec
from serve_app.auth.session import SessionSigner
from serve_app.auth.web_tokens import WebTokens
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams

SECRET = b"0123456789abcdef0123456789abcdef"
BASE = "http://localhost:8000"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingStore:
    """A real store that counts reads, and that tests can take away."""

    def __init__(self, inner: SqliteStore) -> None:
        self.inner = inner
        self.away = False
        self.reads = 0

    def _require(self) -> None:
        if self.away:
            raise StoreAway("the store is away")

    def all(self, kind: str) -> dict[str, Record]:
        self.reads += 1
        self._require()
        return self.inner.all(kind)

    def get(self, kind: str, key: str) -> Record | None:
        self.reads += 1
        self._require()
        return self.inner.get(kind, key)

    def put(self, kind: str, key: str, value: bytes, expected: int | None, guard: Guard | None = None) -> int:
        self._require()
        return self.inner.put(kind, key, value, expected, guard)

    def delete(self, kind: str, key: str, expected: int | None, guard: Guard | None = None) -> None:
        self._require()
        self.inner.delete(kind, key, expected, guard)

    def close(self) -> None:
        self.inner.close()


class ClosedApi:
    """The API, what lies behind it, and its keys."""

    def __init__(self, runner: asyncio.Runner, store: CountingStore, tokens: WebTokens | None = None) -> None:
        self.runner = runner
        self.store = store
        self.clock = Clock()
        self.streams = MemoryStreams()
        self.keys = Keyring(store, self.clock, self.clock)
        logouts = Logouts(store, self.clock, self.clock)
        self.doors = Doors(self.keys, logouts, tokens, SessionSigner(SECRET), 3600, self.clock, self.clock)
        self.audit = AuditLog(store, 50, self.clock)
        self.app = create_api(
            self.streams, MemoryDetector(), MemoryMedia(), version="0", doors=self.doors, audit=self.audit
        )

    def key(self, role: str, **spec: Any) -> str:
        """A new key."""
        return self.keys.put_new(KeySpec.model_validate({"name": f"the {role}", "role": role, **spec}), "test").key

    def call(
        self, method: str, path: str, key: str | None = None, cookies: dict[str, str] | None = None, **request: Any
    ) -> httpx.Response:
        """One request and its whole answer."""
        headers = {**request.pop("headers", {}), **({} if key is None else {"Authorization": f"Bearer {key}"})}

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            base = request.pop("base_url", BASE)
            async with httpx.AsyncClient(transport=transport, base_url=base, cookies=cookies) as client:
                return await client.request(method, path, headers=headers, **request)

        return self.runner.run(exchange())

    def put(self, stream_id: str, key: str, **spec: Any) -> httpx.Response:
        """Create or replace a stream."""
        return self.call("PUT", f"/v1/streams/{stream_id}", key, json={"source": {"url": "testsrc://"}, **spec})


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that a response is."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    told: dict[str, Any] = response.json()
    assert told["code"] == code
    return told
