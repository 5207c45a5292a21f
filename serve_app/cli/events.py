"""`raysight events`: follow what is found, and send again what a sink refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deployments.errors import RaysightError, said
from serve_app.cli.options import AsJson, Key, ServerUrl, server, stream_ids

if TYPE_CHECKING:
    from deployments.streams.sinks.sender import Sender
    from deployments.streams.sinks.spec import SinkSpec
    from serve_app.client.sse import Event

SHOW = "show"


class _ShowUnlessNamed(TyperGroup):
    """`raysight events gate-3 --follow` is `raysight events show gate-3 --follow`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As ever, once the command has its name."""
        named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if named else [SHOW, *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Commands, and ids of streams."""
        (stream_id,) = (given for given in self.commands[SHOW].params if given.name == "stream_id")
        return [*super().shell_complete(ctx, incomplete), *stream_id.shell_complete(ctx, incomplete)]


events = typer.Typer(cls=_ShowUnlessNamed, no_args_is_help=True)


@events.callback()
def group() -> None:
    """Follow what is found: `raysight events [STREAM] --follow`. Send again what a sink refused: `replay`."""


@events.command(SHOW)
def show(
    stream_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[STREAM]", help="Id of the stream; all without.", autocompletion=stream_ids, show_default=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many. [default: 1 without --follow]")] = None,
    after: Annotated[
        int | None, typer.Option(min=-1, help="Of one stream: what the server keeps behind this sequence comes first.")
    ] = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Print what is found and what happens in zones, a line for each frame.

    Connections that break are made again, and go on behind what was seen last; what was lost all the same is told.
    """
    from serve_app.cli.showing import line, notice
    from serve_app.client.everyone import Everyone
    from serve_app.client.sse import follow as following

    if stream_id is None and after is not None:
        raise typer.BadParameter("sequences are those of one stream: name it", param_hint="--after")
    asked = server(url, key)
    found: Iterator[Event] = (
        Everyone(asked, notice).events() if stream_id is None else following(asked, stream_id, notice, after=after)
    )
    try:
        for event in islice(found, count or (None if follow else 1)):
            if as_json:
                line({"type": event.kind, **event.data})
            else:
                print(in_words(event), flush=True)
    except KeyboardInterrupt:
        return


def in_words(event: Event) -> str:
    """One line for people."""
    from datetime import UTC, datetime

    data = event.data
    at = datetime.fromtimestamp(data["captured_at"], UTC).strftime("%H:%M:%S.%f")[:-3] if "captured_at" in data else ""
    head = f"{at:12}  {data['stream_id']}"
    if event.kind == "detections":
        return f"{head} #{data['sequence']}  " + (", ".join(map(_object, data["detections"])) or "nothing")
    if event.kind == "zone":
        who = f"{data['label']} #{data['tracker_id']}"
        more = ", ".join(f"{name} {data[name]}" for name in ("direction", "reason", "seconds") if name in data)
        return f"{head} #{data['sequence']}  {data['zone']}: {who} {data['event']}" + (f" ({more})" if more else "")
    more = ", ".join(f"{name} {value}" for name, value in data.items() if name != "stream_id")
    return f"{head} {event.kind}: {more}"


def _object(detection: dict[str, Any]) -> str:
    number = detection.get("tracker_id")
    return f"{detection['label']} {detection['confidence']:.2f}" + (f" #{number}" if number is not None else "")


@events.command()
def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Dead letters, or what a file sink wrote.")],
    url: Annotated[str, typer.Option(help="Where to, as in a sink's `url`.", envvar="RAYSIGHT_SINK_URL")],
    secret: Annotated[
        str | None, typer.Option(help="Webhooks: the key that signs.", envvar="RAYSIGHT_SINK_SECRET", show_envvar=True)
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="So many events were sent already.")] = 0,
) -> None:
    """Send the events of a file, in their order. The file stays as it is.

    An event that the server refuses is counted, and the exit status is 1; where it fails or is away, this ends and says
    how far it came.
    """
    from pydantic import ValidationError

    from deployments.streams.sinks.dead_letters import read_letters
    from deployments.streams.sinks.sender import SinkDown, SinkFailed, SinkRefused
    from deployments.streams.sinks.spec import SinkSpec

    try:
        spec = SinkSpec.model_validate({"url": url, **({"credentials": {"secret": secret}} if secret else {})})
    except ValidationError as error:
        raise RaysightError(f"--url or --secret: {said(error.errors(include_input=False)[0])}") from None
    senders: dict[str, Sender] = {}
    done = sent = refused = 0
    try:
        with file.open("rb") as lines:
            for letter in read_letters(lines):
                if done >= skip:
                    stream_id = letter.key.partition("/")[0]
                    sender = senders.get(stream_id) or senders.setdefault(stream_id, _sender(spec, stream_id))
                    try:
                        sender.send(letter)
                        sent += 1
                    except SinkRefused as refusal:
                        refused += 1
                        print(f"{letter.key}: {refusal}")
                done += 1
    except (SinkDown, SinkFailed, RaysightError, OSError, ValueError) as error:
        raise RaysightError(f"{sent} sent, then: {error}; go on with --skip {done}") from None
    finally:
        for sender in senders.values():
            sender.close()
    print(f"{sent} sent, {refused} refused")
    if refused:
        raise typer.Exit(1)


def _sender(spec: SinkSpec, stream_id: str) -> Sender:
    """Files are written below the working directory."""
    from deployments.streams.policy import UrlPolicy
    from deployments.streams.sinks.sender import dial_by, open_sender

    here = Path.cwd()
    policy = UrlPolicy(media_root=here, output_root=here)
    return open_sender(spec.of(stream_id), stream_id, dial_by(policy), policy.check_sink)
