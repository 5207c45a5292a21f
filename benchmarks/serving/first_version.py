"""Path (a): frames as Serve requests and a fixed wait of `@serve.batch`, the way a first version is written.

No postponed annotations here: Serve reads the builder's to validate ``args``.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from deployments.detector.config import DetectorConfig
from deployments.detector.service import load_engine
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array

APPLICATION = "first-version"
DEPLOYMENT = "FirstVersion"

WAIT_S = 0.003
"""How long a batch waits for its second frame."""


class FirstVersion:
    """An engine behind `@serve.batch`, called with each frame as an argument."""

    def __init__(self, config: DetectorConfig) -> None:
        import numpy as np

        self._engine = load_engine(config)
        self._engine.warmup()
        info = self._engine.info
        self._staging = np.empty((info.max_batch_size, info.height, info.width, 3), np.uint8)
        self._executor = ThreadPoolExecutor(1)
        batch: Any = self._batch
        batch.set_max_batch_size(info.max_batch_size)

    async def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    async def detect(self, image: UInt8Array) -> tuple[Detections, int]:
        """What was found, and the size of the batch it was in."""
        found: tuple[Detections, int] = await self._batch(image)
        return found

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=WAIT_S, max_concurrent_batches=2)
    async def _batch(self, images: list[UInt8Array]) -> list[tuple[Detections, int]]:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._infer, images)

    def _infer(self, images: list[UInt8Array]) -> list[tuple[Detections, int]]:
        for row, image in zip(self._staging, images, strict=False):
            row[:] = image
        found = self._engine.infer(list(self._staging[: len(images)]), [Thresholds()] * len(images))
        return [(detections, len(images)) for detections in found]


def build_first_version(config: DetectorConfig) -> serve.Application:
    """Its application, without a route."""
    deployment = serve.deployment(
        name=DEPLOYMENT, max_ongoing_requests=512, ray_actor_options={"num_cpus": config.num_cpus}
    )(FirstVersion)
    application: serve.Application = deployment.bind(config)
    return application
