"""gRPC's messages, against the definition that a client library brings along."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from deployments.store.sqlite import SqliteStore
from serve_app.api.v2.inference import Inference
from serve_app.api.v2.messages import MESSAGES, METHODS
from serve_app.api.v2.rpc import InferenceRpc, is_loopback
from tests.support.api_ports import ENGINE, MemoryDetector, MemoryMedia
from tests.support.closed_api import ClosedApi, CountingStore


class CallContext:
    """What one call was told."""

    def __init__(self, peer: str = "ipv4:127.0.0.1:5000", authorization: str | None = None) -> None:
        self._peer = peer
        self._authorization = authorization
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return [] if self._authorization is None else [("authorization", self._authorization)]

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


def ask(
    method: str, request: Any, peer: str = "ipv4:127.0.0.1:5000", from_anywhere: bool = False, available: bool = True
) -> tuple[Any, CallContext]:
    """One call, in the client library's messages or as bytes."""
    detector = MemoryDetector()
    detector.available = available
    rpc = InferenceRpc(Inference(detector, MemoryMedia(), "1.2.3"), from_anywhere=from_anywhere)
    context = CallContext(peer)
    data = request if isinstance(request, bytes) else request.SerializeToString()
    answer = asyncio.run(rpc.call(method, data, context))
    response = getattr(service_pb2, f"{method}Response").FromString(answer.SerializeToString())
    return response, context


def _frames(count: int = 2) -> Any:
    message = service_pb2.ModelInferRequest(model_name="default", id="7")
    message.inputs.add(name="frames", datatype="UINT8", shape=[count, 416, 416, 3])
    message.raw_input_contents.append(bytes(count * 416 * 416 * 3))
    return message


def test_every_field_is_the_protocols() -> None:
    """Name, number, type and repetition of each field, against another definition of the protocol."""
    compared = 0
    for name, message in MESSAGES.items():
        outer, _, inner = name.partition(".")
        known: Any = {
            **service_pb2.DESCRIPTOR.message_types_by_name,
            **model_config_pb2.DESCRIPTOR.message_types_by_name,
        }
        theirs = known[outer].nested_types_by_name[inner] if inner else known[outer]
        for ours in message.DESCRIPTOR.fields:
            other = theirs.fields_by_name[ours.name]
            assert (ours.number, ours.type, ours.is_repeated) == (other.number, other.type, other.is_repeated), (
                ours.name
            )
            compared += 1
    assert compared > 60
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {method.name for method in service.methods} >= set(METHODS)


def test_health_and_facts() -> None:
    assert ask("ServerLive", service_pb2.ServerLiveRequest())[0].live
    assert ask("ServerReady", service_pb2.ServerReadyRequest())[0].ready
    assert not ask("ServerReady", service_pb2.ServerReadyRequest(), available=False)[0].ready
    assert ask("ModelReady", service_pb2.ModelReadyRequest(name="default", version="1"))[0].ready
    assert not ask("ModelReady", service_pb2.ModelReadyRequest(name="other"))[0].ready
    server, _ = ask("ServerMetadata", service_pb2.ServerMetadataRequest())
    assert (server.name, server.version) == ("raysight", "1.2.3")
    facts, _ = ask("ModelMetadata", service_pb2.ModelMetadataRequest(name=ENGINE.name))
    assert [(i.name, i.datatype, list(i.shape)) for i in facts.inputs] == [
        ("frames", "UINT8", [-1, 416, 416, 3]),
        ("image", "BYTES", [-1]),
    ]
    config, _ = ask("ModelConfig", service_pb2.ModelConfigRequest(name=ENGINE.name))
    assert config.config.input[0].data_type == model_config_pb2.TYPE_UINT8
    assert config.config.parameters["class_names"].string_value == "person\ncar"


@pytest.mark.parametrize("typed", [False, True])
def test_infer(typed: bool) -> None:
    request = _frames(1)
    if typed:
        request.inputs[0].contents.uint_contents.extend(request.raw_input_contents.pop())
    request.outputs.add(name="scores")
    request.outputs.add(name="num_detections")
    response, context = ask("ModelInfer", request)
    assert context.code is None
    assert (response.id, [output.name for output in response.outputs]) == ("7", ["scores", "num_detections"])
    np.testing.assert_allclose(np.frombuffer(response.raw_output_contents[0], np.float32), [0.9])
    assert np.frombuffer(response.raw_output_contents[1], np.int32).tolist() == [1]


