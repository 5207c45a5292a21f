"""Server-sent events of a stream, across broken connections."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from deployments.streams.backoff import Backoff
from serve_app.client.errors import ServerAway, ServerRefused
from serve_app.client.server import Server

SILENCE_S = 45.0
"""A server says something every 15 s."""

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Event:
    """What docs/api.md has under `Detections as events`.

    Attributes:
        kind: ``detections``, ``zone``, ``gap`` or ``end``.
        sequence: of ``detections``; what was seen up to it does not come again.
        data: the event; of ``gap`` and ``end`` with `stream_id` as well.
    """

    kind: str
    sequence: int | None
    data: dict[str, Any]


def parse(lines: Iterable[bytes]) -> Iterator[tuple[str, str | None, str]]:
    """Name, id and data of each event; comments and what is not ended by an empty line are left out."""
    name, number, data = "message", None, list[str]()
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not text:
            if data:
                yield name, number, "\n".join(data)
            name, number, data = "message", None, []
        elif field == "event":
            name = value
        elif field == "id":
            number = value
        elif field == "data":
            data.append(value)


def follow(
    server: Server,
    stream_id: str,
    notice: Notice,
    *,
    after: int | None = None,
    stopped: threading.Event | None = None,
    backoff: Callable[[], Backoff] = Backoff,
) -> Iterator[Event]:
    """Events until the stream is deleted or ``stopped`` is set; after a break it goes on behind what was seen last.

    Args:
        notice: told in words that the connection broke.
        after: begin behind this sequence, with what the server still keeps; None: with what comes from now on.

    Raises:
        ServerAway, ServerRefused: the first connection failed, or the server refuses for good.
    """
    waits, connected, stopped = backoff(), False, stopped or threading.Event()
    repeated: set[str] = set()
    while not stopped.is_set():
        try:
            for event, text in _connection(server, stream_id, after):
                connected = True
                waits.healthy(time.monotonic())
                if event is None or (event.kind == "zone" and text in repeated):
                    continue  # the frame of a zone event had not come before the connection broke
                repeated.add(text) if event.kind == "zone" else repeated.clear()
                yield event
                after = event.sequence if event.sequence is not None else after
                if event.kind == "end":
                    return
            why = "the server ended the connection"
        except ServerRefused as error:
            if (error.status < 500 and error.status != 429) or not connected:
                raise
            why = str(error)
        except ServerAway as error:
            if not connected:
                raise
            why = str(error)
        except (OSError, HTTPException, ValueError) as error:
            why = f"the connection broke: {error or type(error).__name__}"
        delay = waits.next_delay()
        notice(f"{stream_id}: {why}; again in {delay:.1f} s")
        stopped.wait(delay)


def _connection(server: Server, stream_id: str, after: int | None) -> Iterator[tuple[Event | None, str]]:
    """Events of one connection with their text; first None, once it stands."""
    headers = {"Accept": "text/event-stream"}
    query = f"?after={after}" if after is not None else ""
    with server.open(f"/v1/streams/{quote(stream_id, safe='')}/detections{query}", headers, SILENCE_S) as response:
        yield None, ""
        for kind, number, text in parse(response):
            data = {"stream_id": stream_id, **json.loads(text)}
            yield Event(kind, int(number) if number is not None else None, data), text
