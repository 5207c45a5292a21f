"""Looking into sources and images that a client names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deployments.streams.media import sandbox
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceInfo, SourceSpec

PROBE_TIMEOUT_S = 10.0
"""Longer than a slow camera takes to send its first key frame."""


class SandboxMedia:
    """`serve_app.api.ports.Media`: foreign bytes are decoded in a child process."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy

    async def probe(self, source: SourceSpec) -> SourceInfo:
        return await sandbox.probe(source, self._policy, PROBE_TIMEOUT_S)

    async def decode_image(self, data: bytes) -> NDArray[np.uint8]:
        return await sandbox.decode_image(data)
