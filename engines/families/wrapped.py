"""Networks that ``raysight engine build`` wrapped: whatever the family, they give each frame's best boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray

from engines.errors import PackageError
from engines.families.boxes import listed
from engines.families.decoder import Labelled, Objects
from engines.manifest import Manifest
from engines.types import TensorSpec

FRAMES = "frames"
"""The input, uint8 ``[batch, height, width, 3]`` in the manifest's colour order."""

BATCH = "batch"
"""What the first dimension of all of them is called."""

BOXES, SCORES, CLASSES = OUTPUTS = ("boxes", "scores", "classes")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Reads ``boxes`` float32 ``[B, K, 4]``, ``scores`` float32 ``[B, K]`` and ``classes`` int32 ``[B, K]``.

    Left, top, right, bottom in input pixels, by falling score. What ``suppress`` says in the manifest is whether they
    overlap as candidates do, or are objects. A class that the manifest doesn't name is dropped.
    """

    classes: int
    suppress: bool

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        built = manifest.built
        if built is None:
            raise PackageError("manifest.json doesn't say built, so the network isn't wrapped; build the package again")
        wanted = (
            TensorSpec(BOXES, "float32", (None, built.top_k, 4)),
            TensorSpec(SCORES, "float32", (None, built.top_k)),
            TensorSpec(CLASSES, "int32", (None, built.top_k)),
        )
        if {output.name: output for output in outputs} != {output.name: output for output in wanted}:
            raise PackageError(
                f"manifest.json says built with top_k {built.top_k}, so the model gives {listed(wanted)}, "
                f"but it has {listed(outputs)}; build the package again"
            )
        return cls(len(manifest.class_names), built.suppress)

    def decode(self, outputs: Mapping[str, NDArray[Any]], floors: Sequence[float]) -> list[Labelled | Objects]:
        """Decode a batch; see `Decoder.decode`."""
        kind = Labelled if self.suppress else Objects
        frames: list[Labelled | Objects] = []
        for boxes, scores, classes, floor in zip(*(outputs[name] for name in OUTPUTS), floors, strict=False):
            kept = (scores >= floor) & (classes >= 0) & (classes < self.classes)
            frames.append(kind(boxes[kept], scores[kept], classes[kept]))
        return frames
