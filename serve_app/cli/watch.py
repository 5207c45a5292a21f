"""`raysight streams watch`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, server, stream_ids
from serve_app.cli.stream_commands import in_path, overview, wrong
from serve_app.cli.streams import streams

if TYPE_CHECKING:
    from serve_app.client.server import Server

View = dict[str, Any]
Show = Callable[[list[View]], None]


@streams.command()
def watch(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STREAM]...", help="Ids of streams; all without.", autocompletion=stream_ids, show_default=False
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds from one look to the next.")] = 2.0,
    until: Annotated[str | None, typer.Option(help="End once all are in this state, such as online.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="End after so many seconds.")] = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Watch what streams do, until Ctrl-C.

    In a terminal that is a table, elsewhere a line for each change of a state; with --json a line for each stream and
    look. With --until the exit status is 0 once that is so, and 1 where a stream fails or the --timeout is over before.
    """
    looks = _looks(server(url, key), ids or (), every, timeout)
    try:
        if as_json:
            reached = _watch(looks, until, _lines())
        elif sys.stdout.isatty():
            from rich.live import Live

            from serve_app.cli.showing import console

            with Live(console=console(), auto_refresh=False) as live:
                reached = _watch(looks, until, lambda views: live.update(overview(views), refresh=True))
        else:
            reached = _watch(looks, until, _changes())
    except KeyboardInterrupt:
        reached = until is None
    if not reached:
        raise typer.Exit(1)


def _looks(asked: Server, ids: Sequence[str], every: float, timeout: float | None) -> Iterator[list[View]]:
    started, pause = time.monotonic(), threading.Event()
    while True:
        yield [asked.ask("GET", f"/v1/streams/{in_path(one)}") for one in ids] if ids else list(asked.streams())
        left = float("inf") if timeout is None else started + timeout - time.monotonic()
        if left <= 0:
            return
        pause.wait(min(every, left))


def _watch(looks: Iterator[list[View]], until: str | None, show: Show) -> bool:
    """Whether what was waited for came."""
    for views in looks:
        show(views)
        states = {view["status"]["state"] for view in views}
        if until is not None and states == {until}:
            return True
        if until is not None and "failed" in states:
            return False
    return until is None


def _lines() -> Show:
    from serve_app.cli.showing import line

    def show(views: list[View]) -> None:
        at = time.time()
        for view in views:
            line({"at": at, **view})

    return show


def _changes() -> Show:
    known: dict[str, tuple[str, str]] = {}

    def show(views: list[View]) -> None:
        for view in views:
            stream_id, state = view["spec"]["id"], (view["status"]["state"], wrong(view["status"]))
            if known.get(stream_id) != state:
                print("  ".join([time.strftime("%H:%M:%S"), stream_id, *filter(None, state)]), flush=True)
            known[stream_id] = state
        for gone in set(known) - {view["spec"]["id"] for view in views}:
            print(f"{time.strftime('%H:%M:%S')}  {gone}  deleted", flush=True)
            del known[gone]

    return show
