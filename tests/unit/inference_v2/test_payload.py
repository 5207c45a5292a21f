"""Bodies over HTTP: lengths that add up are read, all others refused."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve_app.api.problems import Refused
from serve_app.api.v2.payload import pack, read_request, unpack, write_answer, write_request
from serve_app.api.v2.requests import MESSAGE_LIMIT, InferAnswer, InferRequest, OutputTensor, WantedOutput

finite = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.floats(-1e6, 1e6, width=32))


def _body(size: Any, rest: bytes, **more: Any) -> tuple[bytes, str]:
    tensor = {"name": "a", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": size}, **more}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + rest, str(len(head))


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.text(max_size=9))
def test_binary_tensors_are_cut_out_in_their_order(blobs: list[bytes], name: str) -> None:
    inputs = [
        {"name": f"{name}{at}", "datatype": "UINT8", "shape": [at], "parameters": {"binary_data_size": len(blob)}}
        for at, blob in enumerate(blobs)
    ]
    body, headers = write_request({"id": name, "inputs": inputs}, blobs)
    request = read_request(body, headers["Inference-Header-Content-Length"])
    assert [(t.name, bytes(t.raw or b"")) for t in request.inputs] == [(f"{name}{i}", b) for i, b in enumerate(blobs)]
    assert request.id == name


@given(st.binary(max_size=200), st.none() | st.text(max_size=6) | st.integers(-5, 300).map(str))
def test_any_body_is_read_or_refused(body: bytes, header_length: str | None) -> None:
    with pytest.raises(Refused) as refused:
        read_request(body, header_length)
    assert refused.value.kind.status == 400


@pytest.mark.parametrize("size", [-1, 4, 6, 2**70, "5", 5.0, True, [5]])
def test_sizes_that_do_not_add_up(size: Any) -> None:
    body, length = _body(size, b"12345")
    with pytest.raises(Refused):
        read_request(body, length)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30, "", "99999", "٣", "0", "3"])
def test_header_lengths_that_cannot_be(length: str) -> None:
    with pytest.raises(Refused):
        read_request(_body(5, b"12345")[0], length)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"inputs": []}',
        '{"inputs": [{"name": 5, "datatype": "UINT8", "shape": [1]}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1.5]}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": "1"}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1], "data": [NaN]}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1], "data": [Infinity]}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1], "data": ' + "[" * 5000,
        '{"inputs": [{"name": "\\ud800", "datatype": "UINT8", "shape": [1]}]}',
        '{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1], "parameters": {"shared_memory_region": "r"}}]}',
        '{"inputs": [{"name": "a", "datatype": "U", "shape": [1]}], "parameters": {"binary_data_output": 1}}',
        '{"inputs": [{"name": "a", "datatype": "U", "shape": [1]}], "outputs": [{"name": "b", "parameters": '
        '{"classification": 3}}]}',
    ],
)
def test_json_that_cannot_be(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_request(text.encode(), None)
    assert refused.value.kind.status == 400


def test_data_and_binary_data_together_are_refused() -> None:
    body, length = _body(5, b"12345", data=[1])
    with pytest.raises(Refused, match="both"):
        read_request(body, length)


@given(finite, st.lists(st.booleans() | st.none(), min_size=2, max_size=2), st.booleans())
def test_an_answer_can_be_read_back(array: Any, asked: list[bool | None], binary: bool) -> None:
    tensors = (OutputTensor("f", array), OutputTensor("i", array.astype(np.int32)))
    wanted = tuple(WantedOutput(t.name, b) for t, b in zip(tensors, asked, strict=True))
    request = InferRequest(inputs=(), outputs=wanted, binary=binary)
    content, length = write_answer(InferAnswer("m", "1", "7", tensors), request)
    told = json.loads(content[: len(content) if length is None else length])
    rest = content[length:] if length is not None else b""
    assert (told["model_name"], told["model_version"], told["id"]) == ("m", "1", "7")
    for tensor, output in zip(tensors, told["outputs"], strict=True):
        size = output.get("parameters", {}).get("binary_data_size")
        dtype = tensor.array.dtype
        read = np.array(output["data"], dtype) if size is None else np.frombuffer(rest[:size], dtype)
        rest = rest[size or 0 :]
        np.testing.assert_array_equal(read.reshape(output["shape"]), tensor.array)
    assert rest == b""


@pytest.mark.parametrize(
    ("name", "compress", "expand"),
    [("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)],
)
def test_compression(name: str, compress: Any, expand: Any) -> None:
    body = b"frame " * 1000
    assert unpack(compress(body), name) == body
    packed, told = pack(body, f"br, {name};q=0.5")
    assert (expand(packed), told) == (body, name)
    assert pack(body, f"{name};q=0, identity") == (body, None)
    with pytest.raises(Refused, match="cut off"):
        unpack(compress(body)[:-10], name)
    with pytest.raises(Refused, match="not"):
        unpack(b"no such data", name)


def test_what_unpacks_to_too_much_is_stopped() -> None:
    with pytest.raises(Refused) as refused:
        unpack(zlib.compress(bytes(MESSAGE_LIMIT + 1), 1), "deflate")
    assert refused.value.kind.status == 413
    with pytest.raises(Refused) as refused:
        unpack(b"", "br")
    assert refused.value.kind.status == 415
