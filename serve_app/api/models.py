"""Routes about the models that the detectors run."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from deployments.errors import ModelNotFound
from serve_app.api.body import read_object, validated
from serve_app.api.dependencies import ModelInPath, UsePorts, UsePrincipal
from serve_app.api.openapi import MODEL_EXAMPLE, json_body, problems
from serve_app.api.schemas import Model, ModelList, ModelSwap

router = APIRouter(prefix="/v1/models", tags=["system"])


@router.get("", summary="Loaded models", operation_id="listModels", responses=problems(503))
async def list_models(ports: UsePorts) -> ModelList:
    """What the detectors run."""
    return ModelList(items=tuple(Model.of(state) for state in await ports.detector.models()))


@router.get("/{name}", summary="Show a model", operation_id="getModel", responses=problems(404, 422, 503))
async def get_model(ports: UsePorts, name: ModelInPath) -> Model:
    """What one detector runs."""
    states = await ports.detector.models()
    for state in states:
        if state.name == name:
            return Model.of(state)
    known = ", ".join(state.name for state in states)
    raise ModelNotFound(f"no replica runs a model {name!r}; there are: {known}")


@router.put(
    "/{name}",
    summary="Swap a model's package",
    operation_id="putModel",
    responses=problems(400, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body("ModelSwap", MODEL_EXAMPLE),
)
async def put_model(ports: UsePorts, who: UsePrincipal, request: Request, name: ModelInPath) -> Model:
    """Have a model run another package while its streams go on; answers once all replicas do.

    Each replica loads it beside the old one and tries it; only when all could do they switch. A package that one of
    them can't use changes nothing. Both need room in memory for that while.
    """
    wanted = validated(ModelSwap, await read_object(request))
    swapped = Model.of(await ports.detector.swap(name, wanted.package))
    await ports.audit.add(who, "model.swap", name)
    return swapped
