"""A load test from its plan to its levels."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import psutil

from engines.utilisation import Utilisation
from serve_app.load_test.closed_loop import Failed, Measured, closed_loop
from serve_app.load_test.levels import Level, LoadTestError, percentile
from serve_app.load_test.targets import Target, Tensor, frame_tensor


async def load_test(
    target: Target, tensor: Tensor | None, concurrencies: Sequence[int], seconds: float, busy: Utilisation
) -> AsyncIterator[Level]:
    """Measure one level after the other; ends with the first of which nothing was answered.

    ``tensor`` None sends a frame of the model's own size.

    Raises:
        ServerAway: nobody answers over HTTP.
        LoadTestError: the server is not there over gRPC, not ready, or refuses the very first request.
    """
    target.prepare(tensor or frame_tensor(await target.facts()))
    try:
        await target.send()
    except Failed as failure:
        why = failure.said or "look at the server's log"
        raise LoadTestError(f"the first request over {target.over} failed ({failure.kind}): {why}") from None
    process = psutil.Process()
    for concurrency in concurrencies:
        started, cpu = time.monotonic(), _cpu_s(process)
        measured = await closed_loop(target.send, concurrency, seconds)
        client_cpu = (_cpu_s(process) - cpu) / (time.monotonic() - started)
        percent = busy.mean(measured.since, measured.until)
        used = None if percent is None else percent / 100
        yield _level(target.over, concurrency, measured, used, client_cpu)
        if not measured.latencies_s:
            return


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _level(over: str, concurrency: int, measured: Measured, utilisation: float | None, client_cpu: float) -> Level:
    latencies_ms = [1e3 * latency for latency in measured.latencies_s]
    return Level(
        over,
        concurrency,
        fps=measured.completed / (measured.until - measured.since),
        answered=len(latencies_ms),
        p50_ms=percentile(latencies_ms, 0.5),
        p95_ms=percentile(latencies_ms, 0.95),
        p99_ms=percentile(latencies_ms, 0.99),
        failed=measured.failed,
        utilisation=utilisation,
        client_cpu=client_cpu,
    )
