"""`raysight`: the command line. Each command lives in a module of its own; this one only puts them together."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from deployments.errors import RaysightError
from engines.errors import EngineError, one_line
from serve_app.cli import build, stream_commands, watch
from serve_app.cli.benchmark import benchmark
from serve_app.cli.evaluate import evaluate
from serve_app.cli.events import events
from serve_app.cli.inspect import inspect
from serve_app.cli.keys import keys
from serve_app.cli.load_test import load_test
from serve_app.cli.looking import detect, probe
from serve_app.cli.streams import streams
from serve_app.cli.system import down, status, up
from serve_app.cli.verify import verify
from serve_app.client.errors import ServerAway, ServerRefused
from serve_app.local import StartError

NOT_WELL, WRONG_INPUT, AWAY, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses: what was asked about isn't well; the input can't be used; no server answers; Ctrl-C."""

assert stream_commands, watch  # they add themselves to `streams`

app = typer.Typer(name="raysight", no_args_is_help=True, pretty_exceptions_enable=False)
engine = typer.Typer(no_args_is_help=True, help="Build, look at and measure model packages.")
app.add_typer(engine, name="engine")
app.add_typer(events, name="events")
app.add_typer(keys, name="keys")
app.add_typer(streams, name="streams")
for command in (up, down, status, probe, detect):
    app.command()(command)
app.command("load-test")(load_test)
engine.command()(evaluate)
engine.command()(build.build)
engine.command()(inspect)
engine.command()(verify)
engine.command()(benchmark)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"raysight {version('raysight')}")
        raise typer.Exit


@app.callback()
def raysight(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which release this is.")
    ] = False,
) -> None:
    """Live video in, objects found in every frame, detections and annotated video out.

    Exit status: 0 done and well, 1 what was asked about failed or isn't well, 2 wrong usage or input, 3 no server
    answers.
    """


@engine.callback()
def engines() -> None:
    """Build, look at and measure model packages."""


def main() -> None:
    """Run a command; what went wrong is one line on standard error and an exit status."""
    try:
        app()
    except ServerAway as error:
        _end(error, AWAY)
    except ServerRefused as error:
        _end(error, WRONG_INPUT if error.blames_the_request else NOT_WELL)
    except StartError as error:
        _end(error, NOT_WELL)
    except (EngineError, RaysightError) as error:
        _end(error, WRONG_INPUT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end(error: Exception, status: int) -> None:
    print(f"raysight: {one_line(error)}", file=sys.stderr)
    sys.exit(status)
