"""From the ``store`` argument of the application to an open store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from deployments.store.protocol import Store, StoreAway
from deployments.store.sealed import KEY_FILE_VARIABLE, KEY_VARIABLE, MAKE_KEY, SealedStore, keys_from
from deployments.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from deployments.store.redis import RedisStore

PASSWORD_VARIABLE = "RAYSIGHT_STORE_PASSWORD"
"""Of Redis, where the URL names none: the dashboard shows the arguments of an application."""

logger = logging.getLogger(__name__)


def sqlite_url(path: Path) -> str:
    """The URL of a file."""
    return f"sqlite://{path.resolve()}"


def is_local(url: str) -> bool:
    """Whether only one node can reach the store."""
    return urlsplit(url).scheme == "sqlite"


def refuse_nodes(url: str, nodes: int) -> None:
    """Raises StoreAway where the store is a file and there are several nodes: each would have one of its own."""
    if is_local(url) and nodes > 1:
        raise StoreAway(
            f"the store is a file of one node, and the cluster has {nodes}: set `store: redis://HOST:6379` in the "
            "args of the application raysight"
        )


def require_made(url: str) -> None:
    """Raises StoreAway where the store is a file that is not there: to open it would make it."""
    file = _file(url)
    if file is not None and not file.exists():
        raise StoreAway(f"there is no store {str(file)!r}: check the path")


def open_store(url: str, environment: Mapping[str, str]) -> SealedStore:
    """The store that a URL names: ``sqlite:///path``, ``redis://...`` or ``rediss://...``; it connects when it is used.

    Raises StoreAway where the URL or a key can't be used.
    """
    parts = urlsplit(url)
    inner: Store
    if (file := _file(url)) is not None:
        inner = SqliteStore(file)
    elif parts.scheme in ("redis", "rediss") and parts.hostname:
        inner = _redis(url, environment)
    else:
        raise StoreAway("the store has to be sqlite:///path, redis://host:port or rediss://host:port")
    return SealedStore(inner, keys_from(environment))


def _file(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path)) if parts.scheme == "sqlite" and parts.path else None


def _redis(url: str, environment: Mapping[str, str]) -> RedisStore:
    """Its client takes each actor that starts 0.1 s to import, which with SQLite it is spared."""
    from deployments.store.redis import RedisStore

    return RedisStore(url, environment.get(PASSWORD_VARIABLE))


def warnings_of(url: str, environment: Mapping[str, str]) -> list[str]:
    """What of the store's circumstances is weaker than it could be, each in a line that says what to do.

    Raises StoreAway.
    """
    found = []
    if not keys_from(environment):
        found.append(
            f"credentials are stored in clear text: set {KEY_VARIABLE} or {KEY_FILE_VARIABLE} where Ray is started; "
            f"{MAKE_KEY} makes a key"
        )
    if not is_local(url):
        store = _redis(url, environment)
        try:
            weakness = store.weaknesses()
        finally:
            store.close()
        found += [weakness] if weakness else []
    return found
