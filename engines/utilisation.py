"""How busy GPUs, or the CPU, are while something runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Self

import psutil

SAMPLE_S = 0.1

Device = Literal["gpu", "cpu"]


class Utilisation:
    """Samples in the background for as long as it is entered.

    Of the busiest GPU, as NVIDIA's management library sees it, which counts the time in which any kernel runs; of all
    CPU cores where there is none to look at, or that library (nvidia-ml-py) isn't there.

    Attributes:
        of: what is looked at.
    """

    def __init__(self, gpus: Sequence[int] | None) -> None:
        """``gpus``: the numbers of those to look at; None for all there are."""
        devices = _devices(gpus)
        self.of: Device = "gpu" if devices else "cpu"
        self._sample: Callable[[], float] = (lambda: _busiest(devices)) if devices else psutil.cpu_percent
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)

    @property
    def percent(self) -> float:
        """The mean of all samples, 0 to 100."""
        return self.mean(0.0, time.monotonic()) or 0.0

    def mean(self, since: float, until: float) -> float | None:
        """The mean, 0 to 100, of that time of the monotonic clock; None where nothing was seen."""
        seen = [value for at, value in list(self._samples) if since <= at <= until]
        return sum(seen) / len(seen) if seen else None

    def __enter__(self) -> Self:
        with suppress(Exception):
            self._sample()  # what it returns counts from here on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            with suppress(Exception):  # a GPU that does not answer now may later
                self._samples.append((time.monotonic(), self._sample()))


def gpu_names() -> list[str]:
    """The GPUs of this machine; none where they can't be asked."""
    devices = _devices(None)
    if not devices:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(device)) for device in devices]


def _busiest(devices: Sequence[Any]) -> float:
    import pynvml

    return float(max(pynvml.nvmlDeviceGetUtilizationRates(device).gpu for device in devices))


def _devices(numbers: Sequence[int] | None) -> list[Any]:
    if numbers is not None and not numbers:
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        wanted = range(pynvml.nvmlDeviceGetCount()) if numbers is None else numbers
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in wanted]
    except Exception:  # noqa: BLE001 (no package, no driver, no device, no right to ask: all mean the same here)
        return []