def _spoilt(what: str) -> Any:
    request = _frames(1)
    if what == "model":
        request.model_name = "other"
    elif what == "version":
        request.model_version = "2"
    elif what == "length":
        request.raw_input_contents[0] = b"12"
    elif what == "raw":
        request.raw_input_contents.append(b"")
    elif what == "shape":
        request.inputs[0].shape[:] = [2**62, 2**62, 2**62, 3]
    elif what == "typed":
        del request.raw_input_contents[:]
        request.inputs[0].contents.uint_contents.append(256)
    elif what == "memory":
        request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    elif what == "nan":
        request.parameters["confidence"].double_param = float("nan")
    return request


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("model", grpc.StatusCode.NOT_FOUND),
        ("version", grpc.StatusCode.NOT_FOUND),
        *((what, grpc.StatusCode.INVALID_ARGUMENT) for what in ("length", "raw", "shape", "typed", "memory", "nan")),
    ],
)
def test_requests_that_cannot_be(what: str, code: grpc.StatusCode) -> None:
    _, context = ask("ModelInfer", _spoilt(what))
    assert context.code is code
    assert context.details


@given(st.sampled_from(METHODS), st.binary(max_size=200))
def test_junk_is_refused_or_answered(method: str, junk: bytes) -> None:
    assert ask(method, junk)[1].code in (None, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def test_an_absent_detector_is_unavailable() -> None:
    assert ask("ModelInfer", _frames(), available=False)[1].code is grpc.StatusCode.UNAVAILABLE


def test_other_machines_are_refused_unless_told_otherwise() -> None:
    live = service_pb2.ServerLiveRequest()
    assert ask("ServerLive", live, peer="ipv4:10.0.0.9:4000")[1].code is grpc.StatusCode.PERMISSION_DENIED
    assert ask("ServerLive", live, peer="ipv4:10.0.0.9:4000", from_anywhere=True)[0].live


@pytest.mark.parametrize(
    ("peer", "own"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("ipv6:%5B::ffff:10.0.0.9%5D:5000", False),
        ("ipv4:10.0.0.9:127", False),
        ("ipv4:0.0.0.0:127", False),
        ("ipv6:[2001:db8::1]:1", False),
        ("", False),
        ("ipv4:127.0.0.1.example:5", False),
    ],
)
def test_who_is_on_this_machine(peer: str, own: bool) -> None:
    assert is_loopback(peer) is own


@pytest.mark.parametrize(
    ("method", "key", "code"),
    [
        ("ServerLive", None, grpc.StatusCode.UNAUTHENTICATED),
        ("ServerReady", "rsk_nobody_" + "0" * 64, grpc.StatusCode.UNAUTHENTICATED),
        ("ServerLive", "viewer", None),
        ("ModelInfer", "viewer", grpc.StatusCode.PERMISSION_DENIED),
        ("ModelInfer", "operator", None),
        ("ServerLive", "slow", grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_closed_doors(tmp_path: Path, method: str, key: str | None, code: grpc.StatusCode | None) -> None:
    with asyncio.Runner() as runner:
        closed = ClosedApi(runner, CountingStore(SqliteStore(tmp_path / "registry.db")))
        keys = {role: closed.key(role) for role in ("viewer", "operator")}
        keys["slow"] = closed.key("viewer", quotas={"requests_per_minute": 1})
        context = CallContext(authorization=None if key is None else f"Bearer {keys.get(key, key)}")
        rpc = InferenceRpc(closed.app.state.ports.inference, from_anywhere=False, doors=closed.doors)
        message = _frames() if method == "ModelInfer" else getattr(service_pb2, f"{method}Request")()
        if key == "slow":
            runner.run(
                rpc.call(method, message.SerializeToString(), CallContext(authorization=f"Bearer {keys['slow']}"))
            )
        runner.run(rpc.call(method, message.SerializeToString(), context))
        assert (context.code, bool(context.details)) == (code, code is not None)
