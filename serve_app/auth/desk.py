"""Keys from outside the API: what the command line works on."""

from __future__ import annotations

import asyncio
import getpass
import json
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from deployments.errors import RaysightError
from deployments.store.opening import open_store
from engines.errors import EngineError
from serve_app.auth.audit import AUDIT_LIMIT, AuditLog
from serve_app.auth.keyring import Keyring
from serve_app.auth.records import KeySpec
from serve_app.auth.roles import Principal, Role

TIMEOUT_S = 30.0

Answer = TypeVar("Answer")


class KeyDesk(Protocol):
    """Where keys are made. Every method raises EngineError with one line that says what to do."""

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The new key as `NewKey` has it."""
        ...

    def list(self) -> list[dict[str, Any]]:
        """All keys as `KeyView` has them."""
        ...

    def remove(self, key_id: str) -> None: ...


class ApiDesk:
    """The API at ``url``, with an admin's key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._ask("POST", "/v1/keys", spec)
        return made

    def list(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._ask("GET", "/v1/keys")["items"]
        return items

    def remove(self, key_id: str) -> None:
        self._ask("DELETE", f"/v1/keys/{key_id}")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self._url + path, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise EngineError(_told(error)) from None
        except (OSError, ValueError) as error:
            raise EngineError(f"no API answers at {self._url}: {error}") from None
        return json.loads(text) if text else None


class StoreDesk:
    """The store itself: for the first key, or where the last one is lost."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
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
            return [view.model_dump(mode="json") for view in await self._keys.list()]

        return _run(listed())

    def remove(self, key_id: str) -> None:
        async def removed() -> None:
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


def _told(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.load(error)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"the API answered {error.code}"
    hint = " Put an admin's key into RAYSIGHT_KEY." if error.code in (401, 403) else ""
    return f"{detail}{hint}"
