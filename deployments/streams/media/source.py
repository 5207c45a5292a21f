"""Opens sources of live video; one connection each: whoever uses them decides about trying again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
import cv2

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media import errors
from deployments.streams.media.connection import Connection
from deployments.streams.media.gpu import Nvdec, decoder_name
from deployments.streams.media.items import AudioItem, Packet, Source, VideoItem, VideoPacket
from deployments.streams.media.pacing import Pacer
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.reader import Opened, PacketReader
from deployments.streams.media.rotation import upright
from deployments.streams.media.test_pattern import PatternSource
from deployments.streams.media.timeline import Timeline, fraction
from deployments.streams.media.watchdog import Watchdog
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceInfo, SourceSpec

MAX_UNDECODABLE = 100
"""Packets in a row that can't be decoded until the source counts as broken: four seconds at 25 fps."""

MAX_PENDING = 256
"""Packets kept until the picture comes that they were read for; more only where nothing can be decoded."""

_OF_BROWSERS = ("yuv420p", "yuvj420p", "nv12")
"""Formats of pictures that every browser decodes: eight bits, 4:2:0."""

ARRIVAL = Fraction(1, 1_000_000)
"""Seconds a tick of the times at which pictures came."""

WITHOUT_TIMES = ("mpjpeg", "mjpeg", "h264", "hevc")
"""Containers, by FFmpeg's names, in which pictures have no times: those of a live one are when they came."""

NOT_STEADY = ("file", "http", "https")
"""Schemes of files, and of playlists, which bring several seconds of video at once and then nothing for as long."""


def open_source(
    spec: SourceSpec,
    policy: UrlPolicy,
    timeline: Timeline,
    *,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 10.0,
    on_opening: Callable[[Source], None] | None = None,
    nvdec: Nvdec | None = None,
) -> Source:
    """Open a source and decode its first picture, which tells what it really is.

    Args:
        timeline: the stream's, over all its connections.
        open_timeout_s: until the connection stands, the look-up of the name included.
        read_timeout_s: until the first picture, and later from one picture to the next; see also `rhythm`.
        on_opening: gets the source before the wait for it begins, to be interrupted by another thread.
        nvdec: the stream's place on the GPU; None decodes in software, whatever the spec says.

    Raises:
        StreamError: it can't be opened or decoded, or was interrupted (ENDED).
        ForbiddenAddress: the policy forbids it.
        InvalidSpec: the URL can't be used.
    """
    errors.silence()
    cv2.setNumThreads(1)  # the cores are shared by many streams, and a second thread costs more CPU than it saves time
    if spec.url.lower().startswith("testsrc:"):
        return PatternSource(spec.url, timeline)
    if spec.hwaccel == "none":
        nvdec = None
    source = AvSource(spec, policy, timeline, (open_timeout_s, read_timeout_s), nvdec)
    try:
        if on_opening is not None:
            on_opening(source)
        source.start()
    except BaseException:
        source.close()
        raise
    return source


