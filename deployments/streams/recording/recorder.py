"""Makes clips: keeps the newest packets, and from an event on writes them, by a process that can be killed (`Sink`).

The packets are the source's own: nothing is decoded or encoded for a clip.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from deployments.errors import RaysightError
from deployments.streams.media.audience import Audience
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.sink import Sink, target_of
from deployments.streams.media.timeline import TIME_BASE
from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.ring import Ring, ticks
from deployments.streams.recording.shelf import Shelf
from deployments.streams.recording.spec import Clip, RecordingStatus, RecordSpec
from deployments.streams.sinks.letter import letters
from deployments.streams.spec import StreamSpec

logger = logging.getLogger(__name__)

MAX_WAITING = 1024
"""Packets and events that may wait for the disk: ten seconds and more."""

SILENT_S = 5.0
"""After so long without a packet a clip is ended: the source is away."""

FINISH_S = 3.0
"""For the end of a file."""

REST_S = 10.0
"""After a clip that could not be made, until the next is tried."""

CODEC = "h264"
"""What plays everywhere in an MP4."""

_Event = tuple[bytes, tuple[bytes, ...]]


@dataclass
class _Open:
    """A clip that is being written; times are pts."""

    name: str
    path: Path
    sink: Sink
    first: EncodedPacket
    end: int
    latest_end: int
    label: str | None
    key: str
    started_at: float
    thumbnail: bytes | None
    last: int = 0


class Recorder:
    """The recording of one stream; `offer` and packets never wait, one thread does the work.

    Args:
        packets: brings the source's own packets while somebody wants them.
        picture: the newest picture as a JPEG, None without one.
    """

    def __init__(
        self,
        spec: StreamSpec,
        policy: UrlPolicy,
        packets: Audience,
        picture: Callable[[], bytes | None],
    ) -> None:
        self.shelf = Shelf(policy, spec.id)
        self._spec = spec
        self._packets = packets
        self._picture = picture
        self._changed = threading.Condition()
        self._waiting: deque[EncodedPacket | _Event | None] = deque()  # None: some were lost
        self._leave: Callable[[], None] | None = None
        self._closed = False
        self._status = RecordingStatus()
        self._dropped = 0
        self._ring = Ring()
        self._open: _Open | None = None
        self._covered = -(1 << 62)
        self._again_at = float("-inf")
        self._thread: threading.Thread | None = None
        self.update(spec)

    def offer(self, sequence: int, event: bytes, in_zones: tuple[bytes, ...]) -> None:
        """Take one frame's events."""
        if self._leave is not None:
            self._put((event, in_zones))

    def update(self, spec: StreamSpec) -> None:
        """Follow ``spec``."""
        with self._changed:
            self._spec = spec
        if spec.record is None and self._leave is not None:
            leave, self._leave = self._leave, None
            leave()
        elif spec.record is not None and self._leave is None and not self._closed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
                self._thread.start()
            self._leave = self._packets.join(self._put)

    def status(self) -> RecordingStatus | None:
        """How it is doing; None where nothing is recorded."""
        if self._spec.record is None:
            return None
        return self._status.model_copy(update={"dropped_packets": self._dropped})

    def close(self, timeout_s: float) -> None:
        """End the clip that is being written, and take nothing more."""
        if self._leave is not None:
            self._leave()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _put(self, item: EncodedPacket | _Event) -> None:
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += sum(isinstance(one, EncodedPacket) for one in self._waiting)
                self._waiting.clear()
                self._waiting.append(None)
            self._waiting.append(item)
            self._changed.notify_all()

    # The recording thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        heard = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, 1.0)
                items, spec, closed = list(self._waiting), self._spec, self._closed
                self._waiting.clear()
            try:
                for item in items:
                    self._handle(item, spec)
                heard = time.monotonic() if items else heard
                over = closed or spec.record is None or time.monotonic() - heard > SILENT_S
                if over and self._open is not None:
                    self._finish(spec)
            except Exception as error:  # noqa: BLE001 - whatever it was, the next event gets its clip
                self._fail(error, spec)
            if closed and not items:
                return

    def _handle(self, item: EncodedPacket | _Event | None, spec: StreamSpec) -> None:
        if item is None or spec.record is None:
            self._ring.clear()
            if self._open is not None:
                self._finish(spec)
        elif isinstance(item, EncodedPacket):
            self._take(item, spec, spec.record)
        else:
            self._look(*item, spec, spec.record)

    def _take(self, packet: EncodedPacket, spec: StreamSpec, wanted: RecordSpec) -> None:
        clip = self._open
        if clip is not None and not packet.audio:
            other = packet.template is not clip.first.template or packet.pts < clip.first.pts
            if other or packet.dts >= clip.end:
                self._finish(spec)
                clip = None
        self._ring.add(packet, wanted.before_s)
        if clip is not None:
            clip.sink.send(packet)
            clip.last = max(clip.last, packet.pts)

    def _look(self, event: bytes, in_zones: tuple[bytes, ...], spec: StreamSpec, wanted: RecordSpec) -> None:
        """Begin a clip, or let the one that is written go on, where an event counts."""
        frame = json.loads(event)
        letter = next(letters(wanted, spec.zones, frame, [json.loads(one) for one in in_zones]), None)
        if letter is None or self._ring.video is None or time.monotonic() < self._again_at:
            return
        at = round(frame["pts"] * Fraction(frame["time_base"]) / TIME_BASE)
        end = at + ticks(wanted.after_s, TIME_BASE)
        if self._open is not None:
            self._open.end = min(self._open.latest_end, max(self._open.end, end))
            return
        codec = self._ring.video.codec_context.name
        if codec != CODEC:
            self._note("failing", f"clips are made of H.264, and the source sends {codec}: set the camera to H.264")
            return
        packets = self._ring.since(max(at - ticks(wanted.before_s, TIME_BASE), self._covered))
        self._begin(packets, frame, json.loads(letter.body), at, end, wanted)

    def _begin(
        self,
        packets: list[EncodedPacket],
        frame: dict[str, Any],
        event: dict[str, Any],
        at: int,
        end: int,
        wanted: RecordSpec,
    ) -> None:
        first = packets[0]
        started_at = frame["captured_at"] - float((at - first.pts) * first.time_base)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started_at))}-{frame['sequence']}"
        label = event["label"] if event["type"] == "zone" else event["detections"][0]["label"]
        path = self.shelf.new(name)
        sink = Sink(target_of(str(path)), first.template, self._ring.audio)
        latest_end = first.pts + ticks(wanted.longest_s, first.time_base)
        self._open = _Open(
            name, path, sink, first, min(end, latest_end), latest_end, label, event["key"], started_at, self._picture()
        )
        self._note("recording", None)
        for packet in packets:
            sink.send(packet)
            self._open.last = max(self._open.last, packet.pts)

    def _finish(self, spec: StreamSpec) -> None:
        assert self._open is not None
        clip, self._open = self._open, None
        self._covered = clip.last
        try:
            clip.sink.finish(FINISH_S)
        finally:
            clip.sink.close()
        seconds = float((clip.last - clip.first.pts) * clip.first.time_base)
        size = clip.path.stat().st_size
        made = Clip(
            name=clip.name,
            started_at=clip.started_at,
            seconds=round(seconds, 3),
            size_bytes=size,
            label=clip.label,
            key=clip.key,
        )
        self.shelf.keep(clip.path, made, clip.thumbnail)
        self._status = self._status.model_copy(update={"state": "waiting", "clips": self._status.clips + 1})
        self._tidy(spec)

    def _tidy(self, spec: StreamSpec) -> None:
        if spec.record is not None:
            self.shelf.tidy(time.time(), spec.record.keep_days * 86_400, spec.record.keep_mb * 1_000_000)

    def _fail(self, error: Exception, spec: StreamSpec) -> None:
        clip, self._open = self._open, None
        if clip is not None:
            clip.sink.close()
        self._ring.clear()  # the packets that came with it are lost
        with suppress(OSError):  # where the disk is full
            self._tidy(spec)
        self._again_at = time.monotonic() + REST_S
        said = str(error) if isinstance(error, RaysightError) else str(getattr(error, "strerror", None) or error)
        logger.warning("a clip could not be made: %s", said)
        self._note("failing", said)

    def _note(self, state: str, error: str | None) -> None:
        told = {"state": state} if error is None else {"state": state, "last_error": error}
        self._status = self._status.model_copy(update=told)
