"""THE main path: what happens to a stream's frames, stage by stage, on four threads.

    decode -+-> newest slot -> letterbox -> detector -> undo letterbox -> follow -> boxes, events (detect, collect)
            +-> video queue, every frame -> own boxes or the last ones -> draw -> encode -> outputs        (video)

The two branches never wait for each other: the detection branch drops what it can't take (the older frame, and
counts it), the video branch publishes every frame whatever the detector manages. `Ledger` accounts for both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from deployments.detector.port import DetectorPort, DetectReply, DetectRequest, InvalidFrame, PendingReply
from deployments.errors import DetectorUnavailable
from deployments.link.pending import FrameDropped
from deployments.streams.annotate import Annotator
from deployments.streams.boxes import BoxBoard, of_classes
from deployments.streams.events import EventLog, detection_event, zone_events
from deployments.streams.frame import Frame, Picture
from deployments.streams.inflight import MAX_IN_FLIGHT, FrameRateCap, InFlightGate
from deployments.streams.ledger import DROPPED_THERE, DropReason, Ledger
from deployments.streams.live import LivePicture
from deployments.streams.newest import DropOldestQueue, NewestSlot
from deployments.streams.ports import Publisher, Source, VideoItem
from deployments.streams.slate import Slate
from deployments.streams.spec import StreamSpec
from deployments.streams.stats import RateMeter, StageTimes
from deployments.streams.tracking.follower import Follower
from deployments.streams.zone_marks import ZoneMark, zone_marks
from deployments.tracing import Branch, FrameTracer
from engines.letterbox import Letterbox
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array

logger = logging.getLogger(__name__)

VIDEO_QUEUE_FRAMES = 48
"""Frames the video branch may be behind: 100 ms of delay and a stutter of 1.5 s at 30 fps; 150 MB at 1080p."""

STALE_AFTER_S = 1.0
"""A frame that waited longer for its turn is worth nothing in a live picture, and only costs the engine time."""

UNPACED_BUDGET_S = 60.0
"""A file that is read at any pace loses no frame, however long the detector takes."""

REPLY_QUEUE_FRAMES = 32
"""Outcomes that wait for the collecting thread; a second's worth, as it has little to do for each."""

LAST_REPLIES_S = 2.0
"""How long a stream that stops waits for the replies that are still out."""

INFO_TIMEOUT_S = 1.0
"""How long to wait for a Detector replica before looking again whether the stream is to stop."""

INFO_PAUSE_S = 0.25
"""Pause between two questions to a detector that is away: video goes on meanwhile, and boxes are soon back."""


@dataclass(frozen=True, slots=True)
class _Sent:
    frame: Frame
    reply: PendingReply
    letterbox: Letterbox
    engine: EngineInfo
    at: float


