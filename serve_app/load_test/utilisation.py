"""How busy this machine's GPU is during a measurement, or its CPU where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psutil

EVERY_S = 0.2
"""Between two looks; NVML itself averages over a sixth of a second and more."""


class Sampler:
    """Looks on a thread of its own, from enter to exit.

    Attributes:
        device: what is looked at, for people: ``GPU`` or ``CPU``; of the GPUs the busiest one.
    """

    def __init__(self) -> None:
        gpu = _gpu()
        self.device = "CPU" if gpu is None else "GPU"
        self._look = gpu or _cpu()
        self._seen: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def mean(self, since: float, until: float) -> float | None:
        """The mean, 0 to 1, of what was seen in that time of the monotonic clock; None where nothing was."""
        seen = [value for at, value in list(self._seen) if since <= at <= until]
        return sum(seen) / len(seen) if seen else None

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            with suppress(Exception):  # a GPU that does not answer now may later
                self._seen.append((time.monotonic(), self._look()))


def _cpu() -> Callable[[], float]:
    psutil.cpu_percent()  # from now on
    return lambda: psutil.cpu_percent() / 100


def _gpu() -> Callable[[], float] | None:
    devices = _devices()
    if not devices:
        return None

    def busiest() -> float:
        import pynvml

        return float(max(pynvml.nvmlDeviceGetUtilizationRates(device).gpu for device in devices)) / 100

    return busiest


def gpu_names() -> list[str]:
    """The GPUs of this machine; none where NVML can't be asked."""
    devices = _devices()
    if not devices:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(device)) for device in devices]


def _devices() -> list[Any]:
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 (no package, no driver, no device, no right to ask: all mean the same here)
        return []
