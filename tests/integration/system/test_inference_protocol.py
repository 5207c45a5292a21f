"""NVIDIA's own client, as it is, against a running system: over HTTP and over gRPC."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from engines.letterbox import Letterbox
from serve_app.local import free_port
from tests.support.cluster import Raysight, run_raysight

PERSON = 0


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, street_clip: Path, grpc_port: int) -> Iterator[Raysight]:
    """A system with gRPC, as the comment in ``serve_config.yaml`` says to turn it on."""
    yield from run_raysight(tmp_path_factory.mktemp("inference"), street_clip, grpc_port=grpc_port)


@pytest.fixture(scope="module", params=["http", "grpc"])
def kit(request: pytest.FixtureRequest, served: Raysight, grpc_port: int) -> Iterator[tuple[Any, Any]]:
    """The client library's module for one of the two ways, and a client."""
    if request.param == "http":
        with over_http.InferenceServerClient(f"127.0.0.1:{served.cluster.ports.api}", network_timeout=30) as client:
            yield over_http, client
    else:
        with over_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
            yield over_grpc, client


@pytest.fixture(scope="module")
def picture(street_clip: Path) -> NDArray[np.uint8]:
    """A frame of the shipped clip, with several people."""
    video = cv2.VideoCapture(str(street_clip))
    video.set(cv2.CAP_PROP_POS_FRAMES, 300)
    read, frame = video.read()
    assert read
    return np.asarray(frame, np.uint8)


def _facts(kit: tuple[Any, Any], method: str, *args: Any) -> dict[str, Any]:
    """Metadata or configuration as a dictionary, whichever way it came."""
    as_dict = {"as_json": True} if kit[0] is over_grpc else {}
    told: dict[str, Any] = getattr(kit[1], method)(*args, **as_dict)
    return told


def _letterboxed(picture: NDArray[np.uint8], shape: list[int]) -> tuple[Letterbox, NDArray[np.uint8]]:
    height, width = shape[1:3]
    letterbox = Letterbox.fit(picture.shape[1], picture.shape[0], width, height, "centre", 114)
    return letterbox, letterbox.apply(picture)


def _people(result: Any, row: int = 0) -> NDArray[np.float32]:
    count = int(result.as_numpy("num_detections")[row])
    classes, boxes = result.as_numpy("classes")[row, :count], result.as_numpy("boxes")[row, :count]
    people: NDArray[np.float32] = boxes[classes == PERSON]
    return people


def _image(module: Any, *encoded: bytes) -> Any:
    tensor = module.InferInput("image", [len(encoded)], "BYTES")
    tensor.set_data_from_numpy(np.array(encoded, dtype=np.object_))
    return tensor


def test_health_and_facts(kit: tuple[Any, Any]) -> None:
    _, client = kit
    assert client.is_server_live()
    assert client.is_server_ready()
    server = _facts(kit, "get_server_metadata")
    assert server["name"] == "raysight"
    assert "binary_tensor_data" in server["extensions"]
    name = _facts(kit, "get_model_metadata", "default")["name"]
    for asked, version in (("default", ""), (name, ""), (name, "1")):
        assert client.is_model_ready(asked, version)
    assert not client.is_model_ready("no-such-model")
    told = _facts(kit, "get_model_config", name)
    config = told.get("config", told)
    assert [tensor["data_type"] for tensor in config["input"]] == ["TYPE_UINT8", "TYPE_STRING"]
    assert config["parameters"]["class_names"]["string_value"].splitlines()[PERSON] == "person"


