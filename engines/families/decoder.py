"""What each model family does: turn the model's outputs into scored boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

from numpy.typing import NDArray

from engines.manifest import Manifest
from engines.types import Float32Array, Int32Array, TensorSpec


class Candidates(NamedTuple):
    """Boxes of one frame that may be objects, overlapping ones included.

    ``boxes`` is float32 ``[N, 4]``, left, top, right, bottom in input pixels; ``scores`` is float32 ``[N, C]``, 0 to 1.
    """

    boxes: Float32Array
    scores: Float32Array


class Objects(NamedTuple):
    """Boxes of one frame that the model itself told apart: each is an object, so none suppresses another.

    ``boxes`` is as in `Candidates`; ``confidence`` is float32 ``[N]``, 0 to 1, in any order; ``class_id`` is int32
    ``[N]``. A box that is of two classes is there twice.
    """

    boxes: Float32Array
    confidence: Float32Array
    class_id: Int32Array


class Labelled(NamedTuple):
    """Candidates of one frame that have one class each already, and still overlap; the arrays are as in `Objects`."""

    boxes: Float32Array
    confidence: Float32Array
    class_id: Int32Array


Decoded = Candidates | Labelled | Objects
"""One frame's boxes, for `engines.postprocess.detections`."""


class Decoder(Protocol):
    """Reads the outputs of one model family."""

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder of a model with these outputs.

        Raises:
            PackageError: the outputs don't fit the family or the manifest.
        """
        ...

    def decode(self, outputs: Mapping[str, NDArray[Any]], floors: Sequence[float]) -> Sequence[Decoded]:
        """Decode the batch ``outputs``, which may hold more frames than there are ``floors``.

        Frame b keeps only the rows whose best score, or whose confidence, is at least ``floors[b]``. Few rows pass
        an ordinary threshold, and only those need their boxes worked out.
        """
        ...
