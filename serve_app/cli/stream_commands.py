"""`raysight streams list`, `show`, `add`, `pause`, `resume`, `restart`, `rm`: one stream after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, StreamIdArgument, StreamIdArguments, server
from serve_app.cli.streams import streams

View = dict[str, Any]

Labels = Annotated[list[str] | None, typer.Option("--label", help="KEY=VALUE; repeat for several.")]
Credentials = Annotated[
    str | None,
    typer.Option(
        envvar="RAYSIGHT_SOURCE_CREDENTIALS",
        help="user:password of the source, where they are not in its URL.",
        show_envvar=True,
    ),
]
SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--spec", exists=True, dir_okay=False, help="YAML or JSON with the rest of the spec, as docs/api.md has it."
    ),
]


@streams.command("list")
def list_streams(
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    label: Labels = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """List the streams, with what they do now."""
    from serve_app.cli.showing import console, document

    views = list(server(url, key).streams(state, tuple(label or ())))
    if as_json:
        document({"items": views})
        return
    console().print(overview(views))


@streams.command()
def show(stream_id: StreamIdArgument, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Show a stream; the exit status is 1 where it has failed."""
    from serve_app.cli.showing import console, document

    view = server(url, key).ask("GET", f"/v1/streams/{in_path(stream_id)}")
    if as_json:
        document(view)
    else:
        console().print(details(view))
    if view["status"]["state"] == "failed":
        raise typer.Exit(1)


