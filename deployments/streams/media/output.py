"""One destination of the video: a thread that sends packets, reconnects by itself and never holds up its caller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deployments.errors import RaysightError, StreamError, StreamErrorCode
from deployments.streams.backoff import Backoff
from deployments.streams.media.errors import place
from deployments.streams.media.outlet import Way
from deployments.streams.media.packets import EncodedPacket, PacketQueue
from deployments.streams.media.passthrough import CARRIES
from deployments.streams.media.sink import Sink, Target, target_of
from deployments.streams.spec import LastError, OutputSpec, OutputStatus
from deployments.streams.urls import join_credentials

_log = logging.getLogger(__name__)

CLOSE_S = 3.0
"""Longest that `Output.close` takes."""

_DRAIN_S = 2.0
"""How much of it the packets still queued and the end of the file get."""

_CHECK_S = 1.0
"""How often the connection is looked at while no packets come."""


class Output:
    """Sends to ``spec.url`` until closed. All methods but `close` return at once.

    A failure that another try can heal is tried again after a back-off, for ever; any other leaves the state
    ``failed``. Each connection begins with a key frame, asked for by ``want_key_frame`` (on a thread of its own), and
    takes new packets only from there on. When the video changes its size, the connection is made anew; MP4 files are
    never overwritten or continued: each further one gets a number (``name-2.mp4``).

    Args:
        audio: template stream of the sound that `offer` may bring, None for none.
        resolve: checks the URL and gives the way to open it, at each try; raises `RaysightError`.
        want_key_frame: makes the next packet of the video a key frame, soon.
        on_error: gets each failure of a connection.
    """

    def __init__(
        self,
        spec: OutputSpec,
        *,
        audio: Any | None,
        resolve: Callable[[str], Way],
        want_key_frame: Callable[[], None],
        on_error: Callable[[LastError], None] = lambda error: None,
        backoff: Backoff | None = None,
    ) -> None:
        self.spec = spec
        self._audio = audio if spec.audio == "copy" else None
        self._resolve = resolve
        self._on_error = on_error
        self._backoff = backoff or Backoff()
        self._want_key_frame = want_key_frame
        self._queue = PacketQueue(want_key_frame)
        self._lock = threading.Lock()
        self._status = OutputStatus(url=spec.url, state="connecting")
        self._sink: Sink | None = None
        self._given_up = False
        self._unconfirmed = 0
        self._lost = 0
        self._close_by = 0.0
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def offer(self, packet: EncodedPacket) -> None:
        """Take one packet to send, or count it as dropped."""
        if not packet.audio or self._audio is not None:
            self._queue.put(packet)

    def unencodable(self, message: str) -> None:
        """Take note that no packets come, and why; the next picture is tried all the same."""
        with self._lock:
            last = self._status.last_error
            if last is None or last.message != message:
                error = _error(StreamErrorCode.CODEC_UNSUPPORTED, message, False)
                self._status = self._status.model_copy(update={"last_error": error})

    @property
    def failed(self) -> bool:
        """Whether it gave up."""
        return self._status.state == "failed"

    def status(self) -> OutputStatus:
        """How it is doing; holds no credentials."""
        with self._lock:
            return self._status.model_copy(update={"dropped_packets": self._queue.dropped + self._lost})

    def stop(self) -> None:
        """The first part of `close_all`, which does not wait."""
        if not self._close_by:
            self._close_by = time.monotonic() + _DRAIN_S
        self._queue.close()

    def give_up(self) -> None:
        """Kill what hangs, at once."""
        with self._lock:
            self._given_up = True
            if self._sink is not None:
                self._sink.kill()

    def join(self, by: float) -> None:
        """Wait for the end until ``by``, on the monotonic clock."""
        self._thread.join(max(0.0, by - time.monotonic()))

    def _run(self) -> None:
        packet = self._queue.get()
        while packet is not None:
            try:
                packet = self._serve(packet)
            except Exception as error:  # noqa: BLE001 - whatever FFmpeg makes of it, an output is tried again
                if self._queue.closed or not self._recover(error):
                    break
                packet = self._queue.get()

    def _serve(self, first: EncodedPacket) -> EncodedPacket | None:
        """One connection; gives the first packet of other video, for which a new one is due, or None when closed."""
        with closing(self._resolve(self.spec.url)) as way:
            target = self._target(way, first.template)
            try:
                return self._sent(target, first)
            finally:
                if target.format == "mp4":
                    _remove_empty(Path(target.url))

    def _sent(self, target: Target, first: EncodedPacket) -> EncodedPacket | None:
        sink = self._connected(target, first)
        try:
            packet: EncodedPacket | None = first
            while packet is not None and (packet.audio or packet.template is first.template):
                sink.send(packet)
                if packet.on_sent is not None:
                    packet.on_sent()
                self._note(sink, sent=True)
                packet = self._next(sink)
            sink.finish(max(0.1, self._close_by - time.monotonic()) if self._queue.closed else _DRAIN_S)
            return packet
        finally:
            with self._lock:
                self._sink = None
            sink.close()

    def _connected(self, target: Target, first: EncodedPacket) -> Sink:
        sink = Sink(target, first.template, self._audio)
        with self._lock:
            self._sink = sink
            if self._given_up:
                sink.kill()
        return sink

    def _target(self, way: Way, video: Any) -> Target:
        url = join_credentials(way.url, self.spec.credentials)
        target = replace(target_of(url), proxy=way.proxy, folder=way.folder, private=way.private)
        if self.spec.codec == "copy" and (codec := video.codec_context.name) not in CARRIES[target.format]:
            message = f"{place(self.spec.url)}: {target.format} can't carry {codec}: set the output's codec to h264."
            raise StreamError(StreamErrorCode.CODEC_UNSUPPORTED, message)
        return replace(target, url=_unused(target.url)) if target.format == "mp4" else target

    def _next(self, sink: Sink) -> EncodedPacket | None:
        while (packet := self._queue.get(_CHECK_S)) is None and not self._queue.closed:
            sink.check()
            self._note(sink, sent=False)
        return packet

    def _note(self, sink: Sink, *, sent: bool) -> None:
        """Bring the status up to date."""
        if sink.is_open:
            self._backoff.healthy(time.monotonic())
        if sink.wants_key_frame:
            sink.wants_key_frame = False
            self._want_key_frame()
        with self._lock:
            self._unconfirmed += sent
            if not sink.is_open:
                return
            changes: dict[str, Any] = {"packets": self._status.packets + self._unconfirmed}
            self._unconfirmed = 0
            if self._status.state != "online":
                changes["state"] = "online"
                if sink.left_out is not None:
                    changes["last_error"] = _error(StreamErrorCode.CODEC_UNSUPPORTED, sink.left_out, False)
            self._status = self._status.model_copy(update=changes)

    def _recover(self, error: Exception) -> bool:
        """Wait for the next try; False where there is none."""
        if isinstance(error, StreamError):
            last = _error(error.code, error.message, error.retryable)
        elif isinstance(error, RaysightError):
            last = _error(StreamErrorCode.FORBIDDEN_ADDRESS, str(error), False)
        else:
            why = getattr(error, "strerror", None) or type(error).__name__
            message = f"The output can't be started ({why}): check the machine."
            last = _error("internal", message, True)
        state = "reconnecting" if last.retryable else "failed"
        with self._lock:
            self._lost += self._unconfirmed
            self._unconfirmed = 0
            self._status = self._status.model_copy(update={"state": state, "last_error": last})
        self._on_error(last)
        _log.warning("Output %s is %s: %s", self.spec.url, state, last.message, extra={"error_code": last.code})
        if not last.retryable:
            self._queue.rest(0.0)
            self._queue.close()
            return False
        return self._queue.rest(self._backoff.next_delay())


def close_all(outputs: Sequence[Output]) -> None:
    """Send what is queued, end the files or connections, and stop; kills what hangs. Within `CLOSE_S`, all together."""
    begun = time.monotonic()
    for output in outputs:
        output.stop()
    for output in outputs:
        output.join(begun + _DRAIN_S)
    for output in outputs:
        output.give_up()
    for output in outputs:
        output.join(begun + CLOSE_S)


def _error(code: Any, message: str, retryable: bool) -> LastError:
    return LastError(code=code, message=message, at=time.time(), retryable=retryable)


def _remove_empty(file: Path) -> None:
    """The one that `_unused` made, where nothing could be written into it: each further try would leave another."""
    with suppress(OSError):
        if file.stat().st_size == 0:
            file.unlink()


def _unused(path: str) -> str:
    """``path``, or the next free name with a number, made as an empty file so that nobody else takes it."""
    wanted = Path(path)
    number = 1
    while True:
        candidate = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
        try:
            candidate.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StreamError(
                StreamErrorCode.NOT_FOUND, f"The file can't be made ({error.strerror}): check the folder of the output."
            ) from None
        else:
            return str(candidate)
