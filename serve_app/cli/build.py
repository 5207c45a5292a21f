"""``raysight engine build``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.building.build import Outcome


class Precision(StrEnum):
    """What the network computes in."""

    FP16 = "fp16"
    FP32 = "fp32"


def build(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or the folder of a model package.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the package to write; without it, a package that was built gets another plan."),
    ] = None,
    family: Annotated[
        str, typer.Option(help="How the outputs are read: yolov9, yolo, yolo-nms-free, yolox, rtdetr, rfdetr, nanodet.")
    ] = "auto",
    precision: Annotated[Precision | None, typer.Option(help="fp16 unless told otherwise.")] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Frames at once, at most. [default: 32]")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=3840, help="Boxes that a frame gets. [default: 300]")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, for networks of any size.")] = None,
    classes: Annotated[Path | None, typer.Option(help="A text file with a class name a line.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name, else that of the file.")] = None,
    licence: Annotated[str | None, typer.Option(help="The model's licence, for the manifest.")] = None,
    plan: Annotated[
        bool | None, typer.Option("--plan/--no-plan", help="Build a TensorRT plan. [default: where that is possible]")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option(help="Plan for GPUs of another machine, such as 8.9, with TensorRT for RTX.")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="What TensorRT measured in earlier builds, else a file in the package.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the package at --output.")] = False,
) -> None:
    """Build a model package: wrap the network, convert it to fp16, and make a TensorRT plan of it."""
    from engines.building import build as building
    from engines.building.describe import Description
    from engines.errors import PackageError
    from engines.trt.device import ComputeCapability
    from serve_app.cli.watching import Bars

    capability = None if compute_capability is None else ComputeCapability.parse(compute_capability)
    wish = building.PlanOrder("possible" if plan is None else "always" if plan else "never", capability, timing_cache)
    said = Description(family, _size(size), classes, name, licence)
    given = {"precision": precision and precision.value, "max_batch": max_batch, "top_k": top_k}
    chosen = {key: value for key, value in given.items() if value is not None}
    with _ended_by_sigterm(), Bars() as bars:
        if output is None:
            if chosen or said != Description() or wish.wish == "never":
                raise PackageError("give --output; without it, a package that was built gets a plan as it is")
            outcome = building.add_plan(model, wish, bars)
        else:
            wrapping = building.Wrap(**chosen)  # type: ignore[arg-type]
            outcome = building.build(building.Order(model, output, wrapping, said, wish, force), bars)
    for line in report(outcome):
        typer.echo(line)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds, as Ctrl-C does, so that nothing half-written is left."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report(outcome: Outcome) -> list[str]:
    """What was written, line by line; the last has sizes and times."""
    manifest, conversion, plan = outcome.manifest, outcome.conversion, outcome.plan
    built = manifest.built
    assert built is not None
    spec = manifest.input
    lines = [
        f"{manifest.name}: {manifest.family}, {spec.width}x{spec.height} {spec.colour}, "
        f"{len(manifest.class_names)} classes, {built.precision}, "
        f"1 to {built.max_batch} frames, {built.top_k} boxes each"
    ]
    if conversion is not None:
        lines.append(f"{conversion.half} layers in fp16, {conversion.full} in fp32")
    if conversion is not None and conversion.clamped:
        lines.append(f"{conversion.clamped} weights were larger than fp16 has room for, and are its largest value now")
    sizes = f"model.onnx {_mebibytes(outcome.path / 'model.onnx')}"
    if plan is None:
        lines.append(f"no TensorRT plan: {outcome.no_plan}")
    else:
        lines.append(
            f"plan for {plan.facts.runtime} {plan.facts.version}, compute capability {plan.facts.compute_capability}"
        )
        sizes += f", {plan.path.parent.name}/{plan.path.name} {_mebibytes(plan.path)}"
    return [*lines, f"{outcome.path}: {sizes}, in {outcome.seconds:.1f} s"]


def _mebibytes(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def _size(text: str | None) -> tuple[int, int] | None:
    from engines.errors import PackageError

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise PackageError(f"--size is {text!r}; give it as WIDTHxHEIGHT, such as 640x640")
    return int(sides[0]), int(sides[1])
