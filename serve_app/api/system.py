"""Routes about the whole: capacity, health."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query

from deployments.names import DEFAULT_MODEL
from serve_app.api.dependencies import ModelInQuery, UsePorts
from serve_app.api.openapi import problems
from serve_app.api.ports import NodeLoad
from serve_app.api.schemas import Capacity, Health, NodeCapacity

Number = TypeVar("Number", int, float)

router = APIRouter(tags=["system"])


@router.get("/v1/capacity", summary="Streams that fit", operation_id="capacity", responses=problems(404, 422, 503))
async def capacity(
    ports: UsePorts,
    model: ModelInQuery = DEFAULT_MODEL,
    add: Annotated[int | None, Query(ge=1, le=100_000, description="Would so many more streams fit?")] = None,
    fps: Annotated[float, Query(ge=0.01, le=240, description="Frames a second of each stream.")] = 25,
) -> Capacity:
    """How many streams of a frame rate fit, by node and in all, from the measured speed of a model's engines."""
    nodes = tuple(_node(load, fps) for load in await ports.detector.load(model))
    free = _total(node.free for node in nodes)
    return Capacity(
        model=model,
        fps=fps,
        nodes=nodes,
        engine_fps=_total(node.engine_fps for node in nodes),
        used_fps=sum(node.used_fps for node in nodes),
        streams=sum(node.streams for node in nodes),
        fits=_total(node.fits for node in nodes),
        free=free,
        add=add,
        add_fits=None if add is None or free is None else add <= free,
    )


@router.get("/healthz", summary="Alive", operation_id="alive")
async def alive() -> Health:
    """Answers while the process does."""
    return Health(status="ok")


@router.get("/readyz", summary="Ready", operation_id="ready", responses=problems(503))
async def ready(ports: UsePorts) -> Health:
    """Answers 200 once the detector and the supervisor do."""
    await ports.detector.info()
    await ports.detector.models()
    await ports.streams.list()
    return Health(status="ready")


def _node(load: NodeLoad, fps: float) -> NodeCapacity:
    measured = load.engine_fps
    return NodeCapacity(
        node=load.node,
        engine_fps=measured,
        used_fps=load.used_fps,
        streams=load.streams,
        fits=None if measured is None else int(measured // fps),
        free=None if measured is None else max(0, int((measured - load.used_fps) // fps)),
    )


def _total(values: Iterable[Number | None]) -> Number | None:
    """The sum, None where one is unknown."""
    known: list[Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known, start=type(known[0])(0)) if known else None
