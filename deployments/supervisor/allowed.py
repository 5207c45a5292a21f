"""Whether a spec may be at all, wherever it would run."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from deployments.errors import StreamError
from deployments.streams.media import test_pattern
from deployments.streams.policy import UrlPolicy, checks
from deployments.streams.spec import StreamSpec


async def require_allowed(spec: StreamSpec, policy: UrlPolicy) -> None:
    """Refuse what the policy forbids; a name or file that can't be found yet is the stream's own error.

    Raises InvalidSpec, ForbiddenAddress.
    """
    if spec.source.url.startswith("testsrc:"):
        test_pattern.parse(spec.source.url)
    for check, url in checks(policy, spec):
        with suppress(StreamError):
            await asyncio.to_thread(check, url)
