"""One trial of a wrapped network, with ONNX Runtime, before anything is handed over."""

from __future__ import annotations

import numpy as np
import onnxruntime

from engines.errors import PackageError
from engines.families.wrapped import BOXES, CLASSES, FRAMES, OUTPUTS, SCORES
from engines.package import ModelPackage

_FRAMES = 2


def try_out(package: ModelPackage) -> None:
    """Run a batch of two frames of noise, or of one where the package takes no more.

    Raises:
        PackageError: the network can't run them, or gives numbers that are none.
    """
    spec, built = package.manifest.input, package.manifest.built
    size = min(_FRAMES, built.max_batch) if built is not None else 1
    frames = np.random.default_rng(0).integers(0, 256, (size, spec.height, spec.width, 3), np.uint8)
    try:
        session = onnxruntime.InferenceSession(package.model_path, _quiet(), providers=["CPUExecutionProvider"])
        results = session.run(None, {FRAMES: frames})
    except Exception as error:
        # ONNX Runtime's errors share no other base, and have line ends in them.
        reason = " ".join(str(error).split())
        raise PackageError(
            f"the network can't run a batch of {size} frames ({reason}); "
            "export it with a batch that is dynamic inside too"
        ) from error
    outputs = dict(zip((output.name for output in session.get_outputs()), results, strict=True))
    if any(len(outputs[name]) != size for name in OUTPUTS):
        raise PackageError(f"the network gives {len(outputs[CLASSES])} results for {size} frames; export it again")
    if not (np.isfinite(outputs[BOXES]).all() and np.isfinite(outputs[SCORES]).all()):
        raise PackageError(
            "the network gives boxes or scores that are no numbers, for frames of noise; "
            "build with --precision fp32, or export it again if that is no better"
        )


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says comes as an exception too
    return options
