"""CUDA graphs through cuda.bindings, on pycuda's streams: pycuda has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from engines.accelerator import Accelerator, Stream
from engines.errors import EngineDead, EngineError, InferenceFailed

WARM_RUNS = 3
"""Before work is captured, which forbids to allocate: TensorRT allocates on the first run of a context, ONNX Runtime on
the first two of a session, and the third shows that no more is needed."""

logger = logging.getLogger(__name__)


class NotCaptured(EngineError):
    """What was to become a graph can't be; its stream is as it was."""


class Graph:
    """Work that is put into a stream in one call, in a hundredth of the time that it took one by one.

    Args:
        enqueue: puts the work into ``stream``. It must have run once before: libraries allocate on their first run,
            which capture forbids.

    Raises:
        NotCaptured: cuda.bindings is missing, or the work can't be captured; enqueue it plainly instead.
    """

    def __init__(self, stream: Stream, enqueue: Callable[[], None]) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise NotCaptured(f"cuda.bindings can't be imported ({error}); pip install cuda-bindings") from error
        self._driver: Any = driver
        self._stream = driver.CUstream(stream.handle)
        # Other threads, such as those of a decoder, may allocate meanwhile: only this thread's calls are restricted.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        try:
            begun = driver.cuStreamBeginCapture(self._stream, mode)
        except Exception as error:  # what it raises without the driver's library shares no other base
            raise NotCaptured(f"cuda.bindings can't be used ({error})") from error
        self._check(NotCaptured, begun)
        try:
            enqueue()
        except Exception as error:  # whatever it is, the capture must end before anything else may be done
            driver.cuStreamEndCapture(self._stream)
            raise NotCaptured(f"it failed while it was captured: {error}") from error
        ended = driver.cuStreamEndCapture(self._stream)
        graph = self._check(NotCaptured, ended)
        try:
            self._run = self._check(NotCaptured, driver.cuGraphInstantiate(graph, 0))
        finally:
            driver.cuGraphDestroy(graph)  # what was instantiated needs it no more
        self._check(EngineDead, driver.cuGraphUpload(self._run, self._stream))

    def launch(self) -> None:
        """Put the work into the stream. EngineDead: the driver refuses."""
        self._check(EngineDead, self._driver.cuGraphLaunch(self._run, self._stream))

    def free(self) -> None:
        """Give it back; it isn't running."""
        self._check(EngineDead, self._driver.cuGraphExecDestroy(self._run))

    def _check(self, kind: type[EngineError], returned: tuple[Any, ...]) -> Any:
        """The value that a call of the driver returned beside its status."""
        status, *values = returned
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise kind(f"CUDA failed on a graph: {status.name}")
        return values[0] if values else None


class GraphRunner:
    """A `Runner` of one batch size on fixed memory: a graph where it can be captured, plain calls otherwise.

    Args:
        enqueue: puts one run into ``stream``; any error of its own passes.
        what: what runs, for messages.
    """

    def __init__(self, stream: Stream, accelerator: Accelerator, enqueue: Callable[[], None], what: str) -> None:
        self._enqueue: Callable[[], None] | None = enqueue
        self._graph: Graph | None = None
        for _ in range(WARM_RUNS):
            enqueue()
        accelerator.synchronise()
        try:
            self._graph = Graph(stream, enqueue)
        except NotCaptured as error:
            logger.warning("%s runs without a CUDA graph: %s", what, error)
            with suppress(InferenceFailed):
                enqueue()  # CUDA tells of the failed capture once more, to whoever calls next

    def enqueue(self) -> None:
        """See `Runner.enqueue`."""
        if self._graph is not None:
            self._graph.launch()
        elif self._enqueue is not None:
            self._enqueue()

    def free(self) -> None:
        """See `Runner.free`."""
        if self._graph is not None:
            self._graph.free()
        self._graph = self._enqueue = None
