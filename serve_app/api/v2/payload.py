"""Inference over HTTP: JSON, and the binary tensor extension, whose bytes follow the JSON in the same body.

With the extension, ``Inference-Header-Content-Length`` says where the JSON ends, and ``binary_data_size`` in a tensor's
parameters how many of the bytes behind it are its own, in the order of the inputs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from serve_app.api.problems import MALFORMED_JSON, UNSUPPORTED_MEDIA_TYPE, Refused, validation_refused
from serve_app.api.v2.requests import (
    MESSAGE_LIMIT,
    InferAnswer,
    InferRequest,
    InputTensor,
    WantedOutput,
    invalid,
    too_large,
)

HEADER_LENGTH = "Inference-Header-Content-Length"

JSON_LIMIT = 16 * 2**20
"""Bytes of JSON at most: a number of it takes eight bytes and more of memory for each of the two it is written with."""

COMPRESS_FROM = 1024
"""A smaller answer gains nothing from compression."""

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""zlib's names for the two encodings (RFC 9110, section 8.4.1: deflate is the zlib format)."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Input(_Part):
    name: str
    datatype: str
    shape: list[int] = Field(max_length=16)
    parameters: dict[str, Any] = {}
    data: Any = None


class _Output(_Part):
    name: str
    parameters: dict[str, Any] = {}


class _Body(_Part):
    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[_Input] = Field(min_length=1, max_length=16)
    outputs: list[_Output] = Field(default=[], max_length=16)


def unpack(body: bytes, encoding: str) -> bytes:
    """``body`` without its ``Content-Encoding``. Raises Refused where it is damaged or unpacks to too much."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOW:
        raise Refused(UNSUPPORTED_MEDIA_TYPE, "Set Content-Encoding to gzip or deflate, or leave it out.")
    unpacker = zlib.decompressobj(_WINDOW[name])
    try:
        data = unpacker.decompress(body, MESSAGE_LIMIT + 1)
    except zlib.error:
        raise invalid(f"The body is not {name}, as its Content-Encoding says.") from None
    if len(data) > MESSAGE_LIMIT:
        raise too_large()
    if not unpacker.eof:
        raise invalid(f"The body's {name} data is cut off.")
    return data


def pack(body: bytes, accepted: str) -> tuple[bytes, str | None]:
    """``body`` in an encoding that the client accepts, and its name; None where it stays as it is."""
    offers = [offer.replace(" ", "").lower().partition(";") for offer in accepted.split(",")]
    name = next((name for name, _, weight in offers if name in _WINDOW and weight not in ("q=0", "q=0.0")), None)
    if name is None or len(body) < COMPRESS_FROM:
        return body, None
    packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[name])
    return packer.compress(body) + packer.flush(), name


def json_length(body: bytes, header_length: str | None) -> int:
    """Bytes of JSON in an unpacked body. Raises Refused where the header can't be."""
    if header_length is None:
        return len(body)
    text = header_length.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= len(body)):
        raise invalid(f"{HEADER_LENGTH} must be the length of the JSON: 0 to {len(body)}, that of the body.")
    return int(text)


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request in an unpacked body.

    Raises:
        Refused: it can't be read, or lengths don't add up.
    """
    length = json_length(body, header_length)
    if length > JSON_LIMIT:
        raise Refused(too_large().kind, f"Send at most {JSON_LIMIT // 2**20} MiB of JSON, and tensors as binary data.")
    try:
        parsed = _Body.model_validate(from_json(memoryview(body)[:length].tobytes(), allow_inf_nan=False))
    except ValidationError as error:
        raise invalid(validation_refused(error).detail) from None
    except ValueError as error:
        raise Refused(MALFORMED_JSON, f"Send a JSON object: {error}.") from None
    return InferRequest(
        inputs=_inputs(parsed.inputs, memoryview(body)[length:]),
        id=parsed.id,
        outputs=tuple(_output(output) for output in parsed.outputs),
        parameters=parsed.parameters,
        binary=_flag(parsed.parameters, "binary_data_output") or False,
    )


def write_answer(answer: InferAnswer, request: InferRequest) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of the JSON in it; None where all of it is JSON."""
    wanted = {output.name: output.binary for output in request.outputs}
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for tensor in answer.outputs:
        told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.array.shape}
        asked = wanted.get(tensor.name)
        if request.binary if asked is None else asked:
            blobs.append(tensor.raw())
            told["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            told["data"] = tensor.array.reshape(-1).tolist()
        outputs.append(told)
    names: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version}
    head = to_json({**names, **({"id": answer.id} if answer.id else {}), "outputs": outputs})
    return b"".join([head, *blobs]), len(head) if blobs else None


def write_request(request: dict[str, Any], blobs: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """The body of a request with binary tensors, and its headers; for clients."""
    head = to_json(request)
    return b"".join([head, *blobs]), {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def _inputs(given: list[_Input], rest: memoryview) -> tuple[InputTensor, ...]:
    tensors, at = [], 0
    for part in given:
        size = part.parameters.get("binary_data_size")
        raw = None
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(rest) - at:
                raise invalid(f"binary_data_size of {part.name} must be a part of the {len(rest)} bytes that follow.")
            if part.data is not None:
                raise invalid(f"{part.name} has both data and binary_data_size: send one of them.")
            raw, at = rest[at : at + size], at + size
        _refuse_shared_memory(part.name, part.parameters)
        tensors.append(InputTensor(part.name, part.datatype, tuple(part.shape), raw, part.data))
    if at != len(rest):
        raise invalid(f"{len(rest)} bytes follow the JSON, but the inputs' binary_data_size sum up to {at}.")
    return tuple(tensors)


def _output(part: _Output) -> WantedOutput:
    _refuse_shared_memory(part.name, part.parameters)
    if part.parameters.get("classification"):
        raise invalid(f"{part.name}: there is no classification of outputs here.")
    return WantedOutput(part.name, _flag(part.parameters, "binary_data"))


def _flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    value: bool | None = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise invalid(f"{name} must be true or false.")
    return value


def _refuse_shared_memory(name: str, parameters: Mapping[str, Any]) -> None:
    if "shared_memory_region" in parameters:
        raise invalid(f"{name}: shared memory regions are not supported; send the data itself.")
