"""All streams at once: to be kept elsewhere, and to be stopped without being forgotten."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from deployments.streams.spec import StreamSpec
from serve_app.api.dependencies import UsePorts
from serve_app.api.openapi import problems
from serve_app.api.schemas import Fleet

router = APIRouter(tags=["streams"])


@router.get("/v1/export", summary="All specs", operation_id="exportStreams", responses=problems(503))
async def export(ports: UsePorts) -> Fleet:
    """What users want of all streams, by id, without what is as by default.

    Credentials are references, `{"ref": name}`: `raysight streams apply` fills them in.
    """
    views = sorted(await ports.streams.list(), key=lambda view: view.spec.id)
    return Fleet(streams={view.spec.id: exported(view.spec) for view in views})


@router.post("/v1/drain", status_code=204, summary="Stop all streams", operation_id="drain", responses=problems(503))
async def drain(ports: UsePorts) -> None:
    """End all streams in good order and start none any more, before the whole system is stopped.

    Nothing is forgotten: when the system is started again, they all come back. Answers once they have ended.
    """
    await ports.streams.drain()


def exported(spec: StreamSpec) -> dict[str, Any]:
    """A spec as it is kept in a file: without its id and its defaults, its credentials as references."""
    shown: dict[str, Any] = spec.model_dump(mode="json", exclude={"id"}, exclude_defaults=True)
    if spec.source.credentials is not None:
        shown["source"]["credentials"] = {"ref": f"{spec.id}-source"}
    for name, parts in (("output", spec.outputs), ("sink", spec.sinks)):
        for number, part in enumerate(parts):
            if part.credentials is not None:
                shown[f"{name}s"][number]["credentials"] = {"ref": f"{spec.id}-{name}-{number}"}
    return shown
