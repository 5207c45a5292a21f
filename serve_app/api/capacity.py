"""How many more streams fit: the engines' measured speed and what nodes hold, put into an answer; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from deployments.streams.hardware import NVDEC, NVENC
from deployments.supervisor.admission import Fit, Limit, how_many
from deployments.supervisor.demand import Demand, Kind
from deployments.supervisor.entrance import Survey
from deployments.supervisor.placement import NodeRoom
from serve_app.api.ports import NodeLoad
from serve_app.api.schemas import Capacity, NodeCapacity

Number = TypeVar("Number", int, float)

NO_ENGINE_FPS = 0.0
"""Of a node without a replica: streams there use the engines of others."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Streams of which somebody asks how many fit."""

    model: str
    fps: float
    kind: Kind


def capacity_of(asked: Asking, add: int | None, loads: Iterable[NodeLoad], survey: Survey) -> Capacity:
    """The answer for nodes with engines (``loads``) and those that are known to run streams (``survey``)."""
    frame_s, measured = survey.costs.frame_s(asked.kind)
    demand = Demand(asked.model, asked.fps, asked.fps * frame_s, measured)
    places = {NVDEC: 1.0} if asked.kind.decodes == "gpu" else {}
    fit = how_many(demand, {**survey.need, **places}, survey.room)
    rooms = {room.node: room for room in survey.room.nodes}
    known = {load.node: load for load in loads}
    known |= {node: NodeLoad(node, NO_ENGINE_FPS, 0.0, 0) for node in rooms if node not in known}
    nodes = tuple(_node(known[name], asked.fps, rooms.get(name), fit) for name in sorted(known))
    by_engines = _total(node.free for node in nodes)
    free, limit = _tighter(by_engines, fit)
    return Capacity(
        model=asked.model,
        fps=asked.fps,
        nodes=nodes,
        engine_fps=_total(node.engine_fps for node in nodes),
        used_fps=sum(node.used_fps for node in nodes),
        streams=sum(node.streams for node in nodes),
        fits=_total(node.fits for node in nodes),
        free=free,
        limit=limit,
        cpu_ms_per_frame=round(frame_s * 1e3, 2),
        cpu_measured=measured,
        waiting=survey.waiting,
        admission=survey.admission,
        add=add,
        add_fits=None if add is None or free is None else add <= free,
    )


def _tighter(by_engines: int | None, fit: Fit) -> tuple[int | None, Limit | None]:
    """What is left by all limits. Null while an engine is unmeasured, unless something else is full already."""
    if by_engines is None:
        return (0, fit.limit) if fit.total == 0 else (None, None)
    if fit.total is None or by_engines <= fit.total:
        return by_engines, Limit.ENGINE
    return fit.total, fit.limit


def _node(load: NodeLoad, fps: float, room: NodeRoom | None, fit: Fit) -> NodeCapacity:
    measured = load.engine_fps
    places = {} if room is None else {name: int(room.free[name]) for name in (NVDEC, NVENC) if name in room.free}
    return NodeCapacity(
        node=load.node,
        engine_fps=measured,
        used_fps=load.used_fps,
        streams=load.streams,
        fits=None if measured is None else int(measured // fps),
        free=None if measured is None else max(0, int((measured - load.used_fps) // fps)),
        cpus=None if room is None else room.cores,
        cpus_used=None if room is None else round(room.used, 3),
        holds=fit.by_node.get(load.node, 0) if room is not None else None,
        places=places,
        draining=room is not None and room.draining,
    )


def _total(values: Iterable[Number | None]) -> Number | None:
    """The sum, None where one is unknown."""
    known: list[Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known, start=type(known[0])(0)) if known else None
