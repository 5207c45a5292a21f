"""How busy a GPU, or the CPU, is while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal, Self

import psutil

SAMPLE_S = 0.1

Device = Literal["gpu", "cpu"]


class Utilisation:
    """Samples in the background for as long as it is entered; `percent` is the mean.

    Of the GPU as NVIDIA's management library sees it, which counts the time in which any kernel runs; of all CPU cores
    where ``gpu`` is None, or that library (nvidia-ml-py) isn't there.
    """

    def __init__(self, gpu: int | None) -> None:
        sample = None if gpu is None else _gpu_sampler(gpu)
        self.of: Device = "cpu" if sample is None else "gpu"
        self._sample = sample or _cpu
        self._samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)

    @property
    def percent(self) -> float:
        """The mean of the samples, 0 to 100."""
        return sum(self._samples) / len(self._samples) if self._samples else 0.0

    def __enter__(self) -> Self:
        self._sample()  # what it returns counts from here on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._samples.append(self._sample())


def _cpu() -> float:
    return psutil.cpu_percent()


def _gpu_sampler(index: int) -> Callable[[], float] | None:
    try:
        import pynvml
    except ImportError:
        return None
    library: Any = pynvml
    try:
        library.nvmlInit()
        handle = library.nvmlDeviceGetHandleByIndex(index)
    except library.NVMLError:
        return None
    return lambda: float(library.nvmlDeviceGetUtilizationRates(handle).gpu)
