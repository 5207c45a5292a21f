"""An inference request and its answer, whichever way they travel, and how a request is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.api.problems import BODY_TOO_LARGE, Kind, Refused

MESSAGE_LIMIT = 64 * 2**20
"""Bytes of a request at most, unpacked."""

INVALID_INFERENCE = Kind(400, "invalid_inference", "The request can't be inferred")
MODEL_NOT_FOUND = Kind(404, "model_not_found", "No such model")
OVERLOADED = Kind(503, "overloaded", "Too many requests at once")

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One input as it arrived: not looked into yet.

    Attributes:
        datatype: the protocol's name, such as ``UINT8``.
        shape: whole numbers of any size, as the client wrote them.
        raw: the elements as the protocol's bytes; None where they are ``values``.
        values: the elements as numbers, text or bytes, nested or flat.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: memoryview | None = None
    values: Any = None


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that the client asks for; ``binary`` matters over HTTP only, None leaves it to the request."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One inference.

    Attributes:
        outputs: empty for all of them.
        binary: whether outputs that don't say otherwise go as bytes.
    """

    inputs: tuple[InputTensor, ...]
    id: str = ""
    outputs: tuple[WantedOutput, ...] = ()
    parameters: Parameters | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output: float32 or int32."""

    name: str
    array: NDArray[np.float32] | NDArray[np.int32]

    @property
    def datatype(self) -> str:
        """The protocol's name of the element type."""
        return "FP32" if self.array.dtype == np.float32 else "INT32"

    def raw(self) -> bytes:
        """The elements as the protocol's bytes: row by row, least byte first."""
        return self.array.astype(self.array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """What was found, in the order in which it was asked for."""

    model_name: str
    model_version: str
    id: str
    outputs: tuple[OutputTensor, ...]


def invalid(detail: str) -> Refused:
    """A 400: the request has to change."""
    return Refused(INVALID_INFERENCE, detail)


def too_large() -> Refused:
    """A 413."""
    return Refused(BODY_TOO_LARGE, f"Send at most {MESSAGE_LIMIT // 2**20} MiB at once, unpacked.")