def test_a_tensor_and_a_picture_show_the_same_people(kit: tuple[Any, Any], picture: NDArray[np.uint8]) -> None:
    module, client = kit
    shape = [int(side) for side in _facts(kit, "get_model_metadata", "default")["inputs"][0]["shape"]]
    letterbox, frame = _letterboxed(picture, shape)
    tensor = module.InferInput("frames", [2, *frame.shape], "UINT8")
    tensor.set_data_from_numpy(np.stack([frame, np.zeros_like(frame)]))
    of_tensor = client.infer("default", [tensor], request_id="seven", parameters={"confidence": 0.5})
    found = letterbox.undo(_people(of_tensor))
    assert len(found) >= 2
    assert of_tensor.as_numpy("num_detections")[1] == 0
    assert of_tensor.as_numpy("boxes").shape[:2] == of_tensor.as_numpy("scores").shape

    png = cv2.imencode(".png", picture)[1].tobytes()
    of_picture = client.infer("default", [_image(module, png)], parameters={"confidence": 0.5})
    np.testing.assert_allclose(_people(of_picture), found, atol=0.01)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    of_both = client.infer("default", [_image(module, jpeg, png)], parameters={"confidence": 0.5})
    assert len(_people(of_both, 0)) >= 2
    np.testing.assert_allclose(_people(of_both, 1), found, atol=0.01)


def test_many_frames_at_once(kit: tuple[Any, Any], picture: NDArray[np.uint8]) -> None:
    """Ten megabytes: more than gRPC takes by itself, and than the detector is given at a time."""
    module, client = kit
    shape = [int(side) for side in _facts(kit, "get_model_metadata", "default")["inputs"][0]["shape"]]
    frames = np.zeros((20, *shape[1:]), np.uint8)
    frames[[3, 19]] = _letterboxed(picture, shape)[1]
    tensor = module.InferInput("frames", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames)
    counts = client.infer("default", [tensor]).as_numpy("num_detections")
    assert np.flatnonzero(counts).tolist() == [3, 19]


def test_only_what_is_asked_for_and_at_most_so_much(kit: tuple[Any, Any], picture: NDArray[np.uint8]) -> None:
    module, client = kit
    wanted = [module.InferRequestedOutput("scores"), module.InferRequestedOutput("num_detections")]
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    result = client.infer("default", [_image(module, jpeg)], outputs=wanted, parameters={"max_detections": 1})
    assert result.as_numpy("num_detections").tolist() == [1]
    assert result.as_numpy("scores").shape == (1, 1)
    assert result.as_numpy("boxes") is None


def test_mistakes_are_told(kit: tuple[Any, Any]) -> None:
    module, client = kit
    tensor = module.InferInput("frames", [1, 8, 8, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
    for asked, inputs, said in (
        ("default", [tensor], "shape of frames"),
        ("default", [_image(module, b"no picture")], "JPEG"),
        ("other", [tensor], "no such model"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            client.infer(asked, inputs)
        assert said in refused.value.message()
        assert refused.value.status() in ("400", "404", "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")


def test_json_and_compression_over_http(served: Raysight, picture: NDArray[np.uint8]) -> None:
    with over_http.InferenceServerClient(f"127.0.0.1:{served.cluster.ports.api}", network_timeout=30) as client:
        shape = client.get_model_metadata("default")["inputs"][0]["shape"]
        _, frame = _letterboxed(picture, shape)
        people = []
        for binary, coding in ((True, None), (False, None), (True, "gzip"), (False, "deflate")):
            tensor = over_http.InferInput("frames", [1, *frame.shape], "UINT8")
            tensor.set_data_from_numpy(frame[None], binary_data=binary)
            names = ("boxes", "classes", "num_detections")
            outputs = [over_http.InferRequestedOutput(name, binary_data=binary) for name in names]
            result = client.infer(
                "default",
                [tensor],
                outputs=outputs,
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            people.append(_people(result))
    assert len(people[0]) >= 2
    for others in people[1:]:
        np.testing.assert_array_equal(others, people[0])


def test_other_machines_are_not_answered_over_grpc(served: Raysight, grpc_port: int) -> None:
    """Serve binds the port to every interface: what comes in over another one is refused."""
    outward = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family is socket.AF_INET and not ipaddress.ip_address(address.address).is_loopback
    ]
    if not outward:
        pytest.skip("this machine has the loopback only")
    with over_grpc.InferenceServerClient(f"{outward[0]}:{grpc_port}") as client:
        with pytest.raises(InferenceServerException) as refused:
            client.get_server_metadata(client_timeout=10)
        assert refused.value.status() == "StatusCode.PERMISSION_DENIED"
