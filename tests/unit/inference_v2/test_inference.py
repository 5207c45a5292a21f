"""The protocol over HTTP, over ports in memory."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.errors import DetectorUnavailable, SupervisorUnavailable
from engines.types import Detections, Thresholds
from serve_app.api.places import Places
from serve_app.api.problems import Refused
from serve_app.api.v2 import model
from serve_app.api.v2.inference import Inference, Served
from serve_app.api.v2.payload import HEADER_LENGTH, write_request
from serve_app.api.v2.requests import InferRequest, InputTensor
from serve_app.api.v2.tensors import join_bytes
from tests.support.api_ports import ENGINE, MemoryDetector, MemoryMedia
from tests.unit.serve_app.conftest import Api

INFER = "/v2/models/default/infer"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with asyncio.Runner() as runner:
        yield Api(runner)


def _tensor(count: int = 1, **change: Any) -> dict[str, Any]:
    size = count * 416 * 416 * 3
    tensor = {
        "name": "frames",
        "datatype": "UINT8",
        "shape": [count, 416, 416, 3],
        "parameters": {"binary_data_size": size},
    }
    return {**tensor, **change}


def _infer(api: Api, tensor: dict[str, Any], blob: bytes | None = None, **more: Any) -> httpx.Response:
    blobs = [bytes(tensor["parameters"]["binary_data_size"])] if blob is None else [blob]
    body, headers = write_request({"inputs": [tensor], **more}, blobs)
    return api.call("POST", INFER, content=body, headers=headers)


def _jpeg(width: int = 64, height: int = 48) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def _error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    (told,) = response.json().items()
    assert told[0] == "error"
    return str(told[1])


def test_facts(api: Api) -> None:
    assert api.call("GET", "/v2").json()["extensions"] == list(model.EXTENSIONS)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/nanodet-g/ready"):
        assert api.call("GET", path).status_code == 200
    for base in ("/v2/models/default", "/v2/models/nanodet-g/versions/1"):
        assert api.call("GET", base).json()["inputs"][0]["shape"] == [-1, 416, 416, 3]
        assert api.call("GET", f"{base}/config").json()["input"][1]["data_type"] == "TYPE_STRING"
    for path in (
        "/v2/models/other",
        "/v2/models/default/versions/2/ready",
        "/v2/models/other/config",
        "/v2/models/a/b",
    ):
        assert _error(api.call("GET", path), 404)
    assert _error(api.call("DELETE", "/v2"), 405)
    assert _error(api.call("GET", "/v2", headers={"Host": "elsewhere.example"}), 421)


def test_frames(api: Api) -> None:
    told = _infer(api, _tensor(2), id="7", parameters={"confidence": 0.5, "max_detections": 9}).json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("nanodet-g", "1", "7")
    found = {output["name"]: output for output in told["outputs"]}
    assert found["num_detections"]["data"] == [1, 1]
    assert (found["boxes"]["shape"], found["boxes"]["data"][:4]) == ([2, 1, 4], [0, 0, 208, 416])
    assert api.detector.thresholds == Thresholds(confidence=0.5, max_detections=9)


def test_images_as_json_and_as_bytes(api: Api) -> None:
    images = [_jpeg(), _jpeg(128, 96)]
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [2],
        "data": [base64.b64encode(i).decode() for i in images],
    }
    as_json = api.call("POST", INFER, json={"inputs": [tensor], "outputs": [{"name": "boxes"}]}).json()
    (boxes,) = as_json["outputs"]
    assert boxes["data"] == [0, 0, 32, 48, 0, 0, 64, 96]
    spoilt = {**tensor, "data": [tensor["data"][0], base64.b64encode(b"none").decode()]}  # type: ignore[index]
    assert "image 1" in _error(api.call("POST", INFER, json={"inputs": [spoilt]}), 400)


def test_compressed_both_ways(api: Api) -> None:
    body, headers = write_request({"inputs": [_tensor(60)], "parameters": {}}, [bytes(60 * 416 * 416 * 3)])
    headers |= {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    answer = api.call("POST", INFER, content=gzip.compress(body, 1), headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["outputs"][0]["data"] == [1] * 60


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"datatype": "FP32"},
        {"shape": [416, 416, 3]},
        {"shape": [0, 416, 416, 3]},
        {"shape": [65, 416, 416, 3]},
        {"shape": [1, 416, 416, 4]},
        {"shape": [2, 416, 416, 3]},
        {"shape": [-1, 416, 416, 3]},
        {"shape": [2**64, 2**64, 2**64, 3]},
        {"shape": []},
        {"parameters": {"binary_data_size": 5}},
    ],
)
def test_tensors_that_do_not_fit(api: Api, change: dict[str, Any]) -> None:
    _error(_infer(api, _tensor(**change), bytes(416 * 416 * 3)), 400)


@pytest.mark.parametrize(
    "parameters",
    [
        {"confidence": 0},
        {"confidence": "high"},
        {"confidence": True},
        {"iou": 1.5},
        {"max_detections": 0},
        {"max_detections": 1.5},
        {"max_detections": 10**400},
        {"confidense": 0.5},
    ],
)
def test_parameters_that_cannot_be(api: Api, parameters: dict[str, Any]) -> None:
    _error(_infer(api, _tensor(), parameters=parameters), 400)


def test_other_mistakes(api: Api) -> None:
    _error(_infer(api, _tensor(), outputs=[{"name": "other"}]), 400)
    _error(_infer(api, _tensor(), outputs=[{"name": "boxes"}, {"name": "boxes"}]), 400)
    _error(api.call("POST", INFER, content=b"{}", headers={"Content-Encoding": "br"}), 415)
    _error(api.call("POST", INFER, content=b"{", headers={"Content-Type": "application/json"}), 400)
    _error(api.call("POST", INFER, content=b"x" * (64 * 2**20 + 1)), 413)
    _error(api.call("POST", INFER, content=b" " * (17 * 2**20)), 413)
    _error(api.call("POST", "/v2/models/other/infer", json={}), 404)
    no_data = {"name": "image", "datatype": "BYTES", "shape": [1]}
    _error(api.call("POST", INFER, json={"inputs": [no_data]}), 400)
    _error(api.call("POST", INFER, json={"inputs": [no_data, no_data]}), 400)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.none() | st.integers(-1, 400).map(str), st.sampled_from(["", "gzip", "deflate"]))
def test_junk_is_never_a_500(api: Api, junk: bytes, header_length: str | None, encoding: str) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    headers |= {HEADER_LENGTH: header_length} if header_length is not None else {}
    _error(api.call("POST", INFER, content=junk, headers=headers), 400)


def test_every_model_goes_by_its_name_and_by_that_of_its_package() -> None:
    with asyncio.Runner() as runner:
        api = Api(runner)
        for name, package in (("default", "nanodet-g"), ("nanodet-g", "nanodet-g"), ("fast", "fake"), ("fake", "fake")):
            assert api.call("GET", f"/v2/models/{name}").json()["name"] == package
            body, headers = write_request({"inputs": [_tensor()]}, [bytes(416 * 416 * 3)])
            answer = api.call("POST", f"/v2/models/{name}/infer", content=body, headers=headers)
            assert (answer.status_code, answer.json()["model_name"]) == (200, package)
        told = _error(api.call("GET", "/v2/models/other"), 404)
        assert "default, fake, fast, nanodet-g" in told

        api.detector.states["fast"] = replace(api.detector.states["fast"], info=replace(ENGINE, name="faster"))
        assert api.call("GET", "/v2/models/fast").json()["name"] == "faster"
        _error(api.call("GET", "/v2/models/fake"), 404)


def test_the_default_model_is_served_while_nobody_can_tell_of_the_others() -> None:
    class Untold(MemoryDetector):
        async def models(self) -> Any:
            raise SupervisorUnavailable("try again shortly")

    inference = Inference(Untold(), MemoryMedia(), "1")
    assert [asyncio.run(inference.model(name)).model for name in ("default", "nanodet-g")] == ["default", "default"]
    with pytest.raises(SupervisorUnavailable):
        asyncio.run(inference.model("fast"))


def test_frames_made_for_a_model_that_was_swapped_meanwhile_are_not_inferred() -> None:
    detector = MemoryDetector()
    inference = Inference(detector, MemoryMedia(), "1")
    frames = InputTensor("frames", "UINT8", (1, 416, 416, 3), memoryview(bytes(416 * 416 * 3)))

    async def swapped() -> None:
        served = await inference.model("fast")
        detector.states["fast"] = replace(detector.states["fast"], info=replace(ENGINE, name="faster"))
        await inference.infer(served, InferRequest((frames,)))

    with pytest.raises(DetectorUnavailable, match="Another model"):
        asyncio.run(swapped())


def test_an_absent_detector_is_a_503() -> None:
    with asyncio.Runner() as runner:
        api = Api(runner)
        api.detector.available = False
        assert api.call("GET", "/v2/health/live").status_code == 200
        for path in ("/v2/health/ready", "/v2/models/default", "/v2/models/default/ready"):
            response = api.call("GET", path)
            assert response.headers["retry-after"]
            _error(response, 503)


def test_requests_beyond_the_memory_there_is_are_refused() -> None:
    inference = Inference(MemoryDetector(), MemoryMedia(), "1", held_bytes=100)
    with inference.holding(60):
        with pytest.raises(Refused) as refused, inference.holding(41):
            pass
        assert refused.value.kind.status == 503
        with inference.holding(40):
            pass
    with inference.holding(100):
        pass


def test_images_beyond_those_there_is_time_for_are_refused() -> None:
    class Stuck(MemoryMedia):
        async def decode_image(self, data: bytes) -> Any:
            await asyncio.Event().wait()

    async def ask() -> None:
        inference = Inference(MemoryDetector(), Stuck(), "1", image_wait_s=0.05)
        raw = memoryview(join_bytes([b"image"] * 9))
        await inference.infer(Served("default", ENGINE), InferRequest((InputTensor("image", "BYTES", (9,), raw),)))

    with pytest.raises(Refused) as refused:
        asyncio.run(ask())
    assert refused.value.kind.status == 503


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_outputs_are_padded_to_the_most_found(counts: list[int]) -> None:
    found = [
        Detections(np.full((n, 4), 7, np.float32), np.full(n, 0.5, np.float32), np.full(n, 3, np.int32)) for n in counts
    ]
    tensors = {tensor.name: tensor.array for tensor in model.outputs(found, ())}
    places = max(1, *counts) if len(counts) > 1 else max(1, counts[0])
    assert tensors["boxes"].shape == (len(counts), places, 4)
    assert tensors["num_detections"].tolist() == counts
    for row, count in enumerate(counts):
        assert tensors["classes"][row].tolist() == [3] * count + [model.NO_CLASS] * (places - count)
        assert tensors["scores"][row].tolist() == [0.5] * count + [0] * (places - count)
    (only,) = model.outputs(found, ["scores"])
    assert only.name == "scores"


def test_places_are_taken_in_turn_and_given_back_also_when_a_waiting_one_leaves() -> None:
    async def play() -> list[str]:
        places, order = Places(2), []
        release = asyncio.Event()

        async def hold(name: str, count: int) -> None:
            async with places.taken(count):
                order.append(name)
                await release.wait()

        first = asyncio.create_task(hold("one", 1))
        both = asyncio.create_task(hold("both", 2))
        last = asyncio.create_task(hold("last", 1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["one"]
        both.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["one", "last"]
        release.set()
        await asyncio.gather(first, last)
        async with places.taken(2):
            return order

    assert asyncio.run(play()) == ["one", "last"]