class AvSource:
    """A source that FFmpeg reads; see `deployments.streams.media.items.Source`."""

    def __init__(
        self,
        spec: SourceSpec,
        policy: UrlPolicy,
        timeline: Timeline,
        timeouts: tuple[float, float],
        nvdec: Nvdec | None,
    ) -> None:
        self.audio: av.AudioStream | None = None
        self.undecodable = 0
        self._spec = spec
        self._timeline = timeline
        self._open_timeout_s, self._read_timeout_s = timeouts
        self._nvdec = nvdec
        self._is_file = spec.url.lower().startswith("file:")
        self._undecodable_in_a_row = 0
        self._watchdog = self._watch()
        self._decode_s = 0.0
        self._opened: Opened | None = None
        self._timeless = False  # FFmpeg makes the times up, at 25 frames a second
        self._key_seen = False
        self._info: SourceInfo | None = None
        self._first: list[av.VideoFrame] = []
        self._pending: deque[Packet] = deque(maxlen=MAX_PENDING)
        self._connection = Connection(spec, policy, timeouts, nvdec)
        self._reader = PacketReader(self._connection.opened, spec.url, loop=spec.loop and self._is_file)
        self._pacer = Pacer(self._reader.stopped)

    @property
    def info(self) -> SourceInfo:
        assert self._info is not None
        return self._info

    def start(self) -> None:
        """Wait for the connection and the first picture."""
        delay_s = self._nvdec.delay_s if self._nvdec is not None else 0.0
        message = self._reader.get(time.monotonic() + self._open_timeout_s + delay_s)
        if message is None:
            raise self._late(errors.timed_out(self._spec.url))
        if not isinstance(message, Opened):
            try:
                raise message if isinstance(message, Exception) else errors.ended(self._spec.url)
            finally:
                del message  # which its traceback would keep, and that this frame, the source and its decoder
        self._begin(message)
        self.audio = message.audio_template
        self._watchdog = self._watch()
        while not self._first:
            packet = self._next()
            if packet is None:
                raise self._late(self._pictureless())
            if packet.stream is message.video:
                self._first = self._decode(packet)
        self._info = _describe(message, self._first[0], timed=not self._timeless)
        if self._nvdec is not None and self._info.decoder == self._info.codec:
            name = self._first[0].format.name
            self._nvdec.refused(self._spec.url, self._info.codec, name, required=self._spec.hwaccel == "cuda")

    def items(self) -> Iterator[VideoItem | AudioItem]:
        """Pictures and audio packets as they come; see `Source.items`."""
        frames, self._first = self._first, []
        while True:
            for frame in frames:
                item = self._video(frame)
                if item is None:
                    return
                yield item
                self._watchdog.handed_on(time.monotonic())
            frames = []
            packet = self._next()
            if packet is None:
                if self._reader.stopped.is_set():
                    return
                raise self._pictureless()
            assert self._opened is not None
            if packet.stream is self._opened.video:
                frames = self._decode(packet)
            elif (audio := self._audio(packet)) is not None:
                yield audio

    def interrupt(self) -> None:
        """Make `items` end now; from any thread."""
        self._reader.stop()

    def close(self) -> None:
        """Leave the connection."""
        self._first = []
        self._reader.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> Watchdog:
        live = self._spec.url.partition(":")[0].lower() not in NOT_STEADY
        return Watchdog(self._read_timeout_s, time.monotonic(), live=live)

    def _late(self, otherwise: StreamError) -> StreamError:
        return errors.ended(self._spec.url) if self._reader.stopped.is_set() else otherwise

    def _begin(self, opened: Opened) -> None:
        """Take up a connection, or the next round of a file, the last one of which has been decoded to its end."""
        before, self._opened = self._opened, opened
        self._timeless = not self._is_file and opened.container.format.name in WITHOUT_TIMES
        if before is not None:
            before.container.close()
        self._key_seen = False
        self._pending.clear()
        self._timeline.connected(1 / opened.fps if opened.fps else None, keep_gap=before is None)

    def _pictureless(self) -> StreamError:
        """Why there was no picture in time."""
        return errors.stalled(self._spec.url) if self._watchdog.silent else errors.no_picture(self._spec.url)

    def _next(self) -> Packet | None:
        """The next packet; None when interrupted, or when a picture is overdue."""
        while time.monotonic() < (due := self._watchdog.due):
            message = self._reader.get(due)
            message = self._connection.refusal or self._connection.garbled or message
            if isinstance(message, Opened):
                self._begin(message)
            elif isinstance(message, Exception):
                try:
                    raise message
                finally:
                    del message  # as in `start`
            else:
                return message
        return None

    def _decode(self, packet: Packet) -> list[av.VideoFrame]:
        self._watchdog.packet(time.monotonic())
        if not self._key_seen and packet.size and not packet.is_keyframe:
            return []  # its references were sent before this connection
        self._key_seen = True
        if packet.size:
            self._pending.append(packet)
        started = time.perf_counter()
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except errors.ReadError:
            self._skip()
            return []
        self._decode_s = time.perf_counter() - started
        whole = [frame for frame in frames if not frame.is_corrupt]
        if whole:
            self._undecodable_in_a_row = 0
        for _ in range(len(frames) - len(whole)):
            self._skip()
        return whole

    def _skip(self) -> None:
        self.undecodable += 1
        self._undecodable_in_a_row += 1
        if self._undecodable_in_a_row >= MAX_UNDECODABLE:
            if self._nvdec is not None:
                self._nvdec.give_up(f"{MAX_UNDECODABLE} pictures in a row could not be decoded")
            where = errors.place(self._spec.url)
            message = f"{where}: {MAX_UNDECODABLE} pictures in a row can't be decoded: check the camera."
            raise StreamError(StreamErrorCode.INVALID_DATA, message) from None

    def _video(self, frame: av.VideoFrame) -> VideoItem | None:
        base = self._timeline.time_base
        source_base = fraction(frame.time_base)
        pts = frame.pts
        if self._timeless:
            pts, source_base = round(time.monotonic() / ARRIVAL), ARRIVAL
        at_s = None if pts is None or source_base is None or self._is_file else float(pts * source_base)
        if not self._watchdog.picture(at_s, time.monotonic()):
            raise errors.frozen(self._spec.url)
        pts = self._timeline.video(pts, source_base)
        if self._is_file and self._spec.realtime:
            if not self._pacer.wait(pts, base):
                return None
        elif self._reader.stopped.is_set():
            return None
        picture = AvPicture(upright(frame))
        self._describe_anew(picture)
        times = (time.time(), time.monotonic(), self._decode_s)
        return VideoItem(picture, pts, base, *times, self._timeline.stretch, self._read_for(pts))

    def _read_for(self, pts: int) -> tuple[VideoPacket, ...]:
        """The packets since the last picture; one without times of its own has those of the picture."""
        assert self._opened is not None
        found, timeline = [], self._timeline
        for packet in self._pending:
            base = fraction(packet.time_base)
            shown = None if self._timeless else timeline.packet(packet.pts, base)
            shown = pts if shown is None else shown
            sent = None if self._timeless else timeline.packet(packet.dts, base)
            times = (shown, shown if sent is None else sent, timeline.time_base)
            found.append(VideoPacket(packet, *times, self._opened.video_template))
        self._pending.clear()
        return tuple(found)

    def _describe_anew(self, picture: AvPicture) -> None:
        """A camera may change its size without a new connection."""
        if (picture.width, picture.height) != (self.info.width, self.info.height):
            self._info = self.info.model_copy(update={"width": picture.width, "height": picture.height})

    def _audio(self, packet: Packet) -> AudioItem | None:
        if not packet.size:
            return None
        base = self._timeline.time_base
        source_base = fraction(packet.time_base)
        pts = self._timeline.audio(packet.pts, source_base)
        if pts is None:
            return None
        copy = av.Packet(bytes(packet))
        copy.time_base = base
        copy.pts = copy.dts = pts
        if packet.duration and source_base is not None:
            copy.duration = round(packet.duration * source_base / base)
        copy.is_keyframe = True
        return AudioItem(copy, pts, base)


def _describe(opened: Opened, frame: av.VideoFrame, *, timed: bool) -> SourceInfo:
    context: Any = opened.video.codec_context
    shown = upright(frame)
    return SourceInfo(
        codec=context.name,
        width=shown.width,
        height=shown.height,
        fps=float(opened.fps) if opened.fps and timed else None,
        audio_codec=opened.audio.codec_context.name if opened.audio is not None else None,
        decoder=decoder_name(context.name, frame.format.name, accelerated=context.is_hwaccel),
        webrtc_copy=context.name == "h264"
        and frame.format.name in _OF_BROWSERS
        and not context.has_b_frames
        and shown is frame,
    )
