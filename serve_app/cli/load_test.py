"""``raysight load-test``: how many frames a second a running server manages, and how long each takes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.utilisation import Utilisation
from serve_app.cli.results import unwritable
from serve_app.load_test.levels import P99_BUDGET_MS, Level, LoadTestError, NotReady, read_concurrency
from serve_app.load_test.report import by_way, document, summary

if TYPE_CHECKING:
    from serve_app.load_test.targets import Target, Tensor

CLIENT_CPU_WORTH_A_WORD = 0.9
"""Cores that the client may take before it is named: it runs on one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    url: str
    grpc: str | None
    model: str
    steps: tuple[int, ...]
    seconds_each: float
    image: bytes | None

    @property
    def sends(self) -> str:
        """What a request holds, for people."""
        return "a letterboxed frame" if self.image is None else "an encoded image"


def load_test(
    url: Annotated[str, typer.Argument(help="Of the API, such as http://127.0.0.1:8000.", show_default=False)],
    grpc: Annotated[
        str | None, typer.Option("--grpc", metavar="HOST:PORT", help="Measure over gRPC too, at this address.")
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Requests at once, one level after the other.")] = "1,2,4..256",
    seconds_each: Annotated[float, typer.Option(min=0.1, max=600, help="How long each level is measured.")] = 5.0,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Send this JPEG or PNG instead of a letterboxed frame.")
    ] = None,
    model: Annotated[str, typer.Option(help="The model's name on the server.")] = "default",
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all of it, with hardware and versions.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw latency against concurrency, as PNG.")
    ] = None,
) -> None:
    """Measure a running server with closed loops over the inference protocol, and say which streams fit.

    Where the server asks for a key, RAYSIGHT_KEY holds one of an operator.
    """
    try:
        plan = Plan(url, grpc, model, read_concurrency(concurrency), seconds_each, _read(image))
        if (why := unwritable(as_json, plot=plot)) is not None:
            raise LoadTestError(why)
        levels, name, device = asyncio.run(_measure(plan))
    except LoadTestError as error:
        typer.echo(f"raysight: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, NotReady) else 2) from None
    _conclude(levels)
    if as_json is not None:
        target = {"url": url, "grpc": grpc, "model": name, "sends": plan.sends, "seconds_each": seconds_each}
        command = " ".join(["raysight", *sys.argv[1:]])
        as_json.write_text(json.dumps(document(levels, device, target, command), indent=2) + "\n")
    if plot is not None:
        from serve_app.load_test.plot import write_plot

        write_plot(plot, levels, device, f"{name}, {plan.sends} a request")


async def _measure(plan: Plan) -> tuple[list[Level], str, str]:
    """The levels, the model's name, and whose utilisation is in them."""
    from serve_app.load_test.run import load_test as levels_of
    from serve_app.load_test.targets import GrpcTarget, HttpTarget, image_tensor

    levels: list[Level] = []
    key = os.environ.get("RAYSIGHT_KEY") or None  # no option: the results quote the command line
    tensor: Tensor | None = None if plan.image is None else image_tensor(plan.image)
    async with AsyncExitStack() as stack:
        targets: list[Target] = [HttpTarget(plan.url, plan.model, key)]
        stack.push_async_callback(targets[0].close)
        if plan.grpc is not None:
            targets.append(GrpcTarget(plan.grpc, plan.model, key))
            stack.push_async_callback(targets[1].close)
        names = [(await target.facts()).name for target in targets]
        with Utilisation(None) as busy:
            for target in targets:
                typer.echo(f"{target.over:<12}  frames/s   p50 ms   p95 ms   p99 ms   {busy.of.upper()}   failed")
                async for level in levels_of(target, tensor, plan.steps, plan.seconds_each, busy):
                    levels.append(level)
                    typer.echo(_line(level))
    return levels, names[0], busy.of.upper()


def _line(level: Level) -> str:
    times = (level.p50_ms, level.p95_ms, level.p99_ms)
    shown = "".join("        -" if value is None else f"{value:9.1f}" for value in times)
    busy = "   -" if level.utilisation is None else f"{level.utilisation:4.0%}"
    failed = ", ".join(f"{count} x {kind}" for kind, count in level.failed.items())
    slow = "  (the client took a whole core: it may be what is slow)" * (level.client_cpu > CLIENT_CPU_WORTH_A_WORD)
    return f"{level.concurrency:>4} at once {level.fps:9.1f}{shown}  {busy}   {failed}{slow}".rstrip()


def _conclude(levels: list[Level]) -> None:
    for over, part in by_way(levels).items():
        found = summary(part)
        fit = ", ".join(f"{streams} of {rate} fps" for rate, streams in found["fit"].items())
        typer.echo(f"{over}: {found['fps']:g} frames/s; with p99 under {P99_BUDGET_MS:g} ms fit {fit}")


def _read(image: Path | None) -> bytes | None:
    try:
        return None if image is None else image.read_bytes()
    except OSError as error:
        raise LoadTestError(f"--image {image} can't be read: {error.strerror}") from None
