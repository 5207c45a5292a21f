"""`raysight up`, `down` and `status`: a system on this machine, and how any is doing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, server

if TYPE_CHECKING:
    from serve_app.client.server import Server

StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="RAYSIGHT_STATE",
        file_okay=False,
        help="Where it is written down what runs. [default: ~/.local/state/raysight]",
        show_envvar=True,
    ),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Of the API, else the one in the file.")]
DashboardPort = Annotated[int, typer.Option(min=1, max=65535, help="Of Ray's dashboard.")]


def up(
    config: Annotated[Path, typer.Option(help="What to start.", show_default=True)] = Path("serve_config.yaml"),
    api_port: Port = None,
    dashboard_port: DashboardPort = 8265,
    state: StateFolder = None,
    as_json: AsJson = False,
) -> None:
    """Start a system on this machine, in the background and on the loopback; returns once it is ready.

    Folders in the file that don't begin with / are those below the folder in which this is called. `raysight down`
    ends it.
    """
    import yaml

    from serve_app import background
    from serve_app.cli.showing import document
    from serve_app.local import Ports

    if not config.is_file():
        raise typer.BadParameter(
            f"there is no file {config}: name one, as raysight's checkout has it", param_hint="--config"
        )
    folder = _folder(state)
    try:
        port = api_port or yaml.safe_load(config.read_text()).get("http_options", {}).get("port", 8000)
        if not isinstance(port, int):
            raise ValueError(port)
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        raise typer.BadParameter(f"{config} is no configuration of Serve", param_hint="--config") from None
    if port == dashboard_port:
        raise typer.BadParameter(f"{port} is the API's port already", param_hint="--dashboard-port")
    with _progress() as say:
        system, started = background.up(config, Ports(port, dashboard_port), folder, say)
    if as_json:
        shown = {name: getattr(system, name) for name in ("server", "dashboard", "pid", "config", "since")}
        document({**shown, "started": started, "state": str(folder), "logs": system.folder})
        return
    print(f"{system.server} {'is ready' if started else 'runs already'} (process {system.pid}, {system.config})")
    print(f"Ray's dashboard: {system.dashboard}, which asks for the token in {folder / 'system.json'}")
    print(f"logs: {system.folder}; `raysight down` ends it")


def down(state: StateFolder = None, as_json: AsJson = False, key: Key = None) -> None:
    """End what `raysight up` started, its streams first. They come back with the next start."""
    from serve_app import background
    from serve_app.cli.showing import document

    folder = _folder(state)
    with _progress() as say:
        ended = background.down(folder, key, say)
    if as_json:
        document({"ended": ended is not None, "server": ended and ended.server})
    else:
        print(f"{ended.server} has ended" if ended is not None else f"nothing runs that {folder} knows of")


def status(as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Show how a server is doing; the exit status is 1 where it isn't ready or a stream has failed."""
    from serve_app.cli.showing import document

    found = _status_of(server(url, key))
    if as_json:
        document(found)
    else:
        _print_status(found)
    if not found["ready"] or "failed" in found["streams"]["by_state"]:
        raise typer.Exit(1)


def _folder(state: Path | None) -> Path:
    from serve_app import background

    return (state or background.default_folder(os.environ)).absolute()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Stages, drawn on standard error where somebody watches and as lines elsewhere."""
    from serve_app.cli.showing import console, notice
    from serve_app.cli.watching import Bars

    err = console(err=True)
    if not err.is_terminal:
        yield notice
        return
    with Bars(err) as bars:
        yield bars.stage


def _status_of(asked: Server) -> dict[str, Any]:
    from serve_app.client.errors import ServerRefused

    def unless_refused(path: str) -> tuple[Any, str | None]:
        try:
            return asked.ask("GET", path), None
        except ServerRefused as error:
            if error.blames_the_request:  # no key, or no raysight
                raise
            return None, str(error)

    described, _ = unless_refused("/openapi.json")
    _, unready = unless_refused("/readyz")
    models, _ = unless_refused("/v1/models")
    capacity, _ = unless_refused("/v1/capacity")
    states: Counter[str] = Counter()
    try:
        states.update(view["status"]["state"] for view in asked.streams())
    except ServerRefused as error:
        unready = unready or str(error)
    return {
        "server": asked.url,
        "version": described and described["info"]["version"],
        "ready": unready is None,
        "reason": unready,
        "streams": {"total": states.total(), "by_state": dict(sorted(states.items()))},
        "models": models["items"] if models is not None else [],
        "capacity": capacity,
    }


def _print_status(found: dict[str, Any]) -> None:
    from rich.text import Text

    from serve_app.cli.showing import console, number, state_text, table

    out = console()
    ready = Text("ready", "green") if found["ready"] else Text(f"not ready: {found['reason']}", "bold red")
    out.print(Text.assemble(f"raysight {found['version']} at {found['server']}: ", ready))
    line = Text(f"streams: {found['streams']['total']}")
    for state, count in found["streams"]["by_state"].items():
        line.append(f", {count} ").append(state_text(state))
    out.print(line)
    capacity = found["capacity"]
    if capacity is not None:
        fits = "not measured yet" if capacity["free"] is None else f"{capacity['free']} more fit at {capacity['fps']:g}"
        limit = f", then runs out: {capacity['limit']}" if capacity["limit"] is not None else ""
        used = f"{number(capacity['used_fps'])} of {number(capacity['engine_fps'])} frames a second taken"
        out.print(f"room: {fits} fps{limit}; {used}" if capacity["free"] is not None else f"room: {fits}")
    if found["models"]:
        shown = table("model", "package", "input", "device", "replicas", "frames/s", right=("replicas", "frames/s"))
        for model in found["models"]:
            size = f"{model['width']}x{model['height']}"
            speed = number(model["engine_fps"], 0)
            shown.add_row(model["name"], model["engine"], size, model["device"], str(model["replicas"]), speed)
        out.print(shown)
