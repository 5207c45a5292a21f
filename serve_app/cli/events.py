"""`raysight events`: send again what a sink refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.errors import RaysightError

if TYPE_CHECKING:
    from deployments.streams.sinks.sender import Sender
    from deployments.streams.sinks.spec import SinkSpec

events = typer.Typer(no_args_is_help=True, help="Events that were sent elsewhere.")


@events.callback()
def group() -> None:
    """Events that were sent elsewhere."""


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

    An event that the server refuses is counted; where it fails or is away, this ends and says how far it came.
    """
    from pydantic import ValidationError

    from deployments.streams.sinks.dead_letters import read_letters
    from deployments.streams.sinks.sender import SinkDown, SinkFailed, SinkRefused
    from deployments.streams.sinks.spec import SinkSpec

    try:
        spec = SinkSpec.model_validate({"url": url, **({"credentials": {"secret": secret}} if secret else {})})
    except ValidationError as error:
        raise RaysightError(f"--url or --secret: {error.errors(include_input=False)[0]['msg']}") from None
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


def _sender(spec: SinkSpec, stream_id: str) -> Sender:
    """Files are written below the working directory."""
    from deployments.streams.policy import UrlPolicy
    from deployments.streams.sinks.sender import dial_by, open_sender

    here = Path.cwd()
    policy = UrlPolicy(media_root=here, output_root=here)
    return open_sender(spec.of(stream_id), stream_id, dial_by(policy), policy.check_sink)
