"""Elements of tensors: what was written is read, and what does not add up is refused, never read past its end."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.problems import Refused
from serve_app.api.v2.requests import InputTensor
from serve_app.api.v2.tensors import join_bytes, read_bytes, read_uint8

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def _tensor(shape: tuple[int, ...], raw: bytes | None = None, values: Any = None) -> InputTensor:
    return InputTensor("x", "any", shape, None if raw is None else memoryview(raw), values)


@given(st.data(), shapes)
def test_uint8_is_read_as_it_was_written(data: st.DataObject, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    raw = data.draw(st.binary(min_size=size, max_size=size))
    wanted = np.frombuffer(raw, np.uint8).reshape(shape)
    for tensor in (
        _tensor(shape, raw),
        _tensor(shape, values=list(raw)),
        _tensor(shape, values=wanted.tolist()),
        _tensor(shape, values=raw),
    ):
        np.testing.assert_array_equal(read_uint8(tensor), wanted)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_bytes_are_read_as_they_were_written(elements: list[bytes]) -> None:
    shape = (len(elements),)
    assert read_bytes(_tensor(shape, join_bytes(elements))) == elements
    assert read_bytes(_tensor(shape, values=elements)) == elements
    assert read_bytes(_tensor(shape, values=[base64.b64encode(e).decode() for e in elements])) == elements
    assert (
        read_bytes(_tensor((len(elements), 1), values=[[base64.b64encode(e).decode()] for e in elements])) == elements
    )


@given(st.binary(max_size=40), st.lists(st.integers(-(2**70), 2**70), max_size=4).map(tuple))
def test_any_bytes_in_any_shape_are_read_or_refused(raw: bytes, shape: tuple[int, ...]) -> None:
    for read in (read_uint8, read_bytes):
        with suppress(Refused):
            found = read(_tensor(shape, raw))
            assert (found.size if isinstance(found, np.ndarray) else len(found)) == math.prod(shape)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=20,
)


@given(json_values, shapes)
def test_any_json_is_read_or_refused(values: Any, shape: tuple[int, ...]) -> None:
    for read in (read_uint8, read_bytes):
        with suppress(Refused):
            assert len(read(_tensor(shape, values=values))) == shape[0]


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ((2,), [1]),
        ((2,), [1, 256]),
        ((2,), [1, -1]),
        ((2,), [1, 1.0]),
        ((2,), [1, "1"]),
        ((2,), [1, 10**30]),
        ((2, 2), [[1, 2], [3]]),
        ((2, 2), [[1, 2, 3, 4]]),
        ((2, 2), [[1, 2], 3]),
        ((2**40, 2**40), [1]),
        ((2,), {"0": 1}),
        ((2,), ["x" * 10**6, *[""] * 10**6]),
    ],
)
def test_uint8_that_cannot_be(shape: tuple[int, ...], values: Any) -> None:
    with pytest.raises(Refused):
        read_uint8(_tensor(shape, values=values))
