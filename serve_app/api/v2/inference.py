"""`Inference`: what the protocol's calls do, over the API's ports; HTTP and gRPC share one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments.errors import InvalidSpec
from engines.types import Detections, EngineInfo, Thresholds
from serve_app.api.ports import Detector, Media
from serve_app.api.problems import Refused
from serve_app.api.v2 import model
from serve_app.api.v2.requests import MODEL_NOT_FOUND, OVERLOADED, InferAnswer, InferRequest, invalid

HELD_BYTES = 2**30
"""Requests under way in this process, in bytes: more are refused before they are read."""

IMAGES_AT_ONCE = 8
"""Decoded images in memory at once, of all requests: one may have 50 megapixels."""

AS_IT_IS = 64 * 1024
"""Bytes of a request up to which it is read on the event loop: another thread would take longer to start."""


class Inference:
    """The protocol's calls."""

    def __init__(self, detector: Detector, media: Media, version: str, held_bytes: int = HELD_BYTES) -> None:
        self._detector = detector
        self._media = media
        self._version = version
        self._room = held_bytes
        self._images = asyncio.Semaphore(IMAGES_AT_ONCE)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count a request's bytes while it is under way. Raises Refused where there is no room for them."""
        if size > self._room:
            raise Refused(OVERLOADED, "The requests under way fill the memory there is for them: try again shortly.")
        self._room -= size
        try:
            yield
        finally:
            self._room += size

    def server(self) -> dict[str, Any]:
        """The protocol's server metadata."""
        return {"name": "raysight", "version": self._version, "extensions": list(model.EXTENSIONS)}

    async def require_ready(self) -> None:
        """Return where the detector answers. Raises DetectorUnavailable."""
        await self._detector.info()

    async def metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """The protocol's model metadata. Raises Refused where there is no such model, DetectorUnavailable."""
        return model.metadata(await self.model(name, version))

    async def config(self, name: str, version: str = "") -> dict[str, Any]:
        """The model's configuration; raises as `metadata` does."""
        return model.config(await self.model(name, version))

    async def model(self, name: str, version: str = "") -> EngineInfo:
        """The model of that name; raises as `metadata` does. An empty version is any."""
        info = await self._detector.info()
        if name not in (info.name, model.ALIAS):
            raise Refused(MODEL_NOT_FOUND, f"There is no such model; ask for {info.name}, or for {model.ALIAS}.")
        if version not in ("", model.VERSION):
            raise Refused(MODEL_NOT_FOUND, f"{info.name} has no such version; ask for {model.VERSION}, or for none.")
        return info

    async def infer(self, info: EngineInfo, request: InferRequest) -> InferAnswer:
        """Find the objects in the frames or images of a request; they enter the batches of all streams.

        Raises:
            Refused: the request can't be inferred.
            DetectorUnavailable: no answer in time, or too many frames are waiting already.
        """
        work = await aside(model.read_work, request, info, size=_size(request))
        if work.frames is not None:
            found = await self._detector.detect_frames(list(work.frames), work.thresholds)
        else:
            found = await self._in_images(work.images, work.thresholds)
        tensors = model.outputs(found, [output.name for output in request.outputs])
        return InferAnswer(info.name, model.VERSION, request.id, tensors)

    async def _in_images(self, images: tuple[bytes, ...], thresholds: Thresholds | None) -> list[Detections]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._in_image(number, image, thresholds)) for number, image in enumerate(images)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the others were cancelled for it, or failed alike
        return [task.result() for task in tasks]

    async def _in_image(self, number: int, image: bytes, thresholds: Thresholds | None) -> Detections:
        async with self._images:
            try:
                pixels = await self._media.decode_image(image)
            except InvalidSpec as error:
                raise invalid(f"{model.IMAGE} {number}: {error.message}") from None
            return (await self._detector.detect(pixels, thresholds)).detections


async def aside(function: Any, *args: Any, size: int) -> Any:
    """``function(*args)``, on another thread where ``size`` bytes would hold up the event loop."""
    return function(*args) if size <= AS_IT_IS else await asyncio.to_thread(function, *args)


def _size(request: InferRequest) -> int:
    """Of what is read element by element: bytes are taken as they lie."""
    return sum(0 if tensor.raw is not None else AS_IT_IS + 1 for tensor in request.inputs)
