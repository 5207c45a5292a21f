"""What the commands that talk to a server have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serve_app.client.server import Server

COMPLETION_TIMEOUT_S = 2.0

SERVER_VARIABLES = ["RAYSIGHT_SERVER", "RAYSIGHT_URL"]

ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        "--url",
        envvar=SERVER_VARIABLES,
        metavar="URL",
        help="Of the API. [default: what `raysight up` started here, else http://127.0.0.1:8000]",
        show_envvar=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="RAYSIGHT_KEY", help="API key, where the server asks for one.", show_envvar=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def server(url: str | None, key: str | None) -> Server:
    """The server that a command is about."""
    from serve_app import background
    from serve_app.client.server import Server

    if url is None:
        here = background.read(background.default_folder(os.environ))
        url = here.server if here is not None and here.runs else "http://127.0.0.1:8000"
    return Server(url, key)


def stream_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so, for the shell; none where no server answers in time."""
    from deployments.errors import RaysightError

    try:
        # A group has no such options; its members find the variables by themselves.
        url = ctx.params.get("url") or next(filter(None, map(os.environ.get, SERVER_VARIABLES)), None)
        asked = server(url, ctx.params.get("key") or os.environ.get("RAYSIGHT_KEY"))
        page = asked.ask("GET", "/v1/streams?limit=1000", timeout_s=COMPLETION_TIMEOUT_S)
    except RaysightError:
        return []
    found = (str(view["spec"]["id"]) for view in page["items"])
    return [stream_id for stream_id in found if stream_id.startswith(incomplete)]


StreamIdArgument = Annotated[
    str, typer.Argument(metavar="STREAM", help="Id of the stream.", autocompletion=stream_ids, show_default=False)
]
StreamIdArguments = Annotated[
    list[str],
    typer.Argument(metavar="STREAM...", help="Ids of streams.", autocompletion=stream_ids, show_default=False),
]
