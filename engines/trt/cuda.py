"""An NVIDIA GPU through pycuda: the `Accelerator` of TensorRT and of ONNX Runtime's CUDA provider.

The device's primary context is retained rather than a new one made: it is the one that TensorRT, ONNX Runtime and the
decoders use, whose memory could not be shared otherwise. It stays pushed on the thread that made the `Gpu`, which does
everything. pycuda frees streams and events with their last reference, which therefore never leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.accelerator import Event, Memory, Stream
from engines.errors import EngineDead, EngineError, one_line

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: not ordered with the legacy default stream, which other libraries use."""

SYNC_WITHOUT_TIMING = 3
"""CU_EVENT_BLOCKING_SYNC, waiting threads sleep, and CU_EVENT_DISABLE_TIMING, which makes events cheaper."""

INSTALL = "pip install 'raysight[tensorrt]'"


def load_driver() -> Any:
    """pycuda's driver module, initialised. Raises EngineError with what is missing."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        missing = "NVIDIA's driver (libcuda.so.1)" if "libcuda" in str(error) else f"pycuda; {INSTALL}"
        raise EngineError(f"the GPU can't be used ({error}): install {missing}, or use device cpu") from error
    try:
        driver.init()
    except driver.Error as error:
        raise EngineError(f"no GPU can be used: CUDA says {error}; check that nvidia-smi sees one") from error
    return driver


class Gpu:
    """`Accelerator` number ``index``. Raises EngineError where it can't be used."""

    def __init__(self, index: int = 0) -> None:
        self._driver = load_driver()
        self._streams: list[_Stream] = []
        count = self._driver.Device.count()
        if index >= count:
            raise EngineError(f"there is no GPU {index}, CUDA sees {count}; check nvidia-smi and CUDA_VISIBLE_DEVICES")
        self.index = index
        with self._calls(f"GPU {index} can't be used"):
            device = self._driver.Device(index)
            self._name = f"cuda:{index} {device.name()}"
            self._context = device.retain_primary_context()
            self._context.push()

    @property
    def name(self) -> str:
        """Such as ``cuda:0 NVIDIA H100``."""
        return self._name

    def stream(self) -> _Stream:
        """See `Accelerator.stream`."""
        with self._calls("no stream could be made"):
            stream = _Stream(self, self._driver.Stream(flags=NON_BLOCKING))
        self._streams.append(stream)
        return stream

    def event(self) -> _Event:
        """See `Accelerator.event`."""
        with self._calls("no event could be made"):
            return _Event(self, self._driver.Event(SYNC_WITHOUT_TIMING))

    def memory(self, size: int) -> _Memory:
        """See `Accelerator.memory`."""
        with self._calls(f"{size / 2**20:.0f} MiB of GPU memory could not be had"):
            return _Memory(self, self._driver.mem_alloc(max(size, 1)))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> _Pinned:
        """See `Accelerator.pinned`."""
        with self._calls("no pinned memory could be had"):
            return _Pinned(self, self._driver.pagelocked_zeros(shape, dtype))

    def upload(self, target: Memory, source: NDArray[Any], stream: Stream) -> None:
        """See `Accelerator.upload`."""
        with self.calls():
            self._driver.memcpy_htod_async(target.address, source, _raw(stream))

    def download(self, target: NDArray[Any], source: Memory, stream: Stream) -> None:
        """See `Accelerator.download`."""
        with self.calls():
            self._driver.memcpy_dtoh_async(target, source.address, _raw(stream))

    def synchronise(self) -> None:
        """See `Accelerator.synchronise`."""
        with self.calls():
            self._driver.Context.synchronize()

    def free_bytes(self) -> int:
        """See `Accelerator.free_bytes`."""
        with self.calls():
            free, _ = self._driver.mem_get_info()
        return int(free)

    def close(self) -> None:
        """Free the streams, pop the primary context and release it: the process may go on using the GPU otherwise."""
        for stream in self._streams:
            stream.raw = None
        self._streams.clear()
        with self.calls():
            self._context.pop()
            self._context.detach()

    @contextmanager
    def calls(self) -> Iterator[None]:
        """Any error of CUDA's here is EngineDead: most are sticky, and the others tell of a wrong program."""
        with self._calls(f"{self._name} failed"):
            yield

    @contextmanager
    def _calls(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._driver.MemoryError as error:
            raise EngineDead(
                f"{what}: {one_line(error)}; end what else uses the GPU, or take a smaller batch or model"
            ) from error
        except self._driver.Error as error:
            raise EngineDead(f"{what}: {one_line(error)}; this process can't use the GPU any more") from error


class _Stream:
    def __init__(self, gpu: Gpu, raw: Any) -> None:
        self._gpu, self.raw = gpu, raw

    @property
    def handle(self) -> int:
        return int(self.raw.handle)

    def wait_for(self, event: Event) -> None:
        with self._gpu.calls():
            self.raw.wait_for_event(_raw(event))


class _Event:
    def __init__(self, gpu: Gpu, raw: Any) -> None:
        self._gpu, self.raw = gpu, raw

    def record(self, stream: Stream) -> None:
        with self._gpu.calls():
            self.raw.record(_raw(stream))

    def happened(self) -> bool:
        with self._gpu.calls():
            return bool(self.raw.query())

    def wait(self) -> None:
        with self._gpu.calls():
            self.raw.synchronize()

    def free(self) -> None:
        self.raw = None


class _Memory:
    def __init__(self, gpu: Gpu, raw: Any) -> None:
        self._gpu, self._raw = gpu, raw
        self.address = int(raw)

    def free(self) -> None:
        with self._gpu.calls():
            self._raw.free()


class _Pinned:
    def __init__(self, gpu: Gpu, array: NDArray[Any]) -> None:
        self._gpu = gpu
        self.array = array

    def free(self) -> None:
        # The allocation is what the array was made over. An empty array stays, in ordinary memory.
        allocation: Any = self.array.base
        self.array = np.empty(0, self.array.dtype)
        with self._gpu.calls():
            allocation.free()


def _raw(wrapped: Any) -> Any:
    """pycuda's own object: this module made it."""
    assert isinstance(wrapped, _Stream | _Event)
    return wrapped.raw
