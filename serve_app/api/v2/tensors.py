"""Elements of input tensors: from the protocol's bytes, JSON or typed contents to what the model takes.

Shapes come from a client: they are Python's integers, so that no product of them overflows, and they are compared with
what really arrived before anything of their size is made.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from engines.types import UInt8Array
from serve_app.api.v2.requests import InputTensor, invalid

_LENGTH_BYTES = 4
"""Before each element of BYTES: its length, least byte first."""


def read_uint8(tensor: InputTensor) -> UInt8Array:
    """The elements of a UINT8 tensor in its shape, without a copy where they came as bytes.

    Raises:
        Refused: they are not as many as the shape says, or no whole numbers from 0 to 255.
    """
    flat = np.frombuffer(tensor.raw, np.uint8) if tensor.raw is not None else _numbers(tensor)
    _require_count(tensor, flat.size)
    try:
        return flat.reshape(tensor.shape)
    except (ValueError, OverflowError):  # no elements, and a side beyond what an index can be
        raise invalid(f"The shape of {tensor.name} can't be.") from None


def read_bytes(tensor: InputTensor) -> list[bytes]:
    """The elements of a BYTES tensor, row by row; as JSON they are base64.

    Raises:
        Refused: they are not as many as the shape says, or can't be read.
    """
    elements = _split(tensor) if tensor.raw is not None else (_binary(tensor.name, value) for value in _flat(tensor))
    found = list(islice(elements, min(max(0, math.prod(tensor.shape)), sys.maxsize - 1) + 1))
    _require_count(tensor, len(found))
    return found


def join_bytes(elements: Sequence[bytes]) -> bytes:
    """Elements of BYTES as the protocol's bytes."""
    return b"".join(part for element in elements for part in (len(element).to_bytes(_LENGTH_BYTES, "little"), element))


def _require_count(tensor: InputTensor, count: int) -> None:
    if count != math.prod(tensor.shape) or min(tensor.shape, default=0) < 0:
        raise invalid(f"{tensor.name} doesn't have as many elements as its shape needs.")


def _numbers(tensor: InputTensor) -> UInt8Array:
    # Not through numpy.asarray, which makes all of a mixed list as large as its longest text.
    values = tensor.values if isinstance(tensor.values, bytes) else _flat(tensor)
    try:
        return np.frombuffer(bytes(values), np.uint8)
    except (TypeError, ValueError):
        raise invalid(f"{tensor.name} must hold whole numbers from 0 to 255.") from None


def _flat(tensor: InputTensor) -> list[Any]:
    """The elements of a list that is flat, or nested as the shape says."""
    if not isinstance(tensor.values, list):
        raise invalid(f"The data of {tensor.name} must be an array.")
    if not tensor.values or not isinstance(tensor.values[0], list):
        return tensor.values
    level = [tensor.values]
    for side in tensor.shape:
        if not all(isinstance(part, list) and len(part) == side for part in level):
            raise invalid(f"The data of {tensor.name} must be flat, or nested as its shape says.")
        level = list(chain.from_iterable(level))
    return level


def _split(tensor: InputTensor) -> Iterator[bytes]:
    assert tensor.raw is not None
    at, end = 0, len(tensor.raw)
    while at < end:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(tensor.raw[at:start], "little")
        if start > end or at > end:
            raise invalid(f"{tensor.name} ends within an element: each is its length in 4 bytes, then so many bytes.")
        yield bytes(tensor.raw[start:at])


def _binary(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise invalid(f"{name} as JSON must be base64 text; the binary extension takes it as it is.") from None
