"""Images, probes, snapshots, models, capacity and health."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deployments.errors import ForbiddenPackage, InvalidSpec, NoCapacity, PackageRefused, RaysightError, SwapInProgress
from deployments.supervisor.admission import Room
from deployments.supervisor.demand import Costs, Kind
from deployments.supervisor.entrance import Survey
from deployments.supervisor.placement import NodeRoom
from engines.types import Thresholds
from serve_app.api.ports import NodeLoad
from tests.support.api_ports import Picture
from tests.unit.serve_app.conftest import Api
from tests.unit.serve_app.test_streams import problem


def _image(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.zeros((48, 64, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(("suffix", "media_type"), [(".jpg", "image/jpeg"), (".png", "image/png")])
def test_detect(api: Api, suffix: str, media_type: str) -> None:
    path = "/v1/detect?confidence=0.5&iou=0.7&max_detections=5"
    answer = api.call("POST", path, content=_image(suffix), headers={"Content-Type": media_type}).json()
    assert (answer["width"], answer["height"], answer["timing_ms"]) == (64, 48, {"whole": 3.5})
    found = {"class_id": 0, "label": "person", "confidence": 0.9, "box": [0, 0, 32, 48]}
    assert answer["detections"] == [found]
    assert api.detector.thresholds == Thresholds(0.5, 0.7, 5)


def test_detect_refuses_what_is_no_image(api: Api) -> None:
    headers = {"Content-Type": "image/jpeg"}
    for content in (b"", b"not a picture", _image(".jpg")[:100]):
        told = problem(api.call("POST", "/v1/detect", content=content, headers=headers), 422, "invalid_request")
        assert told["errors"][0]["field"] == "body"
    told = problem(
        api.call("POST", "/v1/detect?iou=2", content=_image(".jpg"), headers=headers), 422, "invalid_request"
    )
    assert told["errors"][0]["field"] == "iou"


def test_probe(api: Api) -> None:
    answer = api.call("POST", "/v1/probe", json={"url": "rtsp://h/x", "transport": "udp"}).json()
    shown = {"codec": "h264", "width": 1280, "height": 720, "fps": 25.0, "audio_codec": None, "decoder": None}
    assert answer == {**shown, "webrtc_copy": False}
    assert api.media.probed[0].transport == "udp"
    assert api.streams.streams == {}
    api.media.error = InvalidSpec("source.url", "A rtsp URL needs a host.")  # as the policy says it of streams
    told = problem(api.call("POST", "/v1/probe", json={"url": "rtsp://"}), 422, "invalid_request")
    assert told["errors"] == [{"field": "url", "message": "A rtsp URL needs a host."}]


def test_snapshot(api: Api) -> None:
    api.put("a")
    told = problem(api.call("GET", "/v1/streams/a/snapshot.jpg"), 503, "no_picture")
    assert "pending" in told["detail"]
    api.runner.run(api.streams.show("a", Picture(1, b"\xff\xd8picture")))
    shown = api.call("GET", "/v1/streams/a/snapshot.jpg?annotated=false")
    assert (shown.content, shown.headers["content-type"]) == (b"\xff\xd8picture", "image/jpeg")
    assert shown.headers["cache-control"] == "no-store"


def test_models(api: Api) -> None:
    first, second = api.call("GET", "/v1/models").json()["items"]
    assert (first["name"], first["engine"], first["device"]) == ("default", "nanodet-g", "cpu")
    assert (first["package"], first["replicas"], first["engine_fps"]) == ("/models/nanodet-g", 2, 360.0)
    assert (second["name"], second["package"], second["engine_fps"]) == ("fast", None, None)
    assert api.call("GET", "/v1/models/fast").json() == second
    told = problem(api.call("GET", "/v1/models/none"), 404, "model_not_found")
    assert "default, fast" in told["detail"]


def test_a_model_is_swapped_to_another_package(api: Api) -> None:
    answer = api.call("PUT", "/v1/models/default", json={"package": "street-2"})
    assert (answer.status_code, answer.json()["package"]) == (200, "/models/street-2")
    problem(api.call("PUT", "/v1/models/none", json={"package": "street-2"}), 404, "model_not_found")
    for body, field in (({}, "package"), ({"package": ""}, "package"), ({"package": "a", "x": 1}, "x")):
        told = problem(api.call("PUT", "/v1/models/default", json=body), 422, "invalid_request")
        assert told["errors"][0]["field"] == field


@pytest.mark.parametrize(("error", "status"), [(PackageRefused, 422), (ForbiddenPackage, 403), (SwapInProgress, 409)])
def test_a_swap_that_fails_says_why(api: Api, error: type[RaysightError], status: int) -> None:
    api.detector.refusal = error("model.onnx is missing; add the exported model")
    answer = api.call("PUT", "/v1/models/default", json={"package": "street-2"})
    assert (answer.status_code, answer.json()["detail"]) == (status, "model.onnx is missing; add the exported model")
    assert api.call("GET", "/v1/models/default").json()["package"] == "/models/nanodet-g"


def test_an_unknown_model_is_not_found(api: Api) -> None:
    headers = {"Content-Type": "image/jpeg"}
    assert api.call("POST", "/v1/detect?model=fast", content=_image(".jpg"), headers=headers).status_code == 200
    problem(api.call("POST", "/v1/detect?model=none", content=_image(".jpg"), headers=headers), 404, "model_not_found")
    problem(api.call("GET", "/v1/capacity?model=none"), 404, "model_not_found")
    problem(api.call("GET", "/v1/capacity?model=No"), 422, "invalid_request")


def test_capacity_counts_whole_streams_by_node(api: Api) -> None:
    answer = api.call("GET", "/v1/capacity?fps=30&add=9").json()
    assert [(node["fits"], node["free"]) for node in answer["nodes"]] == [(8, 6), (3, 3)]
    assert (answer["fits"], answer["free"], answer["streams"], answer["add_fits"]) == (11, 9, 2, True)
    assert api.call("GET", "/v1/capacity?fps=30&add=10").json()["add_fits"] is False


def test_capacity_before_the_speed_is_known(api: Api) -> None:
    api.detector.nodes = (NodeLoad("a", None, 0.0, 0), NodeLoad("b", 100.0, 200.0, 8))
    answer = api.call("GET", "/v1/capacity?add=1").json()
    assert (answer["engine_fps"], answer["fits"], answer["free"], answer["add_fits"]) == (None, None, None, None)
    assert answer["nodes"][1]["free"] == 0


def test_capacity_counts_cpus_and_places_too(api: Api) -> None:
    software = Kind("software", "nothing")
    rooms = (
        NodeRoom("node-a", 2.0, 1.0, {"CPU": 1.0, "nvdec": 3.0}),
        NodeRoom("node-c", 1.0, 0.0, {"CPU": 1.0}),
    )
    api.streams.room = Survey(
        Room({"default": 360.0}, {"default": 50.0}, rooms),
        Costs.of([("node-a", software, 0.01)]),
        {"CPU": 0.03},
        waiting=2,
        admission="pending",
    )
    answer = api.call("GET", "/v1/capacity?fps=30&add=6").json()
    assert [(node["node"], node["free"], node["holds"]) for node in answer["nodes"]] == [
        ("node-a", 6, 2),
        ("node-b", 3, None),
        ("node-c", 0, 3),
    ]
    assert (answer["free"], answer["limit"], answer["add_fits"]) == (5, "cpu", False)
    assert (answer["cpu_ms_per_frame"], answer["cpu_measured"]) == (10.0, True)
    assert (answer["waiting"], answer["admission"], answer["nodes"][0]["places"]) == (2, "pending", {"nvdec": 3})

    answer = api.call("GET", "/v1/capacity?fps=5&add=3&hwaccel=cuda").json()
    assert (answer["free"], answer["limit"], answer["add_fits"], answer["cpu_measured"]) == (3, "nvdec", True, False)
    answer = api.call("GET", "/v1/capacity?fps=100").json()
    assert (answer["free"], answer["limit"]) == (0, "cpu")
    assert api.call("GET", "/v1/capacity?fps=0.5").json()["limit"] == "actors"


def test_a_stream_without_room_is_refused(api: Api) -> None:
    api.streams.failure = NoCapacity("the engine manages 33 frames a second and 30 are spoken for: lower max_fps")
    problem(api.put("gate"), 409, "no_capacity")


def test_health(api: Api) -> None:
    assert api.call("GET", "/healthz").json() == {"status": "ok"}
    assert api.call("GET", "/readyz").json() == {"status": "ready"}
    api.detector.available = False
    assert api.call("GET", "/healthz").status_code == 200
    for path in ("/readyz", "/v1/models", "/v1/capacity"):
        response = api.call("GET", path)
        problem(response, 503, "detector_unavailable")
        assert response.headers["retry-after"]
