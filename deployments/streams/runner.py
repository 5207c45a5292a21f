"""The life of one stream: opens its source, runs the pipeline, and tries again when the source breaks.

The only place where a source is retried. Its thread is the pipeline's decode thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from deployments.detector.port import DetectorPort
from deployments.errors import ForbiddenAddress, InvalidSpec, StreamError, StreamErrorCode
from deployments.streams.backoff import Backoff
from deployments.streams.history import StreamHistory
from deployments.streams.pipeline import Pipeline
from deployments.streams.ports import EventSinks, Media, Publisher, Recording, Source
from deployments.streams.spec import (
    LastError,
    OutputSpec,
    OutputStatus,
    SourceInfo,
    SourceSpec,
    StreamSpec,
    StreamState,
    StreamStatus,
    VideoCounts,
)
from deployments.streams.tracking import tracker
from deployments.streams.urls import redact
from deployments.tracing import FrameTracer

logger = logging.getLogger(__name__)

DRAIN_S = 6.0
"""Longest wait until the last frames are published before outputs are closed: the longest `video_delay_ms` and some."""


LAST_EVENTS_S = 1.0
"""What sinks get at least to send what waits, though all the rest took its time."""


class StreamRunner:
    """Runs one stream until it is stopped; `apply` changes its spec on the way."""

    def __init__(
        self,
        spec: StreamSpec,
        generation: int,
        detector: DetectorPort,
        media: Media,
        *,
        epoch: int,
        first_sequence: int,
        node: str,
        observe: Callable[[str, float], None],
        tracer: FrameTracer | None = None,
        backoff: Callable[[], Backoff] = Backoff,
        held: str | None = None,
        carried: bytes | None = None,
        sinks: EventSinks | None = None,
        recording: Callable[[Pipeline], Recording] | None = None,
    ) -> None:
        self.pipeline = Pipeline(
            spec, detector, first_sequence=first_sequence, observe=observe, tracer=tracer, epoch=epoch, carried=carried
        )
        self._sinks = sinks
        if sinks is not None:
            self.pipeline.events.subscribe(sinks.offer)
        self._recording = recording(self.pipeline) if recording is not None else None
        if self._recording is not None:
            self.pipeline.events.subscribe(self._recording.offer)
        self._media = media
        self._epoch = epoch
        self._node = node
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._spec = spec
        self._generation = generation
        self._state = StreamState.CONNECTING
        self._since = time.time()
        self.history = StreamHistory(epoch)
        self.history.add(self._state, None)
        self._stopping = False
        self._reconnect = False
        self._source: Source | None = None
        self._info: SourceInfo | None = None
        self._publishing = threading.Lock()  # held while outputs are opened, changed or closed
        self._publisher: Publisher | None = None
        self._published: tuple[SourceSpec, SourceInfo] | None = None
        self._held, self._holds = held, True
        self._tells_of_hold = False
        self._last_error: LastError | None = None
        self._restarts = 0
        self._new_backoff = backoff
        self._backoff = backoff()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self.pipeline.start()
        self._thread.start()

    @property
    def spec(self) -> StreamSpec:
        """The spec that is followed now."""
        with self._lock:
            return self._spec

    @property
    def generation(self) -> int:
        """Of that spec."""
        with self._lock:
            return self._generation

    def apply(self, spec: StreamSpec, generation: int) -> None:
        """Follow ``spec``; the source is reconnected only where its own part changed.

        Whatever fails, the old generation stays: the same call again does all of it.
        """
        if spec.track is not None:
            tracker.load()
        with self._lock:
            if generation < self._generation:
                return  # a newer one overtook it
            before, old = self._generation, self._spec
            self._spec, self._generation = spec, generation
            self.pipeline.spec = spec
            failed = self._state is StreamState.FAILED
        try:
            self._follow(old, failed)
        except BaseException:
            with self._lock:
                if self._spec is spec:
                    self._spec, self._generation = old, before
            raise

    def _follow(self, old: StreamSpec, failed: bool) -> None:
        spec = self.spec
        if self._sinks is not None:
            self._sinks.update(spec)
        if self._recording is not None:
            self._recording.update(spec)
        if old.source != spec.source or old.paused != spec.paused or failed:
            self.reconnect()
        if old.outputs != spec.outputs:  # also where the source may stay away: an output that was taken out ends now
            self._update_outputs()

    def hold(self, why: str | None) -> None:
        """Close the outputs and open none, for the reason ``why``, until it is None again; the rest goes on.

        Returns once they are closed, which takes `media.output.CLOSE_S` at most. Where that fails, the same call again
        goes on with it.
        """
        if why != self._held:
            tells = why is not None and bool(self.spec.outputs)
            if tells or self._tells_of_hold:
                self.history.add(self._state, None if why is None else _not_ours(why))
            self._held, self._holds, self._tells_of_hold = why, False, tells
        if not self._holds:
            self._update_outputs()
            self._holds = True

    def _update_outputs(self) -> None:
        with self._publishing:
            if self._publisher is not None:
                self._publisher.update(self._outputs)

    @property
    def _outputs(self) -> tuple[OutputSpec, ...]:
        return self.spec.outputs if self._held is None else ()

    def reconnect(self) -> None:
        """Close the source and open it again at once."""
        with self._lock:
            self._reconnect = True
            self._backoff = self._new_backoff()
            self._wake.set()
            source = self._source
        if source is not None:
            source.interrupt()
        self.pipeline.interrupt()

    def stop(self, timeout_s: float) -> None:
        """End everything; returns once it has ended, or after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._stopping = True
        self._set_state(StreamState.STOPPING)
        self.reconnect()
        self.pipeline.stop(timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._close_publisher(max(0.0, deadline - time.monotonic()))
        if self._sinks is not None:
            self._sinks.close(max(LAST_EVENTS_S, deadline - time.monotonic()))
        if self._recording is not None:
            self._recording.close(max(LAST_EVENTS_S, deadline - time.monotonic()))

    def carry(self) -> bytes | None:
        """What another life of the stream goes on with: its tracks and zones; after `stop`."""
        try:
            return self.pipeline.follower.carry()
        except Exception:
            logger.exception("tracks and zones can't be handed on")
            return None

    def status(self) -> StreamStatus:
        """What is the case now."""
        pipeline, publisher, now = self.pipeline, self._publisher, time.monotonic()
        with self._lock:
            if self._source is not None and self._state is StreamState.ONLINE:
                self._info = self._source.info  # its size may have changed
            status = StreamStatus(
                state=self._state,
                online=self._state is StreamState.ONLINE,
                generation=self._generation,
                observed_generation=self._generation,
                since=self._since,
                node=self._node,
                reason=self._last_error.message if self._last_error and self._state is StreamState.FAILED else None,
                source=self._info,
                epoch=self._epoch,
                restarts=self._restarts,
                last_error=self._last_error,
            )
        return status.model_copy(
            update={
                "frames": pipeline.ledger.snapshot(),
                "video": VideoCounts(drawn=pipeline.drawn, encoded=pipeline.encoded),
                "detections": pipeline.ledger.detections,
                "tracks": pipeline.follower.tracks,
                "zones": pipeline.follower.zones,
                "fps": {name: meter.rate(now) for name, meter in pipeline.rates.items()},
                "latency_ms": pipeline.times.percentiles(),
                "sinks": self._sinks.statuses() if self._sinks is not None else (),
                "recording": self._recording.status() if self._recording is not None else None,
                "outputs": self._held_outputs() or (publisher.statuses() if publisher is not None else ()),
            }
        )

    def _held_outputs(self) -> tuple[OutputStatus, ...]:
        why = self._held
        if why is None:
            return ()
        return tuple(
            OutputStatus(url=output.url, state="held", last_error=_not_ours(why)) for output in self.spec.outputs
        )

    # The decode thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (spec := self._next_spec()) is not None:
                if spec.paused:
                    self._rest(StreamState.PAUSED, None, None)
                else:
                    self._try(spec)
        finally:
            self._close_publisher()

    def _next_spec(self) -> StreamSpec | None:
        with self._lock:
            self._reconnect = False
            self._wake.clear()
            return None if self._stopping else self._spec

    def _try(self, spec: StreamSpec) -> None:
        if self._state is not StreamState.RECONNECTING:
            self._set_state(StreamState.CONNECTING)
        try:
            self._play(spec)
            return
        except (StreamError, ForbiddenAddress, InvalidSpec) as error:
            last = _last_error(error, spec.source)
        except Exception as error:
            logger.exception("the stream broke in a way that raysight did not foresee")
            last = _last_error(error, spec.source)
        self._after(last)  # out here: while an error is handled, it holds the connection that broke

    def _play(self, spec: StreamSpec) -> None:
        backoff = self._backoff
        try:
            with self._media.open_source(spec.source, self._opening) as source:
                self._opening(source)  # a source that opens at once never announces itself
                if self._reconnect:
                    return
                backoff.healthy(time.monotonic())
                self._open_publisher(spec.source, source)
                self._info = source.info
                self._set_state(StreamState.ONLINE)
                try:
                    self.pipeline.decode(source)
                finally:
                    backoff.healthy(time.monotonic())  # long enough up: the next wait is a short one again
        finally:
            with self._lock:
                self._source = None

    def _opening(self, source: Source) -> None:
        """Keep the source where other threads can interrupt it, also while it is still opening."""
        with self._lock:
            self._source = source
            unwanted = self._reconnect
        if unwanted:
            source.interrupt()

    def _after(self, error: LastError) -> None:
        with self._lock:
            if self._reconnect:
                return  # what a source raises when it is interrupted on purpose
            self._last_error = error
            self._restarts += error.retryable
        if error.retryable:
            self._rest(StreamState.RECONNECTING, self._backoff.next_delay(), error)
        else:
            self._rest(StreamState.FAILED, None, error)

    def _rest(self, state: StreamState, seconds: float | None, error: LastError | None) -> None:
        if not self._outlives(state):
            self._close_publisher()  # first: who sees the state finds the files complete
        self._set_state(state, error)
        self._wake.wait(seconds)

    def _outlives(self, state: StreamState) -> bool:
        """Whether outputs stay open: one that will be tried again, or shows that the source is away."""
        shows = self._publisher is not None and self._publisher.wants_slate and not self.spec.source.is_file
        return state is StreamState.RECONNECTING or (state is StreamState.FAILED and shows)

    def _set_state(self, state: StreamState, error: LastError | None = None) -> None:
        with self._lock:
            stopped = self._stopping and state is not StreamState.STOPPING
            changed = state is not self._state
            if stopped or not (changed or error):
                return
            if changed:
                self._state, self._since = state, time.time()
            self.history.add(state, error)
        said: dict[str, str] = {"state": state} if error is None else {"state": state, "error_code": error.code}
        why = "" if error is None else f": {error.message}"
        logger.log(logging.INFO if error is None else logging.WARNING, "%s%s", state, why, extra=said)

    # The publisher --------------------------------------------------------------------------------------------

    def _open_publisher(self, spec: SourceSpec, source: Source) -> None:
        """Outputs live on over a reconnect, unless another source came back."""
        # Who decodes it changes nothing for outputs, and of a new size the publisher takes care.
        shown = (spec, source.info.model_copy(update={"decoder": None, "width": 0, "height": 0}))
        if self._published != shown:
            self._close_publisher()
        with self._publishing:
            outputs = self._outputs
            if self._publisher is not None:
                self._publisher.update(outputs)
                return
            self.pipeline.slate.forget()
            self._publisher = self.pipeline.publisher = self._media.open_publisher(
                outputs, source, lambda url, error: self.history.add(self._state, error, url)
            )
            self._published = shown

    def _close_publisher(self, drain_s: float = DRAIN_S) -> None:
        if self._publisher is not None:
            self.pipeline.ledger.wait_published(drain_s)
        with self._publishing:
            publisher, self._publisher, self.pipeline.publisher = self._publisher, None, None
            if publisher is None:
                return
            try:
                publisher.close()
            except Exception:
                logger.exception("the outputs could not be closed")


def _not_ours(why: str) -> LastError:
    return LastError(code=StreamErrorCode.NO_LEASE, message=why, at=time.time(), retryable=True)


def _last_error(error: Exception, source: SourceSpec) -> LastError:
    code: StreamErrorCode | Literal["internal"] = "internal"
    message, retryable = f"internal error: {type(error).__name__}", True
    if isinstance(error, StreamError):
        ended_file = error.code is StreamErrorCode.ENDED and source.is_file
        code, message, retryable = error.code, error.message, error.retryable and not ended_file
    elif isinstance(error, ForbiddenAddress):
        code, message, retryable = StreamErrorCode.FORBIDDEN_ADDRESS, str(error), False
    elif isinstance(error, InvalidSpec):
        code, message, retryable = StreamErrorCode.NOT_FOUND, str(error), False
    return LastError(code=code, message=redact(message), at=time.time(), retryable=retryable)
