"""`raysight engine verify`: whether a package's engine on this machine finds what ONNX Runtime does on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.packages import Device, DeviceOption, Package, closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.package import ModelPackage
    from engines.protocol import Engine
    from engines.types import UInt8Array
    from engines.verify import Tolerance

GENERATED = 16
"""Frames that are made where no pictures are given."""

CPU_BATCH = 4
"""The largest batch that is tried on a CPU, which gains nothing from larger ones."""


def verify(
    package: Package,
    device: DeviceOption = Device.AUTO,
    images: Annotated[
        Path | None, typer.Option(help="A folder of pictures to compare on, in place of generated ones.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often a slot of a GPU is freed and made anew.")] = 1000,
) -> None:
    """Compare the engine of this machine with ONNX Runtime on the CPU, batch size by batch size, and look for leaks.

    Where TensorRT and a GPU are, a missing plan is built first. The exit status is 1 where anything leaks or differs
    by more than the tolerance, and 2 where the package or the machine can't be used.
    """
    from engines.onnx import OnnxEngine
    from engines.package import load_package
    from engines.trt.opening import lacks_plan
    from engines.verify import TOLERANCES, frames_of, generated_frames

    loaded = load_package(package)
    if "tensorrt" in device.allowed and lacks_plan(loaded):
        _build_plan(package, device)
    built = loaded.manifest.built
    tolerance = TOLERANCES[built.precision if built else "fp32"]
    with closing(_engine(loaded, device)) as engine, closing(OnnxEngine(loaded, max_batch_size=1)) as reference:
        frames = generated_frames(engine.info, GENERATED) if images is None else frames_of(images, engine.info)
        agree = _compare(engine, reference, frames, tolerance)
        tight = _leaks(engine, frames[0], rounds)
    if not (agree and tight):
        sys.exit(1)


def _build_plan(package: Path, device: Device) -> None:
    from engines.building.build import PlanOrder, add_plan
    from engines.errors import EngineError
    from serve_app.cli.watching import Bars

    try:
        with Bars() as bars:
            add_plan(package, PlanOrder(), bars)
    except EngineError as error:
        if device is Device.TENSORRT:
            raise
        print(f"TensorRT is left out, no plan could be built: {error}", file=sys.stderr)


def _engine(loaded: ModelPackage, device: Device) -> Engine:
    from engines.choose import choose_here, open_engine
    from engines.onnx import OnnxEngine

    if choose_here(loaded, device.allowed).engine == "cpu":
        return OnnxEngine(loaded, max_batch_size=CPU_BATCH)
    return open_engine(loaded, device.allowed)


def _compare(engine: Engine, reference: Engine, frames: Sequence[UInt8Array], tolerance: Tolerance) -> bool:
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from engines.verify import verify as compared

    info = engine.info
    print(f"{info.name} on {info.device} against ONNX Runtime on cpu")
    print(f"tolerance: {tolerance.box:g} px of the {info.width}x{info.height} input, {tolerance.score:g} of the score")
    table = Table()
    for column in ("batch", "objects", "box px", "score", "missed", "extra", "other class", ""):
        table.add_column(column, justify="right")
    agree, objects = True, 0
    progress = Console(stderr=True)
    for size, found in track(
        compared(engine, reference, frames, tolerance), "comparing", info.max_batch_size, console=progress
    ):
        agree, objects = agree and found.agrees, objects + found.compared
        numbers = (str(size), str(found.compared), f"{found.box:.3f}", f"{found.score:.4f}")
        counts = (str(found.missed), str(found.extra), str(found.tied))
        table.add_row(*numbers, *counts, "same" if found.agrees else "DIFFERENT")
    Console().print(table)
    if not objects and agree:
        print("no object was found in any frame, which proves little: name pictures with --images", file=sys.stderr)
        return False
    return agree


def _leaks(engine: Engine, frame: UInt8Array, rounds: int) -> bool:
    from rich.console import Console
    from rich.progress import Progress

    from engines.pipelined import PipelinedEngine
    from engines.verify import leaks

    if not isinstance(engine, PipelinedEngine):
        print("leaks: not looked for, as an engine on the CPU has no slots")
        return True
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("looking for leaks", total=rounds)
        growth = leaks(engine, frame, rounds, lambda: progress.advance(task))
    print(
        f"after {rounds} rounds: {growth.device_bytes / 2**20:+.1f} MiB on the device, "
        f"{growth.process_bytes / 2**20:+.1f} MiB in the process, {growth.files:+d} open files: "
        f"{'LEAKS' if growth.leaks else 'no leak'}"
    )
    return not growth.leaks
