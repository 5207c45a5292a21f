"""A whole stream in this process, the API before it under uvicorn, and no Ray."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from deployments.streams.events import EventBatch
from deployments.streams.hardware import NOTHING
from deployments.streams.live import JpegPicture, JpegRenderer
from deployments.streams.media.audience import Audience
from deployments.streams.media.opener import MediaOpener
from deployments.streams.policy import UrlPolicy
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import StreamSpec, StreamView
from deployments.streams.webrtc.settings import PlaybackSettings, SdpAnswer
from deployments.streams.webrtc.viewers import Viewers
from serve_app.api.application import create_api
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams
from tests.support.detectors import LocalDetector, fake_engine
from tests.support.waiting import in_threads


class Theatre(MemoryStreams):
    """`Streams` of which one, ``runner``, is real; its viewers are in ``viewers``."""

    def __init__(self, runner: StreamRunner, viewers: Viewers, settings: PlaybackSettings) -> None:
        super().__init__()
        self.runner = runner
        self.viewers = viewers
        self._settings = settings
        self._renderer = JpegRenderer()

    async def get(self, stream_id: str) -> StreamView:
        return StreamView(spec=self.runner.spec, status=self.runner.status())

    async def picture(
        self, stream_id: str, annotated: bool, newer_than: int | None, timeout_s: float
    ) -> JpegPicture | None:
        pipeline = self.runner.pipeline
        found = await asyncio.to_thread(pipeline.live.wait, newer_than, timeout_s)
        return None if found is None else self._renderer.render(*found, pipeline.annotator, pipeline.marks)

    async def events(self, stream_id: str, after: int | None, timeout_s: float) -> EventBatch:
        return await asyncio.to_thread(self.runner.pipeline.events.wait, after, timeout_s)

    async def play(self, stream_id: str, offer: str, copied: bool) -> SdpAnswer | None:
        return await asyncio.to_thread(partial(self.viewers.play, offer, self._settings, copied=copied))

    async def plays(self, stream_id: str, session: str) -> bool:
        return self.viewers.plays(session)

    async def stop_playing(self, stream_id: str, session: str) -> None:
        await asyncio.to_thread(self.viewers.stop, session)


@contextmanager
def theatre(spec: StreamSpec, folder: Path, settings: PlaybackSettings) -> Iterator[tuple[Theatre, str]]:
    """The stream, and the address of the API."""
    policy, audience, raw = UrlPolicy(media_root=folder, output_root=folder), Audience(), Audience()
    detector = LocalDetector(fake_engine(side=320))
    media = MediaOpener(policy, NOTHING, 0, audience, raw)
    common = {"epoch": 1, "first_sequence": 0, "node": "here", "observe": lambda stage, seconds: None}
    runner = StreamRunner(spec, 1, detector, media, **common)  # type: ignore[arg-type]
    streams = Theatre(runner, Viewers(audience, raw, policy.allows), settings)
    in_threads(lambda: asyncio.run(streams.create(spec)))  # Playwright has a loop running on this one
    app = create_api(streams, MemoryDetector(), MemoryMedia(), version="0", playback=settings)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    runner.start()
    thread.start()
    try:
        yield streams, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        streams.viewers.close()
        runner.stop(10)
        detector.close()
