"""`raysight probe` and `raysight detect`: look at something once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, server

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROBE_TIMEOUT_S = 60.0
"""The server gives a source its time, and tells which part of it was too slow."""

_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


def probe(
    source: Annotated[str, typer.Argument(metavar="URL", help="Of the source, as in a stream's spec.")],
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Look at a source without starting anything; the exit status is 1 where a stream of it would fail."""
    from serve_app.cli.showing import document

    found = server(url, key).ask("POST", "/v1/probe", {"url": source}, timeout_s=PROBE_TIMEOUT_S)
    if as_json:
        document(found)
        return
    rate = f", {found['fps']:g} frames a second" if found["fps"] else ""
    audio = f", audio {found['audio_codec']}" if found["audio_codec"] else ""
    print(f"{found['codec']}, {found['width']}x{found['height']}{rate}{audio}")


def detect(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A JPEG or PNG, 20 MiB at most.")],
    output: Annotated[Path | None, typer.Option(help="Write the image with boxes here, as PNG or JPEG.")] = None,
    model: Annotated[str | None, typer.Option(help="What detects.")] = None,
    confidence: Annotated[float | None, typer.Option(help="Least confidence of a detection.")] = None,
    iou: Annotated[float | None, typer.Option(help="Overlap above which two boxes are one object.")] = None,
    max_detections: Annotated[int | None, typer.Option(help="The most confident ones at most.")] = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Detect the objects in an image."""
    from urllib.parse import urlencode

    from serve_app.cli.results import unwritable
    from serve_app.cli.showing import console, document, table

    data = image.read_bytes()
    kind = next((kind for magic, kind in _TYPES.items() if data.startswith(magic)), None)
    if kind is None:
        raise typer.BadParameter(f"{image} is neither JPEG nor PNG", param_hint="IMAGE")
    if output is not None and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter("name a .png or .jpg", param_hint="--output")
    if why := unwritable(output):
        raise typer.BadParameter(why, param_hint="--output")
    wishes = {"model": model, "confidence": confidence, "iou": iou, "max_detections": max_detections}
    query = urlencode({name: value for name, value in wishes.items() if value is not None})
    found = server(url, key).send(f"/v1/detect?{query}", data, kind)
    if output is not None:
        _write(output, data, found["detections"])
    if as_json:
        document(found)
        return
    shown = table("object", "confidence", "left", "top", "right", "bottom", right=("confidence", "left", "top"))
    for one in found["detections"]:
        shown.add_row(one["label"], f"{one['confidence']:.2f}", *(f"{at:.0f}" for at in one["box"]))
    if found["detections"]:
        console().print(shown)
    whole = found["timing_ms"].get("whole")
    print(f"{len(found['detections'])} objects" + (f" in {whole:.0f} ms" if whole is not None else ""))


def _write(output: Path, data: bytes, detections: Sequence[dict[str, Any]]) -> None:
    import cv2
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise typer.BadParameter("the image can't be decoded here", param_hint="IMAGE")
    drawn = with_boxes(np.asarray(picture, np.uint8), detections)
    written, encoded = cv2.imencode(output.suffix.lower(), drawn)
    if not written:
        raise typer.BadParameter(f"no {output.suffix} can be made of it", param_hint="--output")
    output.write_bytes(encoded.tobytes())


def with_boxes(picture: NDArray[np.uint8], detections: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """A copy of a picture (height, width, BGR) with a box and a label for each object, the most confident on top."""
    import cv2

    from deployments.streams.annotate import class_colour

    drawn = picture.copy()
    stroke = max(1, round(min(drawn.shape[:2]) / 480))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * stroke
    for one in reversed(detections):
        red, green, blue = class_colour(one["class_id"])
        colour = blue * 255, green * 255, red * 255
        ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else (255, 255, 255)
        left, top, right, bottom = (round(at) for at in one["box"])
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, 2 * stroke)
        text = f"{one['label']} {one['confidence']:.2f}"
        (wide, high), below = cv2.getTextSize(text, font, scale, stroke)
        base = max(top, high + below)  # inside where there is no room above
        cv2.rectangle(drawn, (left, base - high - below), (left + wide, base), colour, cv2.FILLED)
        cv2.putText(drawn, text, (left, base - below // 2), font, scale, ink, stroke, cv2.LINE_AA)
    return drawn
