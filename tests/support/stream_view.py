"""The page's view of a stream that is real, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Request

from deployments.streams.spec import StreamSpec, StreamState
from deployments.streams.webrtc.settings import PlaybackSettings
from tests.support.browser import watched_page
from tests.support.theatre import Theatre, theatre
from tests.support.waiting import until


@contextmanager
def showing(
    browser: Browser,
    spec: StreamSpec,
    folder: Path,
    settings: PlaybackSettings | None = None,
    script: str | None = None,
    **context: Any,
) -> Iterator[tuple[Page, Theatre, list[str]]]:
    """The view of a stream that is online, and what the page asks of its WHEP endpoint.

    Args:
        script: run in the page before its own.
    """
    whep = f"/v1/streams/{spec.id}/whep"
    with (
        theatre(spec, folder, settings or PlaybackSettings()) as (streams, address),
        watched_page(browser, address, **context) as page,
    ):
        until(lambda: streams.runner.status().state is StreamState.ONLINE)
        asked: list[str] = []
        page.context.add_cookies([{"name": "raysight_csrf", "value": "beside-the-session", "url": address}])

        def note(sent: Request) -> None:
            if whep in sent.url:
                assert sent.headers["x-csrf-token"] == "beside-the-session"
                asked.append(sent.method + sent.url.partition("?")[2])

        page.on("request", note)
        if script is not None:
            page.add_init_script(script)
        page.goto(f"{address}/#/streams/{spec.id}")
        yield page, streams, asked
