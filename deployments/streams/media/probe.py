"""Child process that opens one source and says what it is: ``python -m deployments.streams.media.probe``.

Reads ``{"source": ..., "policy": ..., "timeout_s": ...}`` on stdin, credentials included, and writes one JSON object
to stdout: ``{"info": SourceInfo}`` or ``{"error": {"kind", "code", "field", "message", "retryable"}}``. A crash or a
leak of a demuxer that foreign data provokes stays in it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from deployments.errors import ForbiddenAddress, InvalidSpec, RaysightError, StreamError, StreamErrorCode
from deployments.streams.media.limits import limit_memory
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec
from deployments.streams.urls import redact


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the source of ``request`` is, or why it can't be opened."""
    timeout_s = float(request["timeout_s"])
    try:
        spec = SourceSpec.model_validate(request["source"])
        policy = UrlPolicy.model_validate(request["policy"])
        with open_source(spec, policy, Timeline(), open_timeout_s=timeout_s, read_timeout_s=timeout_s) as source:
            return {"info": source.info.model_dump()}
    except RaysightError as error:
        return {"error": describe(error)}
    except MemoryError:
        message = "The source needs more memory than it may take: lower its resolution."
        return {"error": describe(StreamError(StreamErrorCode.CODEC_UNSUPPORTED, message))}


def describe(error: RaysightError) -> dict[str, Any]:
    """An error as JSON, from which the parent raises it anew."""
    if isinstance(error, StreamError):
        kind, code, field, message = "stream", error.code.value, None, error.message
    elif isinstance(error, InvalidSpec):
        kind, code, field, message = "spec", "invalid_spec", error.field, error.message
    else:
        kind, code, field, message = "forbidden", StreamErrorCode.FORBIDDEN_ADDRESS.value, None, str(error)
    retryable = isinstance(error, StreamError) and error.retryable
    return {"kind": kind, "code": code, "field": field, "message": redact(message), "retryable": retryable}


def revive(error: dict[str, Any]) -> RaysightError:
    """The error that `describe` described."""
    if error["kind"] == "stream":
        return StreamError(StreamErrorCode(error["code"]), error["message"])
    if error["kind"] == "spec":
        return InvalidSpec(error["field"], error["message"])
    return ForbiddenAddress(error["message"])


def main() -> None:
    """Answer the request on stdin."""
    limit_memory()
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
