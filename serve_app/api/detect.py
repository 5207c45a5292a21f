"""Routes that look at something once: an image, a source."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request

from deployments.errors import InvalidSpec
from deployments.names import DEFAULT_MODEL
from deployments.streams.spec import SourceInfo, SourceSpec
from engines.types import Thresholds
from serve_app.api.body import read_body, read_object, require_type, validated
from serve_app.api.dependencies import ModelInQuery, UsePorts
from serve_app.api.openapi import PROBE_EXAMPLE, image_body, json_body, problems
from serve_app.api.ports import DetectResult
from serve_app.api.problems import field_refused
from serve_app.api.schemas import DetectAnswer, DetectedObject

IMAGE_LIMIT = 20 * 1024 * 1024
IMAGE_TYPES = ("image/jpeg", "image/png")

router = APIRouter(prefix="/v1", tags=["detection"])


@router.post(
    "/detect",
    summary="Detect objects in one image",
    operation_id="detect",
    responses=problems(404, 413, 415, 422, 503),
    openapi_extra=image_body(),
)
async def detect(
    ports: UsePorts,
    request: Request,
    model: ModelInQuery = DEFAULT_MODEL,
    confidence: Annotated[float | None, Query(ge=0.01, le=1, description="Least confidence of a detection.")] = None,
    iou: Annotated[float | None, Query(ge=0, le=1, description="Overlap above which two boxes are one object.")] = None,
    max_detections: Annotated[int | None, Query(ge=1, le=1000, description="The most confident ones at most.")] = None,
) -> DetectAnswer:
    """One JPEG or PNG of at most 20 MiB as the body; boxes are pixels of that image.

    Without thresholds the detector's own hold.
    """
    require_type(request, IMAGE_TYPES)
    data = await read_body(request, IMAGE_LIMIT)
    if not data:
        raise field_refused("body", "is empty: send the bytes of a JPEG or PNG")
    image = await ports.media.decode_image(data)
    thresholds = _chosen(confidence=confidence, iou=iou, max_detections=max_detections)
    result = await ports.detector.detect(image, thresholds, model)
    height, width = image.shape[:2]
    return DetectAnswer(width=width, height=height, detections=_objects(result), timing_ms=result.timing_ms)


@router.post(
    "/probe",
    summary="Look at a source",
    operation_id="probe",
    responses=problems(400, 403, 413, 415, 422, 502, 503),
    openapi_extra=json_body("ProbeBody", PROBE_EXAMPLE),
)
async def probe(ports: UsePorts, request: Request) -> SourceInfo:
    """Codec, size and frame rate of a source, or the error that a stream of it would get. Starts nothing."""
    source = validated(SourceSpec, await read_object(request))
    try:
        return await ports.media.probe(source)
    except InvalidSpec as error:
        # The body is a spec's source alone, and has no field `source.url`.
        raise InvalidSpec(error.field.removeprefix("source."), error.message) from None


def _chosen(**thresholds: Any) -> Thresholds | None:
    chosen = {name: value for name, value in thresholds.items() if value is not None}
    return Thresholds(**chosen) if chosen else None


def _objects(result: DetectResult) -> tuple[DetectedObject, ...]:
    found = result.detections
    rows = zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
    return tuple(
        DetectedObject(
            class_id=class_id,
            label=result.class_names[class_id],
            confidence=round(confidence, 4),
            box=(round(box[0], 2), round(box[1], 2), round(box[2], 2), round(box[3], 2)),
        )
        for box, confidence, class_id in rows
    )
