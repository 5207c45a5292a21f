"""What a stream asks of an engine and of its node's CPUs: measured where it ran, else as its like do; pure.

Its like: who decodes and who encodes as it would, on that node, else on any, else as a benchmark stated
(benchmarks/results/pipeline-2-cores.json). Relays of outputs and the engines themselves are in no stream's CPU: on a
node whose CPU also infers, the measured speed of its engine falls as streams take their part. Several engines on one
GPU each count as if the others rested.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, NamedTuple

from deployments.errors import InvalidSpec
from deployments.streams.cpu import CpuUse
from deployments.streams.hardware import Grant
from deployments.streams.media import test_pattern
from deployments.streams.spec import StreamSpec, StreamStatus
from deployments.streams.stats import RATE_SPAN_S

USUAL_FPS = 25.0
"""Of a source that nobody has opened yet."""


class Kind(NamedTuple):
    """What costs CPU: who decodes, and who encodes."""

    decodes: Literal["nothing", "software", "gpu"]
    encodes: Literal["nothing", "software", "gpu"]


_DECODED_S = 6.68e-3
_ENCODED_S = 11.3e-3
_ON_GPU_S = 2.3e-3

STATED_FRAME_S: Mapping[Kind, float] = {
    Kind("nothing", "nothing"): _DECODED_S,
    Kind("nothing", "software"): _DECODED_S + _ENCODED_S,
    Kind("nothing", "gpu"): _DECODED_S + _ENCODED_S,
    Kind("software", "nothing"): _DECODED_S,
    Kind("software", "software"): _DECODED_S + _ENCODED_S,
    Kind("software", "gpu"): _DECODED_S + _ENCODED_S,
    Kind("gpu", "nothing"): _ON_GPU_S,
    Kind("gpu", "software"): _ON_GPU_S + _ENCODED_S,
    Kind("gpu", "gpu"): _ON_GPU_S + _ENCODED_S,
}
"""Seconds of CPU a frame of 1920x1080 before any was measured: benchmarks/results/pipeline-2-cores.json, with and
without an annotated output; on a GPU as in h100-nvdec.json, 1.0 ms, and 1.3 ms to make the model's input. A pattern
that is drawn counts as decoded, and encoding on a GPU as in software, for want of figures."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stream was seen to do, in this life or an earlier one.

    Attributes:
        fps: decoded frames a second, or what its source states; None where it was never online.
        use: its process's CPU, and `kind` what it did with it; None before that was measured.
    """

    fps: float | None = None
    use: CpuUse | None = None
    kind: Kind | None = None

    def then(self, status: StreamStatus, use: CpuUse | None, kind: Kind, now: float) -> Seen:
        """This, and what a running stream tells at Unix time ``now``.

        A source that is away is expected back as it was, and one that only just came has no rate of its own yet.
        """
        stated = status.source.fps if status.source is not None else None
        steady = status.online and now - status.since >= RATE_SPAN_S
        decoded = status.fps.get("decoded") if steady else None
        seen = replace(self, fps=decoded or self.fps or stated)
        return replace(seen, use=use, kind=kind) if use is not None and status.online else seen


UNSEEN = Seen()


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of CPU a frame, the median of what runs.

    Attributes:
        by_node: by node and kind.
        by_kind: over all nodes.
    """

    by_node: Mapping[tuple[str, Kind], float]
    by_kind: Mapping[Kind, float]

    @classmethod
    def of(cls, measured: Iterable[tuple[str, Kind, float]]) -> Costs:
        """From node, kind and cost of each stream that was measured."""
        by_node: defaultdict[tuple[str, Kind], list[float]] = defaultdict(list)
        by_kind: defaultdict[Kind, list[float]] = defaultdict(list)
        for node, kind, frame_s in measured:
            by_node[node, kind].append(frame_s)
            by_kind[kind].append(frame_s)
        return cls(
            {key: median(each) for key, each in by_node.items()}, {key: median(each) for key, each in by_kind.items()}
        )

    def frame_s(self, kind: Kind, node: str | None = None) -> tuple[float, bool]:
        """The cost of a kind, and whether it rests on a measurement: of that node, else of any, else as stated."""
        for found in (self.by_node.get((node, kind)) if node else None, self.by_kind.get(kind)):
            if found is not None:
                return found, True
        return STATED_FRAME_S[kind], False


@dataclass(frozen=True, slots=True)
class Demand:
    """What one stream asks.

    Attributes:
        engine_fps: frames a second of its model's engines.
        cores: seconds of CPU a second on its node.
        measured: ``cores`` rests on a measurement, of it or of its like.
    """

    model: str
    engine_fps: float
    cores: float
    measured: bool


def kind_of(spec: StreamSpec, grant: Grant) -> Kind:
    """What a stream does with the places that it has."""
    decodes: Literal["nothing", "software", "gpu"] = "gpu" if grant.nvdec else "software"
    encodes: Literal["nothing", "software", "gpu"] = "gpu" if grant.nvenc else "software"
    return Kind(decodes if spec.source.decoded else "nothing", encodes if spec.encodes else "nothing")


def demand_of(spec: StreamSpec, kind: Kind, seen: Seen, costs: Costs, node: str | None = None) -> Demand:
    """What a stream of ``spec`` asks, on ``node`` if that is known.

    A paused stream asks for nothing. A file that is read as fast as it can be takes what the others leave, and counts
    as a camera does.
    """
    if spec.paused:
        return Demand(spec.detect.model, 0.0, 0.0, True)
    fps = USUAL_FPS if spec.source.unpaced else _fps(spec, seen)
    engine_fps = min(fps, spec.detect.max_fps or fps)
    if seen.use is not None and seen.kind == kind:
        cores = fps * seen.use.frame_s
        return Demand(spec.detect.model, engine_fps, cores, True)
    frame_s, measured = costs.frame_s(kind, node)
    return Demand(spec.detect.model, engine_fps, fps * frame_s, measured)


def _fps(spec: StreamSpec, seen: Seen) -> float:
    if seen.fps:
        return seen.fps
    if not spec.source.decoded:
        with suppress(InvalidSpec):  # the stream itself will say so
            return float(test_pattern.parse(spec.source.url)[0])
    return USUAL_FPS
