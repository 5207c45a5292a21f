"""What goes wrong around streams, by what the caller has to do.

RaysightError                 message: one line, safe to show (no credentials), says what to do
├── StreamError               a source or output broke; `code` says how, `retryable` whether trying again can help
├── StreamNotFound            no stream of that id
├── StreamExists              an id that is taken
├── SpecConflict              the spec changed meanwhile: read it again
├── InvalidSpec               a spec that can't be used; `field` names the place
├── ForbiddenAddress          the URL policy or a media root forbids it
├── ModelNotFound             no replica runs a model of that name
├── SwapInProgress            a model is being swapped already
├── ForbiddenPackage          a model package outside the models root
├── PackageRefused            a model package that can't be used; all goes on with the old one
├── QuotaExceeded             more than the caller may have; `retry_after_s` says when to try again
├── NoCapacity                no room for another stream, and the configuration refuses such
├── Overloaded                too much of it at once: try again later
├── DetectorUnavailable       no replica answered in time
├── StoreAway                 the store can't be reached or can't write: nothing was changed, running streams go on
└── SupervisorUnavailable     the supervisor is away: running streams go on, changes have to wait
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


def said(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, without its own words for a ValueError."""
    return str(error["msg"]).removeprefix("Value error, ")


class StreamErrorCode(StrEnum):
    """Why a source or an output is down; stable, part of the API."""

    CONNECTION_REFUSED = "connection_refused"
    TIMEOUT = "timeout"
    AUTH_FAILED = "auth_failed"
    NOT_FOUND = "not_found"
    TLS_FAILED = "tls_failed"
    CODEC_UNSUPPORTED = "codec_unsupported"
    INVALID_DATA = "invalid_data"
    STALLED = "stalled"
    ENDED = "ended"
    FORBIDDEN_ADDRESS = "forbidden_address"
    HWACCEL_UNAVAILABLE = "hwaccel_unavailable"
    NO_CAPACITY = "no_capacity"
    """Of a stream that waits for room."""
    NO_LEASE = "no_lease"


RETRYABLE = frozenset(
    {
        StreamErrorCode.CONNECTION_REFUSED,
        StreamErrorCode.TIMEOUT,
        StreamErrorCode.INVALID_DATA,
        StreamErrorCode.STALLED,
        StreamErrorCode.ENDED,
        StreamErrorCode.HWACCEL_UNAVAILABLE,
        StreamErrorCode.NO_LEASE,
        StreamErrorCode.NO_CAPACITY,
    }
)
"""Codes for which another try can help; the others wait for a change of the spec."""


class RaysightError(Exception):
    """Base of everything raised here. The message never holds credentials."""


class StreamError(RaysightError):
    """A source or an output broke."""

    def __init__(self, code: StreamErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    @property
    def retryable(self) -> bool:
        """Whether trying again can help."""
        return self.code in RETRYABLE

    def __str__(self) -> str:
        return self.message


class StreamNotFound(RaysightError):
    """No stream of that id."""


class StreamExists(RaysightError):
    """The id is taken."""


class SpecConflict(RaysightError):
    """The spec changed since it was read."""


class InvalidSpec(RaysightError):
    """A spec that can't be used; ``field`` is a dotted path into it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ForbiddenAddress(RaysightError):
    """The URL policy or a media root forbids the address."""


class ModelNotFound(RaysightError):
    """No replica runs a model of that name."""


class SwapInProgress(RaysightError):
    """A model is being swapped already."""


class ForbiddenPackage(RaysightError):
    """A model package outside the models root."""


class PackageRefused(RaysightError):
    """A model package that can't be used; all goes on with the old one."""


class QuotaExceeded(RaysightError):
    """More than the caller may have; ``retry_after_s`` is when it may be tried again, in whole seconds from 1."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class NoCapacity(RaysightError):
    """No room for another stream, where the configuration refuses such instead of letting them wait."""


class Overloaded(RaysightError):
    """More of it is asked for at once than this process does."""


class TooManyViewers(RaysightError):
    """A stream has as many viewers as it takes."""


class PlaybackMissing(RaysightError):
    """What plays WebRTC is not installed where the stream runs."""


class DetectorUnavailable(RaysightError):
    """No Detector replica answered in time."""


class StoreAway(RaysightError):
    """The store can't be reached or can't write: the change was not accepted, running streams go on."""


class StoreDown(StoreAway):
    """The store's host answers, and no store runs there or it does not serve yet: nobody can write to it."""


class SupervisorUnavailable(RaysightError):
    """The supervisor is away: running streams go on, changes have to wait."""
