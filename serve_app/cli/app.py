"""`raysight`: the command line. Each command lives in a module of its own; this one only puts them together."""

from __future__ import annotations

import sys

import typer

from deployments.errors import RaysightError
from engines.errors import EngineError, one_line
from serve_app.cli import build
from serve_app.cli.benchmark import benchmark
from serve_app.cli.evaluate import evaluate
from serve_app.cli.events import events
from serve_app.cli.inspect import inspect
from serve_app.cli.keys import keys
from serve_app.cli.load_test import load_test
from serve_app.cli.streams import streams
from serve_app.cli.verify import verify

app = typer.Typer(name="raysight", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
engine = typer.Typer(no_args_is_help=True, help="Build, look at and measure model packages.")
app.add_typer(engine, name="engine")
app.add_typer(events, name="events")
app.add_typer(keys, name="keys")
app.add_typer(streams, name="streams")
app.command("load-test")(load_test)
engine.command()(evaluate)
engine.command()(build.build)
engine.command()(inspect)
engine.command()(verify)
engine.command()(benchmark)


@app.callback()
def raysight() -> None:
    """Live video in, objects found in every frame, detections and annotated video out."""


@engine.callback()
def engines() -> None:
    """Build, look at and measure model packages."""


def main() -> None:
    """Run a command; what is wrong with its input is one line on standard error and exit status 2."""
    try:
        app()
    except (EngineError, RaysightError) as error:
        print(f"raysight: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