class Pipeline:
    """Both branches of one stream, over all connections of its source."""

    def __init__(
        self,
        spec: StreamSpec,
        detector: DetectorPort,
        *,
        first_sequence: int,
        observe: Callable[[str, float], None],
        tracer: FrameTracer | None = None,
        epoch: int = 1,
        carried: bytes | None = None,
    ) -> None:
        self.spec = spec
        self.follower = Follower(epoch, carried, replayed=spec.source.is_file)
        if spec.track is not None:
            self.follower.load()
        self.ledger = Ledger()
        self.times = StageTimes()
        self.rates = {"decoded": RateMeter(), "inferred": RateMeter(), "published": RateMeter()}
        self.events = EventLog(first_sequence)
        self.live = LivePicture()
        self.publisher: Publisher | None = None
        self.slate = Slate()
        self.annotator = Annotator(())  # for viewers
        self.drawn = self.encoded = 0  # frames for outputs and viewers of video; JPEGs don't count
        self.next_sequence = first_sequence
        self._detector = detector
        self._observe = observe
        self._tracer = tracer
        self._annotator = Annotator(())  # for the video branch: one thread each
        self._engine: EngineInfo | None = None
        self._class_names: tuple[str, ...] = ()
        self._newest_inferred = first_sequence - 1
        self._stopping = threading.Event()
        self._boxes = BoxBoard()
        self._canvas: Picture | None = None  # the last one drawn on, encoded by now
        self._cap = FrameRateCap()
        self._gate = InFlightGate()
        self._slot: NewestSlot[Frame] = NewestSlot()
        self._replies: DropOldestQueue[_Sent] = DropOldestQueue(REPLY_QUEUE_FRAMES)
        self._video: DropOldestQueue[Frame] = DropOldestQueue(VIDEO_QUEUE_FRAMES)
        stages = {"detect": self._detect, "collect": self._collect, "video": self._publish}
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in stages.items()]

    @property
    def marks(self) -> tuple[ZoneMark, ...]:
        """The zones to draw, with what they count now."""
        return zone_marks(self.spec.zones, self.follower.zones)

    def start(self) -> None:
        """Start the branches; frames come with `decode`."""
        for thread in self._threads:
            thread.start()

    def interrupt(self) -> None:
        """Let a `decode` that waits for room go on; its source has been interrupted, so that it ends."""
        for frame in self._slot.drain():
            self._drop(frame, self._why_unsent())

    def stop(self, timeout_s: float = 5.0) -> None:
        """Settle what is under way and end the threads; what is decoded from now on is dropped."""
        self._stopping.set()
        for part in (self._slot, self._video, self._gate, self._boxes, self.live, self.events):
            part.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # Stage 1, on the caller's thread -------------------------------------------------------------------------

    def decode(self, source: Source) -> None:
        """Feed both branches until the source breaks (raises StreamError) or is interrupted (returns)."""
        wait = self.spec.source.unpaced
        for item in source.items():
            if not hasattr(item, "picture"):
                self._pass_on(item, "write_audio")
                continue
            if item.packets:
                self._pass_on(item.packets, "write_packets")
            self._fork(item, wait=wait)

    def _pass_on(self, what: Any, how: Literal["write_audio", "write_packets"]) -> None:
        publisher = self.publisher
        if publisher is None:
            return
        try:
            getattr(publisher, how)(what)
        except Exception:
            logger.exception("what the source sent could not be passed on")

    def _fork(self, item: VideoItem, *, wait: bool) -> None:
        times = (item.pts, item.time_base, item.captured_at, item.decoded_at)
        frame = Frame(self.next_sequence, *times, item.picture, item.stretch)
        self.next_sequence += 1
        self.ledger.decoded()
        self.rates["decoded"].tick(frame.decoded_at)
        if self._tracer is not None:
            self._tracer.begin(frame, item.decode_s)
        self._time("decode", frame, frame.decoded_at - item.decode_s, frame.decoded_at)
        if not self._cap.admit(float(frame.pts * frame.time_base), self.spec.detect.max_fps):
            self.ledger.dropped(DropReason.MAX_FPS)
            self._ended(frame, "detection", f"dropped_{DropReason.MAX_FPS}")
        else:
            if self._engine is not None:
                self._boxes.expect(frame.sequence)
            older = self._slot.put(frame, wait=wait)
            if older is not None:
                self._drop(older, self._why_unsent())
        unpublished = self._video.put(frame, wait=wait)
        if unpublished is not None:
            self._boxes.forget(unpublished.sequence)
            self.ledger.video_dropped()
            self._ended(unpublished, "video", "dropped")

    def _why_unsent(self) -> DropReason:
        return DropReason.NO_DETECTOR if self._engine is None else DropReason.SUPERSEDED

    def _drop(self, frame: Frame, reason: DropReason) -> None:
        self.ledger.dropped(reason)
        self._boxes.settle(frame.sequence, None)
        self._ended(frame, "detection", f"dropped_{reason}")

    # Stages 2 and 3: letterbox and send ----------------------------------------------------------------------

    def _detect(self) -> None:
        while self._wait_for_engine() and self._gate.enter(1 if self.spec.source.unpaced else MAX_IN_FLIGHT):
            frame = self._slot.take()
            sent = None if frame is None else self._try_to_send(frame)
            if sent is None:
                self._gate.leave()
            else:
                sent.reply.when_settled(partial(self._settled, sent))
        while (frame := self._slot.take()) is not None:  # until `stop` closes the slot, and what is left in it then
            self._drop(frame, self._why_unsent())
        self._gate.wait_until_empty(LAST_REPLIES_S)
        self._replies.close()

    def _wait_for_engine(self) -> bool:
        while self._engine is None and not self._stopping.is_set():
            try:
                engine = self._detector.info(INFO_TIMEOUT_S)
            except DetectorUnavailable:
                self._stopping.wait(INFO_PAUSE_S)
            except Exception:
                logger.exception("the detector could not say what it has loaded")
                self._stopping.wait(INFO_PAUSE_S)
            else:
                self._name_classes(engine.class_names)
                self._engine = engine
        return not self._stopping.is_set()

    def _name_classes(self, names: tuple[str, ...]) -> None:
        if names != self._class_names:
            self._class_names = names
            self._boxes.clear()
            self.annotator, self._annotator = Annotator(names), Annotator(names)

    def _try_to_send(self, frame: Frame) -> _Sent | None:
        engine = self._engine
        if engine is None:
            self._drop(frame, DropReason.NO_DETECTOR)
            return None
        try:
            return self._send(frame, engine)
        except DetectorUnavailable:
            self._give_up(frame, engine, DropReason.NO_DETECTOR)
        except Exception:
            logger.exception("a frame could not be sent to the detector")
            self._drop(frame, DropReason.INVALID)
        return None

    def _send(self, frame: Frame, engine: EngineInfo) -> _Sent | None:
        started = time.monotonic()
        self._time("slot", frame, frame.decoded_at, started)
        spec, picture = self.spec, frame.picture
        if started - frame.decoded_at > STALE_AFTER_S and not spec.source.unpaced:
            self._drop(frame, DropReason.STALE)
            return None
        letterbox = Letterbox.fit(
            picture.width, picture.height, engine.width, engine.height, engine.letterbox, engine.pad
        )
        inner = picture.to_array(letterbox.inner_width, letterbox.inner_height, engine.colour)
        image = letterbox.place(inner, self._place(engine))
        sent_at = time.monotonic()
        self._time("letterbox", frame, started, sent_at)
        budget_s = UNPACED_BUDGET_S if spec.source.unpaced else frame.decoded_at + STALE_AFTER_S - sent_at
        confidence = (
            spec.detect.confidence if spec.track is None else min(spec.track.confidence, spec.detect.confidence)
        )
        thresholds = Thresholds(confidence, spec.detect.iou)
        rows = letterbox.top, letterbox.inner_height
        request = DetectRequest(image, thresholds, spec.priority, max(0.0, budget_s), rows)
        return _Sent(frame, self._detector.submit(request), letterbox, engine, sent_at)

    def _place(self, engine: EngineInfo) -> UInt8Array | None:
        place = self._detector.place()
        return place if place is not None and place.shape == (engine.height, engine.width, 3) else None

    def _give_up(self, frame: Frame, engine: EngineInfo, reason: DropReason) -> None:
        """Drop a frame on which the detector failed, and ask it anew what is loaded before the next one."""
        if self._engine is engine:
            self._engine = None
        self._drop(frame, reason)

    # Stages 4 and 5: undo the letterbox, pin the boxes, tell the readers --------------------------------------

    def _settled(self, sent: _Sent) -> None:
        """The outcome is there; called on the link's thread. Its place is free before its turn to be read comes."""
        unread = self._replies.put(sent)
        self._gate.leave()  # only now: with the last place free, `_detect` closes the queue
        if unread is not None:
            self._drop(unread.frame, DropReason.STALE)

    def _collect(self) -> None:
        while (sent := self._replies.take()) is not None:
            try:
                self._settle(sent, sent.reply.result(0.0))
            except FrameDropped as drop:
                self._drop(sent.frame, DROPPED_THERE[drop.reason])
            except InvalidFrame as refusal:
                logger.warning("the detector refused a frame (has its model changed?): %s", refusal)
                self._give_up(sent.frame, sent.engine, DropReason.INVALID)
            except DetectorUnavailable as error:
                logger.warning("%s: video goes on without new boxes", error)
                self._give_up(sent.frame, sent.engine, DropReason.NO_DETECTOR)
            except Exception:
                logger.exception("a reply of the detector could not be used")
                self._give_up(sent.frame, sent.engine, DropReason.INVALID)

    def _settle(self, sent: _Sent, reply: DetectReply) -> None:
        """All that can fail comes first: the frame is settled once."""
        frame, names, spec = sent.frame, sent.engine.class_names, self.spec
        if frame.sequence <= self._newest_inferred:  # a replica that was left answers after its successor
            self._drop(frame, DropReason.STALE)
            return
        found = of_classes(reply.detections, spec.detect.classes, names)
        undone, began = Detections(sent.letterbox.undo(found.xyxy), found.confidence, found.class_id), time.monotonic()
        followed = self.follower.follow(frame, undone, names, spec.detect.confidence, spec.track, spec.zones)
        detections, in_zones = followed.detections, zone_events(spec.id, frame, followed.events)
        now = time.monotonic()
        event = detection_event(spec.id, frame, detections, names, now - frame.decoded_at)
        taken = sent.at + reply.wait_s  # the way there and back is not known apart: it is what is left at the end
        self._time("wait", frame, sent.at, taken)
        self._time("infer", frame, taken, taken + reply.infer_s)
        if spec.track is not None:
            self._time("track", frame, began, now)
        self._time("whole", frame, frame.decoded_at, now)
        self.rates["inferred"].tick(now)
        self._newest_inferred = frame.sequence
        self._boxes.settle(frame.sequence, detections if names == self._class_names else None)
        self.ledger.inferred(len(detections))
        self.events.append(frame.sequence, event, in_zones)
        self._ended(frame, "detection", "inferred")

    # Stages 6 to 8: draw, encode, publish ---------------------------------------------------------------------

    def _publish(self) -> None:
        while not self._video.ended:
            frame = self._video.take(self.slate.period_s)
            if frame is None:
                self._show_slate()
                continue
            try:
                self._draw_and_encode(frame)
            except Exception:
                logger.exception("a frame could not be published")
                self.ledger.video_dropped()
                self._ended(frame, "video", "dropped")
            else:
                self.ledger.published()
                self.rates["published"].tick(time.monotonic())
                self._ended(frame, "video", "published")

    def _show_slate(self) -> None:
        """No frame has come for a while: say so on the outputs that want it."""
        publisher = self.publisher
        if publisher is None or not publisher.wants_slate or self.spec.source.is_file:
            return
        try:
            shown = self.slate.due(time.monotonic())
            if shown is not None:
                self.encoded += publisher.write_slate(*shown)
        except Exception:
            logger.exception("the slate could not be published")

    def _draw_and_encode(self, frame: Frame) -> None:
        publisher = self.publisher
        annotate = publisher is not None and publisher.wants_annotated
        awaited = annotate or self.live.watched
        delay_s = self.spec.video_delay_ms / 1e3 if awaited else 0.0
        detections = self._boxes.take(frame.sequence, frame.decoded_at + delay_s, time.monotonic)
        self.live.show(frame, detections, awaited=awaited)
        self.slate.saw(frame)
        if publisher is None or not publisher.active:
            return
        started = time.monotonic()
        annotated = None
        if annotate:
            annotated = self._canvas = frame.picture.writable(self._canvas)
            self._annotator.draw(annotated.planes(), detections, self.marks)
            self.drawn += 1
            self._time("draw", frame, started, time.monotonic())
        started = time.monotonic()
        on_sent = self._tracer.publishing(frame) if self._tracer is not None else None
        self.encoded += publisher.write(frame.pts, frame.picture, annotated, on_sent)
        self._time("encode", frame, started, time.monotonic())

    def _time(self, stage: str, frame: Frame, started: float, ended: float) -> None:
        self.times.add(stage, ended - started)
        self._observe(stage, ended - started)
        if self._tracer is not None:
            self._tracer.stage(frame, stage, started, ended)

    def _ended(self, frame: Frame, branch: Branch, outcome: str) -> None:
        if self._tracer is not None:
            self._tracer.ended(frame, branch, outcome)
