"""`raysight engine benchmark`: how fast a package's engine is on this machine, by itself."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.packages import Device, DeviceOption, Package, closing, gpu_of
from serve_app.cli.results import unwritable

if TYPE_CHECKING:
    from engines.benchmark import Figures
    from engines.types import EngineInfo


def benchmark(
    package: Package,
    device: DeviceOption = Device.AUTO,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each batch size is measured.")] = 10.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them into this file, a PNG.")] = None,
) -> None:
    """Measure the engine alone: the latency of a batch, and frames a second, for each batch size.

    The streams that fit are the frames a second divided by a stream's, rounded down.
    """
    from rich.console import Console
    from rich.progress import track

    from engines.benchmark import benchmark as measured
    from engines.benchmark import sizes
    from engines.choose import open_engine
    from engines.errors import EngineError
    from engines.package import load_package
    from engines.verify import generated_frames

    if (why := unwritable(json_path, plot=plot)) is not None:
        raise EngineError(why)
    with closing(open_engine(load_package(package), device.allowed)) as engine:
        info, gpu = engine.info, gpu_of(engine)
        runs = measured(engine, generated_frames(info, min(8, info.max_batch_size)), seconds, gpu)
        total = len(sizes(info.max_batch_size))
        figures = list(track(runs, "measuring", total, console=Console(stderr=True)))
    _print(info, figures)
    if json_path is not None:
        json_path.write_text(json.dumps(_document(info, figures), indent=1) + "\n")
    if plot is not None:
        _draw(info, figures, plot)


def _print(info: EngineInfo, figures: list[Figures]) -> None:
    from rich.console import Console
    from rich.table import Table

    from engines.benchmark import STREAM_FPS

    print(f"{info.name} on {info.device}, {info.width}x{info.height}")
    table = Table()
    streams = [f"at {fps}" for fps in STREAM_FPS]
    for column in (
        "batch",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "frames/s",
        f"{figures[0].utilisation_of.upper()} %",
        *streams,
    ):
        table.add_column(column, justify="right")
    for each in figures:
        latency = (f"{value:.2f}" for value in (each.p50_ms, each.p95_ms, each.p99_ms))
        fit = (str(each.streams(fps)) for fps in STREAM_FPS)
        table.add_row(str(each.batch), *latency, f"{each.fps:.1f}", f"{each.utilisation:.0f}", *fit)
    Console().print(table)


def _document(info: EngineInfo, figures: list[Figures]) -> dict[str, Any]:
    from engines import circumstances
    from engines.benchmark import STREAM_FPS

    return {
        **circumstances.of(" ".join(["raysight", *sys.argv[1:]])),
        "name": info.name,
        "device": info.device,
        "width": info.width,
        "height": info.height,
        "batches": [
            {**asdict(each), "streams": {str(fps): each.streams(fps) for fps in STREAM_FPS}} for each in figures
        ],
    }


def _draw(info: EngineInfo, figures: list[Figures], path: Path) -> None:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 4.5), layout="constrained")
    latency = drawing.add_subplot()
    batches = [each.batch for each in figures]
    for name, style in (("p50_ms", "o-"), ("p99_ms", "o:")):
        latency.plot(batches, [getattr(each, name) for each in figures], style, color="tab:blue", label=name[:3])
    latency.set(xlabel="batch size", ylabel="latency of a batch, ms", title=f"{info.name} on {info.device}")
    latency.set_xscale("log", base=2)
    latency.set_xticks(batches, [str(batch) for batch in batches])
    latency.set_ylim(bottom=0)
    rate = latency.twinx()
    rate.plot(batches, [each.fps for each in figures], "s-", color="tab:orange", label="frames/s")
    rate.set_ylabel("frames a second")
    rate.set_ylim(bottom=0)
    drawing.legend(loc="outside lower center", ncols=3)
    drawing.savefig(path, format="png", dpi=120)
