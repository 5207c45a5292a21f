"""Routes about the whole: capacity, health."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from deployments.names import DEFAULT_MODEL
from deployments.supervisor.demand import Kind
from deployments.supervisor.query import PartQuery
from serve_app.api.capacity import Asking, capacity_of
from serve_app.api.dependencies import ModelInQuery, UsePorts
from serve_app.api.openapi import problems
from serve_app.api.schemas import Capacity, Health

router = APIRouter(tags=["system"])


@router.get("/v1/capacity", summary="Streams that fit", operation_id="capacity", responses=problems(404, 422, 503))
async def capacity(
    ports: UsePorts,
    model: ModelInQuery = DEFAULT_MODEL,
    add: Annotated[int | None, Query(ge=1, le=100_000, description="Would so many more streams fit?")] = None,
    fps: Annotated[float, Query(ge=0.01, le=240, description="Frames a second of each stream.")] = 25,
    hwaccel: Annotated[Literal["none", "cuda"], Query(description="Where each is decoded.")] = "none",
    encode: Annotated[bool, Query(description="Whether each has an output, encoded in software.")] = False,
) -> Capacity:
    """How many streams of a frame rate fit, by node and in all, from what engines and streams were measured to do."""
    asked = Asking(model, fps, Kind("gpu" if hwaccel == "cuda" else "software", "software" if encode else "nothing"))
    return capacity_of(asked, add, await ports.detector.load(model), await ports.streams.survey())


@router.get("/healthz", summary="Alive", operation_id="alive")
async def alive() -> Health:
    """Answers while the process does."""
    return Health(status="ok")


@router.get("/readyz", summary="Ready", operation_id="ready", responses=problems(503))
async def ready(ports: UsePorts) -> Health:
    """Answers 200 once the detector and the supervisor do."""
    await ports.detector.info()
    await ports.detector.models()
    await ports.streams.part(PartQuery(limit=1))
    return Health(status="ready")
