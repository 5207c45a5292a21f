"""Routes of the Open Inference Protocol, version 2: what clients of inference servers such as Triton speak."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api.body import read_body
from serve_app.api.dependencies import UsePorts
from serve_app.api.openapi import inference_body, inference_errors
from serve_app.api.v2.inference import aside
from serve_app.api.v2.payload import HEADER_LENGTH, json_length, pack, read_request, unpack, write_answer
from serve_app.api.v2.requests import MESSAGE_LIMIT

router = APIRouter(prefix="/v2", tags=["inference protocol"])

_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"


@router.get("", summary="Server metadata", operation_id="inferenceServer")
async def server(ports: UsePorts) -> dict[str, Any]:
    """Name, version and the extensions of the protocol that there are."""
    return ports.inference.server()


@router.get("/health/live", response_class=Response, summary="Server is alive", operation_id="inferenceLive")
async def live() -> Response:
    """Answers while the process does."""
    return Response()


@router.get(
    "/health/ready",
    response_class=Response,
    summary="Server is ready",
    operation_id="inferenceReady",
    responses=inference_errors(503),
)
async def ready(ports: UsePorts) -> Response:
    """Answers 200 once the detector does."""
    await ports.inference.require_ready()
    return Response()


@router.get(_MODEL, summary="Model metadata", operation_id="inferenceModel", responses=inference_errors(404, 503))
async def metadata(ports: UsePorts, name: str) -> dict[str, Any]:
    """Inputs and outputs of the model, by a name of `GET /v1/models` or by that of its package."""
    return await ports.inference.metadata(name)


@router.get(
    _VERSION,
    summary="Metadata of a model's version",
    operation_id="inferenceModelVersion",
    responses=inference_errors(404, 503),
)
async def version_metadata(ports: UsePorts, name: str, version: str) -> dict[str, Any]:
    """As without a version; there is one, `1`."""
    return await ports.inference.metadata(name, version)


@router.get(
    _MODEL + "/ready",
    response_class=Response,
    summary="Model is ready",
    operation_id="inferenceModelReady",
    responses=inference_errors(404, 503),
)
async def model_ready(ports: UsePorts, name: str) -> Response:
    """Answers 200 where requests of the model will be served."""
    await ports.inference.model(name)
    return Response()


@router.get(
    _VERSION + "/ready",
    response_class=Response,
    summary="A model's version is ready",
    operation_id="inferenceModelVersionReady",
    responses=inference_errors(404, 503),
)
async def version_ready(ports: UsePorts, name: str, version: str) -> Response:
    """As without a version."""
    await ports.inference.model(name, version)
    return Response()


@router.get(
    _MODEL + "/config",
    summary="Model configuration",
    operation_id="inferenceModelConfig",
    responses=inference_errors(404, 503),
)
async def config(ports: UsePorts, name: str) -> dict[str, Any]:
    """The configuration as Triton's extension of the protocol describes it; `parameters` has the class names."""
    return await ports.inference.config(name)


@router.get(
    _VERSION + "/config",
    summary="Configuration of a model's version",
    operation_id="inferenceModelVersionConfig",
    responses=inference_errors(404, 503),
)
async def version_config(ports: UsePorts, name: str, version: str) -> dict[str, Any]:
    """As without a version."""
    return await ports.inference.config(name, version)


@router.post(
    _MODEL + "/infer",
    summary="Infer",
    operation_id="infer",
    responses=inference_errors(400, 404, 413, 415, 503),
    openapi_extra=inference_body(),
)
async def infer(ports: UsePorts, request: Request, name: str) -> Response:
    """Find the objects in letterboxed frames or in encoded images, as JSON or with the binary tensor extension."""
    return await _infer(ports, request, name, "")


@router.post(
    _VERSION + "/infer",
    summary="Infer with a model's version",
    operation_id="inferVersion",
    responses=inference_errors(400, 404, 413, 415, 503),
    openapi_extra=inference_body(),
)
async def infer_version(ports: UsePorts, request: Request, name: str, version: str) -> Response:
    """As without a version."""
    return await _infer(ports, request, name, version)


async def _infer(ports: UsePorts, request: Request, name: str, version: str) -> Response:
    inference = ports.inference
    served = await inference.model(name, version)
    with inference.holding(_announced(request)):
        sent = await read_body(request, MESSAGE_LIMIT)
        encoding = request.headers.get("content-encoding", "")
        body = await aside(unpack, sent, encoding, size=len(sent) if encoding else 0)
        del sent
        header_length = request.headers.get(HEADER_LENGTH)
        asked = await aside(read_request, body, header_length, size=json_length(body, header_length))
        answer = await inference.infer(served, asked)
    content, head = write_answer(answer, asked)
    content, packed = pack(content, request.headers.get("accept-encoding", ""))
    headers = {"Content-Encoding": packed, "Vary": "Accept-Encoding"} if packed else {}
    if head is None:
        return Response(content, media_type="application/json", headers=headers)
    return Response(content, media_type="application/octet-stream", headers={**headers, HEADER_LENGTH: str(head)})


def _announced(request: Request) -> int:
    """Bytes that the body may come to: as many as it says, or the most there may be."""
    stated = request.headers.get("content-length", "")
    known = stated.isdecimal() and len(stated) < 12 and not request.headers.get("content-encoding")
    return min(int(stated), MESSAGE_LIMIT) if known else MESSAGE_LIMIT
