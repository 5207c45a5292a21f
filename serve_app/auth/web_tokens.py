"""JWTs of an identity provider: signature, issuer, audience and time are checked, role and labels read from claims."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serve_app.auth.errors import Unauthorized
from serve_app.auth.records import KeySpec
from serve_app.auth.roles import Principal, Role

logger = logging.getLogger(__name__)

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Those with a public key: with HS256 the published key would be the secret (RFC 8725, 2.1 and 3.1)."""

REFRESH_S = 300.0
"""How long the provider's keys are good without being asked for again."""

MIN_REFRESH_S = 10.0
"""Between two requests to the provider, however many tokens name keys that are not known."""

FETCH_TIMEOUT_S = 5.0
_LARGEST = 512 * 1024


class JwtConfig(BaseModel):
    """Whose tokens are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jwks_url: str = Field(description="Where the provider publishes its keys: https, or http on this machine.")
    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    algorithms: tuple[str, ...] = Field(default=("RS256", "ES256", "EdDSA"), min_length=1)
    roles_claim: str = Field(
        default="roles", description="Dotted path of a text or list; the highest role in it holds, others are ignored."
    )
    labels_claim: str | None = Field(
        default=None,
        description="Dotted path of an object of labels that limit what is seen; admins alone may do without.",
    )

    @field_validator("algorithms")
    @classmethod
    def _with_public_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unfit = sorted(set(value) - ALGORITHMS)
        if unfit:
            raise ValueError(f"{', '.join(unfit)} can't be used; choose of {', '.join(sorted(ALGORITHMS))}")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _private(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" and (parts.scheme, parts.hostname) not in _LOCAL:
            raise ValueError("must be https, or http on this machine: who changes the keys signs tokens")
        return value


_LOCAL = {("http", host) for host in ("localhost", "127.0.0.1", "::1")}


def fetch_json(url: str) -> Any:
    """The document at ``url``. Raises OSError, ValueError."""
    with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:
        return json.loads(response.read(_LARGEST))


class WebTokens:
    """Reads tokens.

    Args:
        clock: monotonic seconds.
        fetch: gets the provider's keys; called on a thread.
    """

    def __init__(self, config: JwtConfig, clock: Callable[[], float], fetch: Callable[[str], Any] = fetch_json) -> None:
        self._config = config
        self._clock = clock
        self._fetch = fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = -REFRESH_S
        self._tried_at = -MIN_REFRESH_S
        self._turn = asyncio.Lock()

    async def holder(self, token: str) -> Principal:
        """Who holds the token. Raises Unauthorized."""
        try:
            head = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthorized("The token is neither a key nor a JWT.") from None
        key = await self._key(str(head.get("kid", "")))
        config = self._config
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(config.algorithms),
                audience=config.audience,
                issuer=config.issuer,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired: get another.") from None
        except (jwt.PyJWTError, TypeError, ValueError):  # the last two where key and algorithm don't belong together
            raise Unauthorized(
                "The token does not hold: issuer, audience, algorithm or signature is another."
            ) from None
        return read_claims(claims, config)

    async def _key(self, kid: str) -> jwt.PyJWK:
        now = self._clock()
        wanted = kid not in self._keys or now - self._read_at >= REFRESH_S
        if wanted and now - self._tried_at >= MIN_REFRESH_S:
            async with self._turn:
                if self._clock() - self._tried_at >= MIN_REFRESH_S:
                    self._tried_at = self._clock()
                    await self._refresh()
        if kid not in self._keys:
            raise Unauthorized("The token is signed with a key that its provider does not publish.")
        return self._keys[kid]

    async def _refresh(self) -> None:
        try:
            document = await asyncio.to_thread(self._fetch, self._config.jwks_url)
            keys = jwt.PyJWKSet.from_dict(document).keys
        except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
            logger.warning("the provider's keys can't be read, those known go on: %s", error)
            return
        self._keys = {str(key.key_id): key for key in keys if key.key_id}
        self._read_at = self._tried_at


def read_claims(claims: Mapping[str, Any], config: JwtConfig) -> Principal:
    """Who a checked token says its bearer is. Raises Unauthorized where it names no role or can't be scoped."""
    named = _at(claims, config.roles_claim)
    words = named.split() if isinstance(named, str) else named if isinstance(named, list) else []
    roles = [role for role in Role if role.value in words]
    if not roles:
        raise Unauthorized(f"The token names no role of {', '.join(Role)} in {config.roles_claim}.")
    labels = {} if config.labels_claim is None else _at(claims, config.labels_claim)
    if roles[-1] is Role.ADMIN:
        labels = {}
    elif config.labels_claim is not None and not labels:
        raise Unauthorized(f"The token names no labels in {config.labels_claim}.")
    try:
        checked = KeySpec(name=str(claims["sub"])[:100], role=roles[-1], labels=labels)
    except ValidationError:
        raise Unauthorized("The token's subject or labels can't be used.") from None
    return Principal(f"jwt:{checked.name}", checked.name, checked.role, checked.labels, expires_at=float(claims["exp"]))


def _at(claims: Mapping[str, Any], path: str) -> Any:
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
