"""How doors are closed: what the API's ``args`` say of it."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deployments.errors import StoreAway
from deployments.store.protocol import Store
from engines.errors import EngineError
from serve_app.auth.audit import AUDIT_LIMIT
from serve_app.auth.doors import Doors
from serve_app.auth.keyring import Keyring
from serve_app.auth.logouts import Logouts
from serve_app.auth.session import SessionSigner
from serve_app.auth.tally import Together
from serve_app.auth.web_tokens import JwtConfig, WebTokens

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "RAYSIGHT_SESSION_SECRET"
_LEAST_SECRET = 32


class AuthArgs(BaseModel):
    """The part of the API's ``args`` that says who may call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    auth: Literal["off", "keys", "jwt"] = Field(
        default="off",
        description="Who is asked: nobody, which takes a server on the loopback; everybody for a key of the store; "
        "everybody for a key or a JWT.",
    )
    first_key: bool = Field(
        default=True,
        description="Whether an admin's key is made at the start and shown in the log where there is none.",
    )
    jwt: JwtConfig | None = Field(default=None, description="Whose JWTs are taken, with `auth: jwt`.")
    session_hours: float = Field(default=12.0, gt=0, le=24 * 30, description="Longest session of a browser.")
    audit_limit: int = Field(default=AUDIT_LIMIT, ge=1, le=100_000, description="Changes that the audit log keeps.")

    @field_validator("auth", mode="before")
    @classmethod
    def _off_of_yaml(cls, value: Any) -> Any:
        return "off" if value is False else value  # what YAML 1.1 makes of a bare `off`

    @model_validator(mode="after")
    def _complete(self) -> AuthArgs:
        if (self.auth == "jwt") != (self.jwt is not None):
            raise ValueError("`auth: jwt` and `jwt` (jwks_url, issuer, audience) go together")
        return self


def session_secret(environment: Mapping[str, str], replicas: int) -> bytes:
    """What sessions are signed with: `RAYSIGHT_SESSION_SECRET`, or, for a single replica, random.

    With a random one browsers have to log in again when the replica is replaced.

    Raises:
        EngineError: it is needed and missing, or short.
    """
    given = environment.get(SECRET_VARIABLE, "")
    if given and len(given) < _LEAST_SECRET:
        raise EngineError(f"{SECRET_VARIABLE} has {len(given)} characters: make one with `openssl rand -hex 32`")
    if not given and replicas > 1:
        raise EngineError(
            f"several replicas of the API need one secret for browsers' sessions: set {SECRET_VARIABLE} to what "
            "`openssl rand -hex 32` prints where Ray is started, on all nodes"
        )
    return given.encode() if given else secrets.token_bytes(_LEAST_SECRET)


def close_doors(
    args: AuthArgs, store: Store, replicas: int, together: Callable[[], Together] | None = None
) -> Doors | None:
    """The doors as ``args`` want them; None for open ones. Raises EngineError where they can't be.

    Args:
        together: makes what counts for several replicas.
    """
    if args.auth == "off":
        return None
    doors = Doors(
        keys=Keyring(store, time.monotonic, time.time),
        logouts=Logouts(store, time.monotonic, time.time),
        tokens=None if args.jwt is None else WebTokens(args.jwt, time.monotonic),
        signer=SessionSigner(session_secret(os.environ, replicas)),
        session_s=args.session_hours * 3600,
        together=together() if together is not None and replicas > 1 else None,
    )
    if args.first_key:
        _show_first_key(doors)
    return doors


def _show_first_key(doors: Doors) -> None:
    try:
        made = doors.keys.bootstrap()
    except StoreAway as error:
        logger.warning("whether there is an admin's key is not known: %s", error)
        return
    if made is not None:
        print(f"the first admin key, shown this once: {made.key}", file=sys.stderr, flush=True)
