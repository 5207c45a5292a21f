"""One trial of a wrapped network, with ONNX Runtime, before anything is handed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from engines.errors import PackageError, one_line
from engines.families.wrapped import BOXES, FRAMES, OUTPUTS, SCORES
from engines.manifest import Manifest

_FRAMES = 2
_MEND = "if its batch is fixed inside, export it with a dynamic one"


def try_out(model: Path, manifest: Manifest) -> None:
    """Run a batch of two frames of noise, or of one where the package takes no more.

    Raises:
        PackageError: the network can't run them, or gives numbers that are none.
    """
    spec, built = manifest.input, manifest.built
    size = min(_FRAMES, built.max_batch) if built is not None else 1
    frames = np.random.default_rng(0).integers(0, 256, (size, spec.height, spec.width, 3), np.uint8)
    try:
        session = onnxruntime.InferenceSession(model, _quiet(), providers=["CPUExecutionProvider"])
        results = session.run(None, {FRAMES: frames})
    except Exception as error:
        # ONNX Runtime's errors share no other base, and have line ends in them.
        raise PackageError(f"the network can't run a batch of {size} ({one_line(error)}); {_MEND}") from error
    outputs = {output.name: array for output, array in zip(session.get_outputs(), results, strict=True)}
    fixed = [output.shape[0] for output in session.get_outputs() if isinstance(output.shape[0], int)]
    if fixed or any(len(outputs[name]) != size for name in OUTPUTS):
        raise PackageError(f"the network gives {len(outputs[SCORES])} results for a batch of {size}; {_MEND}")
    if np.isnan(outputs[BOXES]).any() or not np.isfinite(outputs[SCORES]).all():
        raise PackageError(
            "the network gives boxes or scores that are no numbers, for frames of noise; "
            "build with --precision fp32, or export it again if that is no better"
        )


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says comes as an exception too
    return options
