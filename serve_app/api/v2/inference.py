"""`Inference`: what the protocol's calls do, over the API's ports; HTTP and gRPC share one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from deployments.errors import DetectorUnavailable, InvalidSpec, ModelNotFound, RaysightError, SupervisorUnavailable
from deployments.models.versions import ModelState
from deployments.names import DEFAULT_MODEL
from engines.types import Detections, EngineInfo, Thresholds
from serve_app.api.ports import Detector, Media
from serve_app.api.problems import Refused
from serve_app.api.v2 import model
from serve_app.api.v2.requests import MODEL_NOT_FOUND, OVERLOADED, InferAnswer, InferRequest, invalid

HELD_BYTES = 2**30
"""Requests under way in this process, in bytes: more are refused before they are read."""

IMAGES_AT_ONCE = 8
"""Decoded images in memory at once, of all requests: one may have 50 megapixels."""

IMAGE_WAIT_S = 10.0
"""Longest wait of an image for its turn, as long as a frame may wait for the detector."""

AS_IT_IS = 64 * 1024
"""Bytes of a request up to which it is read on the event loop: another thread would take longer to start."""


class Served(NamedTuple):
    """A model that a client named, and what it runs: what a request of it is read by, and answered with."""

    model: str
    info: EngineInfo


class Inference:
    """The protocol's calls."""

    def __init__(
        self,
        detector: Detector,
        media: Media,
        version: str,
        held_bytes: int = HELD_BYTES,
        image_wait_s: float = IMAGE_WAIT_S,
    ) -> None:
        self._detector = detector
        self._media = media
        self._version = version
        self._room = held_bytes
        self._image_wait_s = image_wait_s
        self._images = asyncio.Semaphore(IMAGES_AT_ONCE)
        self._found: dict[str, str] = {}  # names that were asked for, and the models that they were

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
        return model.metadata((await self.model(name, version)).info)

    async def config(self, name: str, version: str = "") -> dict[str, Any]:
        """The model's configuration; raises as `metadata` does."""
        return model.config((await self.model(name, version)).info)

    async def model(self, name: str, version: str = "") -> Served:
        """The model of that name, or that runs a package of that name; raises as `metadata` does.

        An empty version is any.
        """
        try:
            served = await self._served(name)
        except ModelNotFound as error:
            raise Refused(MODEL_NOT_FOUND, str(error)) from None
        if version not in ("", model.VERSION):
            raise Refused(MODEL_NOT_FOUND, f"{name} has no such version; ask for {model.VERSION}, or for none.")
        return served

    async def _served(self, name: str) -> Served:
        """A model's own name goes before that of a package, and of two packages the default model's."""
        known = DEFAULT_MODEL if name == DEFAULT_MODEL else self._found.get(name)
        if known is not None:
            info = await self._detector.info(known)
            if name in (known, info.name):
                return Served(known, info)
        states, away = await self._states()
        packages = {state.info.name: state.name for state in reversed(states)}
        found = name if any(state.name == name for state in states) else packages.get(name, DEFAULT_MODEL)
        info = await self._detector.info(found)
        if name not in (found, info.name):
            names = ", ".join(sorted({DEFAULT_MODEL, info.name, *packages, *(state.name for state in states)}))
            raise away or ModelNotFound(f"There is no such model; ask for one of: {names}.")
        self._found[name] = found
        return Served(found, info)

    async def _states(self) -> tuple[list[ModelState], RaysightError | None]:
        """The default model first, or none and why; that one answers for itself, also where nobody has told of it."""
        try:
            states = await self._detector.models()
        except (DetectorUnavailable, SupervisorUnavailable) as error:
            return [], error
        return sorted(states, key=lambda state: state.name != DEFAULT_MODEL), None

    async def infer(self, served: Served, request: InferRequest) -> InferAnswer:
        """Find the objects in the frames or images of a request; they enter the batches of all streams.

        Raises:
            Refused: the request can't be inferred.
            DetectorUnavailable: no answer in time, or too many frames are waiting already.
        """
        work = await aside(model.read_work, request, served.info, size=_size(request))
        if work.frames is not None:
            found = await self._detector.detect_frames(list(work.frames), work.thresholds, served.info, served.model)
        else:
            found = await self._in_images(served.model, work.images, work.thresholds)
        tensors = model.outputs(found, [output.name for output in request.outputs])
        return InferAnswer(served.info.name, model.VERSION, request.id, tensors)

    async def _in_images(self, name: str, images: tuple[bytes, ...], thresholds: Thresholds | None) -> list[Detections]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._in_image(name, number, image, thresholds))
                    for number, image in enumerate(images)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the others were cancelled for it, or failed alike
        return [task.result() for task in tasks]

    async def _in_image(self, name: str, number: int, image: bytes, thresholds: Thresholds | None) -> Detections:
        try:
            async with asyncio.timeout(self._image_wait_s):
                await self._images.acquire()
        except TimeoutError:
            raise Refused(
                OVERLOADED, "Too many images are waiting: send fewer at once, or try again shortly."
            ) from None
        try:
            pixels = await self._media.decode_image(image)
            return (await self._detector.detect(pixels, thresholds, name)).detections
        except InvalidSpec as error:
            raise invalid(f"{model.IMAGE} {number}: {error.message}") from None
        finally:
            self._images.release()


async def aside(function: Any, *args: Any, size: int) -> Any:
    """``function(*args)``, on another thread where ``size`` bytes would hold up the event loop."""
    return function(*args) if size <= AS_IT_IS else await asyncio.to_thread(function, *args)


def _size(request: InferRequest) -> int:
    """Of what is read element by element: bytes are taken as they lie."""
    return sum(0 if tensor.raw is not None else AS_IT_IS + 1 for tensor in request.inputs)
