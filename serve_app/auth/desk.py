"""Keys from outside the API: what the command line works on."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from deployments.errors import RaysightError
from deployments.store.opening import open_store, require_made
from engines.errors import EngineError
from serve_app.auth.audit import AUDIT_LIMIT, AuditLog
from serve_app.auth.keyring import Keyring
from serve_app.auth.records import KeySpec
from serve_app.auth.roles import Principal, Role
from serve_app.client.server import Server

Answer = TypeVar("Answer")


class KeyDesk(Protocol):
    """Where keys are made. What every method raises has one line that says what to do."""

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The new key as `NewKey` has it."""
        ...

    def list(self) -> list[dict[str, Any]]:
        """All keys as `KeyView` has them."""
        ...

    def remove(self, key_id: str) -> None: ...


class ApiDesk:
    """The API, with an admin's key. Raises ServerAway and ServerRefused."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._server.ask("POST", "/v1/keys", spec)
        return made

    def list(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._server.ask("GET", "/v1/keys")["items"]
        return items

    def remove(self, key_id: str) -> None:
        self._server.ask("DELETE", f"/v1/keys/{quote(key_id, safe='')}")


class StoreDesk:
    """The store itself: for the first key, or where the last one is lost. Only `add` makes one. Raises EngineError."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._url = url
        try:
            store = open_store(url, environment)
        except RaysightError as error:
            raise EngineError(str(error)) from None
        self._keys = Keyring(store, time.monotonic, time.time)
        self._audit = AuditLog(store, AUDIT_LIMIT, time.time)
        user = getpass.getuser()
        self._who = Principal(f"shell:{user}", user, Role.ADMIN)

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        async def added() -> dict[str, Any]:
            made = await self._keys.add(KeySpec.model_validate(spec), self._who.id)
            await self._audit.add(self._who, "key.create", made.id)
            return made.model_dump(mode="json")

        return _run(added())

    def list(self) -> list[dict[str, Any]]:
        async def listed() -> list[dict[str, Any]]:
            require_made(self._url)
            return [view.model_dump(mode="json") for view in await self._keys.list()]

        return _run(listed())

    def remove(self, key_id: str) -> None:
        async def removed() -> None:
            require_made(self._url)
            await self._keys.remove(key_id)
            await self._audit.add(self._who, "key.delete", key_id)

        _run(removed())


def _run(task: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return asyncio.run(task)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise EngineError(f"{'.'.join(map(str, first['loc'])) or 'key'}: {first['msg']}") from None
    except RaysightError as error:
        raise EngineError(str(error)) from None
