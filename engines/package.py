"""Model packages: a folder with ``model.onnx`` and the ``manifest.json`` that describes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from pydantic import ValidationError

from engines.errors import PackageError, one_line
from engines.families import FAMILIES
from engines.families.decoder import Decoder
from engines.families.wrapped import CLASSES, FRAMES, Wrapped
from engines.manifest import Manifest
from engines.types import EngineInfo, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A model that fits its description.

    Attributes:
        path: the folder.
        batch: None when the model takes any number of frames at once, else 1.
        outputs: in the model's order; only the batch may be None in a shape.
        decoder: reads those outputs.
    """

    path: Path
    manifest: Manifest
    batch: int | None
    outputs: tuple[TensorSpec, ...]
    decoder: Decoder

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"

    def info(self, max_batch_size: int, device: str) -> EngineInfo:
        """What callers must know of an engine that has loaded this."""
        declared = self.manifest.input
        return EngineInfo(
            name=self.manifest.name,
            family=self.manifest.family,
            width=declared.width,
            height=declared.height,
            colour=declared.colour,
            class_names=self.manifest.class_names,
            max_batch_size=max_batch_size,
            device=device,
            letterbox=declared.letterbox,
            pad=declared.pad,
        )


def load_package(path: Path) -> ModelPackage:
    """Read a model package and make sure that its parts fit each other.

    Raises:
        PackageError: they don't; one line says what is wrong, what was seen and how to mend it.
    """
    try:
        if not path.is_dir():
            raise PackageError("there is no such folder; name one with model.onnx and manifest.json in it")
        manifest = _read_manifest(path / "manifest.json")
        session = open_model(path / "model.onnx")
        batch = _check_input(inputs_of(session), manifest)
        outputs = outputs_of(session, manifest.input.width, manifest.input.height)
        family: type[Decoder] = FAMILIES[manifest.family] if manifest.built is None else Wrapped
        decoder = family.check(outputs, manifest)
    except PackageError as error:
        raise PackageError(f"model package {path}: {error}") from error
    return ModelPackage(path, manifest, batch, outputs, decoder)


def _read_manifest(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise PackageError(f"can't read {path.name} ({error.strerror}); add the file") from error
    except ValueError as error:
        raise PackageError(f"{path.name} isn't JSON ({error}); mend it there") from error
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        seen = repr(first["input"])[:80]
        raise PackageError(f"{path.name}: {field}: {first['msg']}, got {seen}; mend that field") from error
    if manifest.family not in FAMILIES:
        raise PackageError(
            f"{path.name}: family is {manifest.family!r}, which isn't known; use one of {', '.join(sorted(FAMILIES))}"
        )
    return manifest


def open_model(path: Path) -> onnxruntime.InferenceSession:
    """Open a model to look at its ends.

    Raises:
        PackageError: it isn't there, or ONNX Runtime can't load it.
    """
    if not path.is_file():
        raise PackageError(f"{path.name} is missing; add the exported model")
    options = onnxruntime.SessionOptions()
    # The session only reads the graph's ends: optimising it would cost more than all the rest.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's errors share no other base, and have line ends in them.
        reason = one_line(error)
        raise PackageError(f"ONNX Runtime can't load {path.name} ({reason}); export the model again") from error


def inputs_of(session: onnxruntime.InferenceSession) -> list[TensorSpec]:
    """What the model says of its inputs."""
    return [_spec(node) for node in session.get_inputs()]


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


def _check_input(inputs: list[TensorSpec], manifest: Manifest) -> int | None:
    """Return the model's batch: 1, or None for any."""
    if manifest.built is not None:
        _check_frames(inputs, manifest)
        return None
    declared = manifest.input
    seen = ", ".join(str(tensor) for tensor in inputs) or "none"
    if [tensor.name for tensor in inputs] != [declared.name]:
        raise PackageError(
            f"manifest.json names the input {declared.name!r}, but the model's inputs are {seen}; "
            "put the model's only input in manifest.json, or export it with one"
        )
    tensor = inputs[0]
    if tensor.dtype != "float32":
        raise PackageError(f"the model's input is {seen}, but must be float32; export it with float32 inputs")
    wanted = (3, declared.height, declared.width)
    if len(tensor.shape) != 4 or any(
        side not in (None, want) for side, want in zip(tensor.shape[1:], wanted, strict=True)
    ):
        raise PackageError(
            f"manifest.json says an input of width {declared.width} and height {declared.height}, "
            f"[batch, 3, {declared.height}, {declared.width}], but the model has {seen}; "
            "put the model's size in manifest.json, or export it with this one"
        )
    if tensor.shape[0] not in (None, 1):
        raise PackageError(f"the model's input is {seen}, a fixed batch; export it with a batch of 1 or a dynamic one")
    return tensor.shape[0]


def _check_frames(inputs: list[TensorSpec], manifest: Manifest) -> None:
    """Make sure that a wrapped network takes frames as they are, and any number of them."""
    wanted = TensorSpec(FRAMES, "uint8", (None, manifest.input.height, manifest.input.width, 3))
    if inputs != [wanted] or manifest.input.name != FRAMES:
        raise PackageError(
            f"manifest.json says built, with the input {manifest.input.name!r}, so the model takes {wanted} alone, but "
            f"it has {', '.join(str(tensor) for tensor in inputs) or 'none'}; build the package again"
        )


def outputs_of(session: onnxruntime.InferenceSession, width: int, height: int) -> tuple[TensorSpec, ...]:
    """Return the outputs with all but the batch known, finding out by one blank frame where the file doesn't say.

    Raises:
        PackageError: they aren't float32, but for the classes of a wrapped network, or the frame fails.
    """
    outputs = tuple(_spec(node) for node in session.get_outputs())
    for output in outputs:
        if output.dtype != "float32" and (output.name, output.dtype) != (CLASSES, "int32"):
            raise PackageError(f"the model has the output {output}, but must give float32; export it so")
    if not any(None in output.shape[1:] or not output.shape for output in outputs):
        return outputs
    try:
        arrays = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, height, width), np.float32)})
    except Exception as error:
        reason = one_line(error)
        raise PackageError(
            f"the model can't run a frame of {width}x{height} ({reason}); put a size that it takes in manifest.json"
        ) from error
    return tuple(
        TensorSpec(output.name, output.dtype, (None, *array.shape[1:]))
        for output, array in zip(outputs, arrays, strict=True)
    )
