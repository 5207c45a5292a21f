"""Reading what is to be built: an exported network, or the package that it is in already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import external_data_helper, inliner

from engines.building.describe import Description, describe
from engines.building.graph import NEWEST_OPSET, OLDEST_OPSET
from engines.errors import PackageError, one_line
from engines.families import FAMILIES
from engines.families.decoder import Decoder
from engines.manifest import Manifest
from engines.package import inputs_of, load_package, open_model, outputs_of
from engines.types import TensorSpec

_LARGEST = 2**31 - 1
"""Bytes of one file of Protocol Buffers, the format of ONNX."""


@dataclass(frozen=True, slots=True)
class Source:
    """A network as it was exported, with all its weights, and what is known of it."""

    model: onnx.ModelProto
    manifest: Manifest
    outputs: tuple[TensorSpec, ...]
    decoder: Decoder

    @property
    def opset(self) -> int:
        """The version of the standard operators that it uses."""
        return _opset(self.model)


def read_source(path: Path, said: Description) -> Source:
    """Read an ONNX file, or the package in a folder, whose manifest then says all that ``said`` would.

    Raises:
        PackageError: it can't be built; one line says what was seen and how to mend it.
    """
    try:
        return _read_package(path, said) if path.is_dir() else _read_file(path, said)
    except PackageError as error:
        raise PackageError(f"{path}: {error}") from error


def _read_package(path: Path, said: Description) -> Source:
    if said != Description():
        raise PackageError("its manifest.json describes the model; leave out --family, --size, --classes and the like")
    package = load_package(path)
    if package.batch is not None:
        raise PackageError("the model takes one frame at a time; export it with a dynamic batch")
    if package.manifest.built is not None:
        raise PackageError("it is built already; leave out --output to add a plan to it, or build from the export")
    model = _load(package.model_path)
    # The package's sides count where the file leaves them open.
    _fix_size(model, package.manifest.input.width, package.manifest.input.height)
    return Source(model, package.manifest, package.outputs, package.decoder)


def _read_file(path: Path, said: Description) -> Source:
    model = _load(path)
    session = open_model(path)
    source = _only_input(inputs_of(session))
    width, height = _size(source, said.size)
    _fix_size(model, width, height)
    outputs = outputs_of(session, width, height)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    manifest = describe(path, source, outputs, (width, height), metadata, said)
    decoder = FAMILIES[manifest.family].check(outputs, manifest)
    return Source(model, manifest, outputs, decoder)


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise PackageError("there is no such file; name an ONNX file or the folder of a model package")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        # Protocol Buffers' errors share no base that it exports.
        raise PackageError(f"it isn't an ONNX model, or is cut off ({one_line(error)})") from error
    if not model.graph.node:
        raise PackageError("it has no layers, so it isn't an ONNX model, or is cut off")
    opset = _opset(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise PackageError(
            f"it is of opset {opset}, but {OLDEST_OPSET} to {NEWEST_OPSET} can be built; export it again with opset 17"
        )
    _load_external(model, path)
    if model.ByteSize() > _LARGEST:
        raise PackageError("it is larger than the 2 GiB that one ONNX file can hold; export a smaller model")
    return inliner.inline_local_functions(model) if model.functions else model


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Take in weights that lie in files beside the model."""
    for name, place, end in _external(model):
        file = path.parent / place
        if not file.is_file() or file.stat().st_size < end:
            what = "is cut off" if file.is_file() else "is missing"
            raise PackageError(f"its weights {name} are in {place}, which {what}; put that file beside it, whole")
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise PackageError(f"its weights can't be read ({one_line(error)}); export it again") from error


def _external(model: onnx.ModelProto) -> Iterator[tuple[str, str, int]]:
    """Name, file and end in it of each tensor that lies in another file."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            facts = {entry.key: entry.value for entry in tensor.external_data}
            try:
                end = int(facts.get("offset", 0)) + int(facts.get("length", 0))
            except ValueError as error:
                why = f"where its weights {tensor.name} lie is no number ({error})"
                raise PackageError(f"{why}; export it again") from error
            yield tensor.name, facts.get("location", "?"), end


def _opset(model: onnx.ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def _only_input(inputs: list[TensorSpec]) -> TensorSpec:
    seen = ", ".join(str(tensor) for tensor in inputs) or "none"
    if len(inputs) != 1:
        raise PackageError(
            f"a network to build has one input, but this one has {seen}; export it without post-processing, "
            "which is what asks for sizes of frames"
        )
    source = inputs[0]
    if source.dtype != "float32" or len(source.shape) != 4 or source.shape[1] not in (3, None):
        raise PackageError(f"its input is {seen}, but must be float32 [batch, 3, height, width]; export it so")
    if source.shape[0] is not None:
        raise PackageError(f"its input is {seen}, a fixed batch; export it with a dynamic batch")
    return source


def _size(source: TensorSpec, said: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height."""
    height, width = source.shape[2:]
    if height is None or width is None:
        if said is None:
            raise PackageError(f"its input {source} is of any size; say which to build by --size, such as 640x640")
        if any(side not in (None, want) for side, want in ((width, said[0]), (height, said[1]))):
            raise PackageError(f"its input {source} can't be {said[0]}x{said[1]}; give --size as the file has it")
        return said
    if said not in (None, (width, height)):
        raise PackageError(f"its input {source} is {width}x{height}; leave out --size, or export it for another")
    return width, height


def _fix_size(model: onnx.ModelProto, width: int, height: int) -> None:
    names = {tensor.name for tensor in model.graph.initializer}
    (source,) = (each for each in model.graph.input if each.name not in names)
    shape = source.type.tensor_type.shape
    for place, side in enumerate((3, height, width), 1):
        shape.dim[place].dim_value = side
