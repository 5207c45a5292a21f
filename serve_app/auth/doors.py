"""The doors: from what a request carries to who makes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from serve_app.auth.errors import Forbidden, Unauthorized
from serve_app.auth.keyring import Keyring
from serve_app.auth.logouts import Logouts
from serve_app.auth.quota import OpenViews, RequestMeter
from serve_app.auth.roles import Principal, Role
from serve_app.auth.secret import read_key
from serve_app.auth.session import SessionSigner
from serve_app.auth.tally import Together
from serve_app.auth.web_tokens import WebTokens

ASK = "Send a key or token as `Authorization: Bearer ...`, or log in on the page."


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries.

    Attributes:
        authorization: the header, or gRPC's metadata of that name.
        cookie: the session's.
        csrf: the header that has to come with a cookie where the request changes something.
        changes: whether it does.
    """

    authorization: str | None = None
    cookie: str | None = None
    csrf: str | None = None
    changes: bool = True


@dataclass(frozen=True, slots=True)
class Login:
    """A session that begins: the cookie's value, the token that goes with it, and its life in seconds."""

    cookie: str
    csrf: str
    seconds: int


class Doors:
    """Closed doors.

    Args:
        logouts: sessions that were logged out.
        tokens: None where no JWTs are taken.
        session_s: the longest life of a browser's session.
        clock: monotonic seconds.
        now: Unix time, seconds.
        together: what all replicas of the API count of quotas; None where there is one.
    """

    def __init__(
        self,
        keys: Keyring,
        logouts: Logouts,
        tokens: WebTokens | None,
        signer: SessionSigner,
        session_s: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        together: Together | None = None,
    ) -> None:
        self.keys = keys
        self._logouts = logouts
        self._tokens = tokens
        self._signer = signer
        self._session_s = session_s
        self._now = now
        self._meter = RequestMeter(clock, together)
        self.views = OpenViews(together)

    async def admit(self, credentials: Credentials, needed: Role) -> Principal:
        """Who makes a request that asks for a role.

        Raises:
            Unauthorized: nobody known.
            Forbidden: the role is too small, or the CSRF token is missing.
            QuotaExceeded: too many requests.
            StoreAway: no key was ever read.
        """
        who = await self._who(credentials)
        await self._meter.count(who)
        if not who.role.covers(needed):
            raise Forbidden(f"This needs the role {needed}; yours is {who.role}.")
        return who

    async def still_holds(self, who: Principal) -> bool:
        """Whether somebody who was admitted would still be. Raises StoreAway as `admit`."""
        kind, _, name = who.id.partition(":")
        if who.expires_at <= self._now() or (who.session and await self._logouts.over(who.id, who.session)):
            return False
        return kind != "key" or await self._key(name, who.since) is not None

    async def login(self, secret: str) -> Login:
        """A session for whoever holds a key or token. Raises Unauthorized, StoreAway, QuotaExceeded."""
        now = self._now()
        who = await self._bearer(secret)
        await self._meter.count(who)
        until = min(now + self._session_s, who.expires_at)
        cookie = self._signer.seal(_content(who), now, until)
        return Login(cookie, self._signer.csrf(cookie), max(1, int(until - now)))

    async def logout(self, who: Principal) -> None:
        """End the session that somebody came with, for good. Raises StoreAway: then it goes on."""
        if who.session is not None:
            await self._logouts.end(who.id, who.session)

    async def _who(self, credentials: Credentials) -> Principal:
        if credentials.authorization is not None:
            scheme, _, secret = credentials.authorization.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized(ASK)
            return await self._bearer(secret.strip())
        if credentials.cookie is None:
            raise Unauthorized(ASK)
        who = await self._of_session(credentials.cookie)
        if credentials.changes and not self._signer.csrf_fits(credentials.cookie, credentials.csrf or ""):
            raise Forbidden("A change that comes with a cookie needs the header X-CSRF-Token as well; reload the page.")
        return who

    async def _bearer(self, secret: str) -> Principal:
        if read_key(secret) is not None or self._tokens is None:
            who = await self.keys.holder(secret)
            if who is None:
                raise Unauthorized("There is no such key, or no more.")
            return who
        return await self._tokens.holder(secret)

    async def _of_session(self, cookie: str) -> Principal:
        opened = self._signer.open(cookie, self._now())
        if opened is None:
            raise Unauthorized("The session has ended: log in again.")
        content, session = opened
        if "key" in content:
            who = await self._key(content["key"], content["since"])
            if who is None:
                raise Unauthorized("The key of this session was removed: log in with another.")
        else:
            who = Principal(content["id"], content["name"], Role(content["role"]), content["labels"])
        if await self._logouts.over(who.id, session):
            raise Unauthorized("The session was logged out: log in again.")
        return replace(who, expires_at=session.expires_at, session=session)

    async def _key(self, key_id: str, since: float) -> Principal | None:
        """The holder of the very key that was made then."""
        who = await self.keys.by_id(key_id)
        return who if who is not None and who.since == since else None


def _content(who: Principal) -> dict[str, Any]:
    kind, _, name = who.id.partition(":")
    if kind == "key":
        return {"key": name, "since": who.since}
    return {"id": who.id, "name": who.name, "role": who.role.value, "labels": dict(who.labels)}
