"""What a stream's actor tells, as an online stream with an idle source does."""

from __future__ import annotations

import time

from deployments.code import CODE_VERSION
from deployments.streams.actor import Report
from deployments.streams.cpu import CpuUse
from deployments.streams.hardware import NOTHING
from deployments.streams.spec import (
    DropCounts,
    FrameCounts,
    Percentiles,
    SourceInfo,
    StreamSpec,
    StreamState,
    StreamStatus,
)

FPS = 1.0
"""Of an idle source."""

STAGES = ("decode", "prepare", "wait", "infer", "return", "whole")


def report_of(spec: StreamSpec, generation: int, epoch: int, node: str, age_s: float) -> Report:
    """What an online stream of one frame a second tells after ``age_s``."""
    frames = round(age_s * FPS)
    status = StreamStatus(
        state=StreamState.ONLINE,
        online=True,
        generation=generation,
        observed_generation=generation,
        since=time.time() - age_s,
        node=node,
        source=SourceInfo(codec="h264", width=1920, height=1080, fps=FPS, decoder="h264"),
        epoch=epoch,
        frames=FrameCounts(decoded=frames, inferred=frames, dropped=DropCounts(), published=frames),
        detections=5 * frames,
        fps={"decoded": FPS, "inferred": FPS, "published": FPS},
        latency_ms={stage: Percentiles(p50=4.2, p95=8.1, p99=12.6) for stage in STAGES},
    )
    stamp = time.monotonic()
    return Report(spec, status, frames, NOTHING, CODE_VERSION, 0, (), stamp, False, CpuUse(0.007, 0.007))