@streams.command()
def add(
    source: Annotated[str, typer.Argument(metavar="URL", help="Of the source: rtsp://..., file:..., testsrc://...")],
    stream_id: Annotated[str | None, typer.Option("--id", help="Else the server picks one.")] = None,
    label: Labels = None,
    confidence: Annotated[float | None, typer.Option(help="Least confidence of a detection.")] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Report these only; repeat.")] = None,
    max_fps: Annotated[float | None, typer.Option(help="Frames a second to infer at most.")] = None,
    model: Annotated[str | None, typer.Option(help="What detects.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Follow objects from frame to frame.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Files: begin again at the end.")] = False,
    output: Annotated[list[str] | None, typer.Option(help="URL for annotated video; repeat for several.")] = None,
    sink: Annotated[list[str] | None, typer.Option(help="URL for events; repeat for several.")] = None,
    credentials: Credentials = None,
    spec: SpecFile = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Create a stream. What options name wins over what is in --spec."""
    detect = {"confidence": confidence, "classes": classes, "max_fps": max_fps, "model": model}
    user, colon, password = (credentials or "").partition(":")
    named = {
        "id": stream_id,
        "source": {
            "url": source,
            "loop": loop or None,
            "credentials": {"username": user, **({"password": password} if colon else {})} if credentials else None,
        },
        "detect": detect,
        "track": {} if track else None,
        "outputs": [{"url": one} for one in output] if output else None,
        "sinks": [{"url": one} for one in sink] if sink else None,
        "labels": _labels(label or ()),
    }
    body = _over(_read(spec), named)
    _changed([server(url, key).ask("POST", "/v1/streams", body)], "is added", as_json)


@streams.command()
def pause(ids: StreamIdArguments, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Pause streams: their sources are left alone until they are resumed."""
    _patch(ids, {"paused": True}, "is to pause", as_json, url, key)


@streams.command()
def resume(ids: StreamIdArguments, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Resume streams that are paused."""
    _patch(ids, {"paused": False}, "is to go on", as_json, url, key)


@streams.command()
def restart(ids: StreamIdArguments, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Reconnect the sources of streams now."""
    asked = server(url, key)
    _changed([asked.ask("POST", f"/v1/streams/{in_path(one)}/restart") for one in ids], "reconnects", as_json)


@streams.command()
def rm(ids: StreamIdArguments, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """Delete streams; returns once they have stopped."""
    from serve_app.cli.showing import document

    asked = server(url, key)
    for one in ids:
        asked.ask("DELETE", f"/v1/streams/{in_path(one)}")
        if not as_json:
            print(f"{one}: deleted")
    if as_json:
        document({"deleted": ids})


def in_path(stream_id: str) -> str:
    """As a part of a path."""
    from urllib.parse import quote

    return quote(stream_id, safe="")


def overview(views: Sequence[View]) -> Any:
    """A table with a line for each stream."""
    from serve_app.cli.showing import number, state_text, table

    made = table(
        "stream", "state", "fps", "p99 ms", "found", "source", "what is wrong", right=("fps", "p99 ms", "found")
    )
    for view in views:
        status = view["status"]
        latency = status["latency_ms"].get("whole") or {}
        made.add_row(
            view["spec"]["id"],
            state_text(status["state"]),
            number(status["fps"].get("inferred")),
            number(latency.get("p99"), 0),
            str(status["detections"]),
            view["spec"]["source"]["url"],
            wrong(status),
        )
    return made


def details(view: View) -> Any:
    """A table with a line for each thing worth knowing of one stream."""
    from serve_app.cli.showing import number, state_text, table

    spec, status = view["spec"], view["status"]
    made = table("stream", spec["id"])
    made.add_row("state", state_text(status["state"]))
    for name, value in _rows(spec, status):
        made.add_row(name, value)
    for name, rate in status["fps"].items():
        made.add_row(f"{name} a second", number(rate))
    if latency := status["latency_ms"].get("whole"):
        made.add_row("latency, ms", ", ".join(f"{name} {number(value, 0)}" for name, value in latency.items()))
    for kind in ("outputs", "sinks"):
        for one in status[kind]:
            made.add_row(kind[:-1], f"{one['url']}  {one['state']}")
            if one["last_error"] is not None:
                made.add_row("", one["last_error"]["message"])
    for zone in status["zones"]:
        made.add_row("zone", f"{zone['name']}  " + counts_of(zone))
    return made


def counts_of(zone: dict[str, Any]) -> str:
    """What was counted in a zone, by what happened and label."""
    found = []
    for what in ("inside", "entered", "left", "dwelled", "crossed"):
        for name, value in (zone.get(what) or {}).items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            found += [f"{what} {name} {label}".strip() + f": {count}" for label, count in inner]
    return ", ".join(found)


def _rows(spec: dict[str, Any], status: dict[str, Any]) -> list[tuple[str, str]]:
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(status["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if status["since"] else ""
    source, frames = status["source"] or {}, status["frames"]
    rows = [
        ("since", since),
        ("why", wrong(status)),
        ("source", spec["source"]["url"]),
        ("video", f"{source['decoder'] or source['codec']} {source['width']}x{source['height']}" if source else ""),
        ("labels", ", ".join(f"{name}={value}" for name, value in spec["labels"].items())),
        ("node", status["node"] or ""),
        ("frames", f"{frames['decoded']} decoded, {frames['inferred']} inferred, {frames['published']} published"),
        ("objects found", str(status["detections"])),
    ]
    return [(name, value) for name, value in rows if value]


def wrong(status: dict[str, Any]) -> str:
    """Why a stream is not online, in words; its last error while it isn't."""
    error = status["last_error"]
    if status["state"] in ("online", "paused"):
        return status["reason"] or ""
    return status["reason"] or (f"{error['code']}: {error['message']}" if error is not None else "")


def _patch(
    ids: Sequence[str], change: dict[str, Any], what: str, as_json: bool, url: str | None, key: str | None
) -> None:
    asked = server(url, key)
    _changed([asked.ask("PATCH", f"/v1/streams/{in_path(one)}", change) for one in ids], what, as_json)


def _changed(views: list[View], what: str, as_json: bool) -> None:
    """``what``: in words, what is going to happen; the state in the answer is the one before it."""
    from serve_app.cli.showing import document

    if as_json:
        document({"items": views})
        return
    for view in views:
        print(f"{view['spec']['id']} {what}")


def _labels(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if any(not name or not separator for name, separator, _ in pairs):
        raise typer.BadParameter("a label is KEY=VALUE", param_hint="--label")
    return {name: value for name, _, value in pairs}


def _read(spec: Path | None) -> dict[str, Any]:
    import json

    import yaml

    if spec is None:
        return {}
    try:
        found = json.loads(json.dumps(yaml.safe_load(spec.read_text()), default=str))  # YAML has dates
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{spec} is neither YAML nor JSON of a spec", param_hint="--spec")
    return found


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``; None in it says nothing."""
    made = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and name != "credentials":
            lower = made.get(name) or {}
            if not isinstance(lower, dict):
                raise typer.BadParameter(f"{name} has to be a mapping", param_hint="--spec")
            inner = _over(lower, value)
            if inner or name == "track":
                made[name] = inner
        elif value is not None:
            made[name] = value
    return made
