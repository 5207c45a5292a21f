"""The life of a stream over a scripted world: when it connects, waits, gives up, and what it keeps."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from deployments.errors import ForbiddenAddress, InvalidSpec, StreamError, StreamErrorCode
from deployments.streams import pipeline
from deployments.streams.backoff import Backoff
from deployments.streams.pipeline import Pipeline
from deployments.streams.runner import StreamRunner
from deployments.streams.spec import LastError, OutputSpec, SourceInfo, SourceSpec, StreamSpec, StreamState
from tests.support.detectors import LocalDetector
from tests.support.streams import INFO, HandFedSource, RecordingPublisher, item, picture, spec
from tests.support.waiting import in_threads, until

OUTPUT = {"url": "rtmp://media/live"}
REFUSED = StreamError(StreamErrorCode.CONNECTION_REFUSED, "Nothing listens.")
ENDED = StreamError(StreamErrorCode.ENDED, "The source ended.")


class Delays(Backoff):
    """The delays that a test sets, and what it was asked."""

    def __init__(self, *delays: float) -> None:
        super().__init__()
        self.delays = list(delays)
        self.healthy_at: list[float] = []

    def next_delay(self) -> float:
        return self.delays.pop(0)

    def healthy(self, now: float) -> None:
        self.healthy_at.append(now)


class Blocking(HandFedSource):
    """Takes until `interrupt` to open, and says so by ``on_opening`` or not."""

    def __init__(self, *, announced: bool) -> None:
        super().__init__()
        self.announced = announced
        self.opening = threading.Event()

    def wait(self, on_opening: Callable[[Any], None]) -> None:
        if self.announced:
            on_opening(self)
        self.opening.set()
        assert self.interrupted.wait(30)
        raise ENDED


class ScriptedMedia:
    """Opens what the script says next, and a plain source when it is over."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.opened: list[SourceSpec] = []
        self.sources: list[HandFedSource] = []
        self.publishers: list[RecordingPublisher] = []
        self.publishing: Exception | None = None

    def open_source(self, spec: SourceSpec, on_opening: Callable[[Any], None]) -> HandFedSource:
        thing = self.script.pop(0) if self.script else HandFedSource()
        self.opened.append(spec)
        if isinstance(thing, Exception):
            raise thing
        if isinstance(thing, Blocking):
            thing.wait(on_opening)
        self.sources.append(thing)
        return thing  # type: ignore[no-any-return]

    def open_publisher(
        self, outputs: tuple[OutputSpec, ...], source: Any, on_error: Callable[[str, LastError], None]
    ) -> RecordingPublisher:
        self.on_error = on_error
        if self.publishing is not None:
            raise self.publishing
        self.publishers.append(publisher := RecordingPublisher(outputs))
        return publisher


class Stream:
    """A started runner and its world."""

    def __init__(self, media: ScriptedMedia, backoffs: list[Delays], **changes: Any) -> None:
        self.media = media
        self.detector = LocalDetector()
        self.threads = set(threading.enumerate())
        self.backoffs = backoffs
        self.generation = 1
        held = changes.pop("held", None)
        self.runner = StreamRunner(
            spec(**changes),
            1,
            self.detector,
            media,
            epoch=3,
            first_sequence=0,
            node="node-1",
            observe=lambda stage, seconds: None,
            backoff=lambda: self.backoffs.pop(0) if self.backoffs else Delays(3600.0, 3600.0),
            held=held,
        )
        self.runner.start()

    def until(self, state: StreamState) -> None:
        until(lambda: self.runner.status().state is state)

    def until_opened(self, count: int) -> None:
        until(lambda: len(self.media.opened) == count)

    def apply(self, **changes: Any) -> StreamSpec:
        self.generation += 1
        self.runner.apply(changed := spec(**changes), self.generation)
        return changed


Start = Callable[..., Stream]


@pytest.fixture
def start() -> Iterator[Start]:
    streams: list[Stream] = []

    def start(*script: Any, backoffs: tuple[Delays, ...] = (), **changes: Any) -> Stream:
        streams.append(stream := Stream(ScriptedMedia(*script), list(backoffs), **changes))
        return stream

    yield start
    for stream in streams:
        stream.runner.stop(20)
        status = stream.runner.status()
        assert status.state is StreamState.STOPPING
        assert (status.frames.in_flight, status.frames.queued) == (0, 0)
        assert all(source.closed.is_set() for source in stream.media.sources)
        assert all(p.closed.is_set() and not p.written_after_close for p in stream.media.publishers)
        stream.detector.close()
        assert set(threading.enumerate()) - stream.threads == set()


TRACKED_LATER = """
import sys
from tests.unit.streams.test_runner import ScriptedMedia, Stream
stream = Stream(ScriptedMedia(), [])
assert "trackers" not in sys.modules
stream.apply(track={})
print("trackers" in sys.modules and "supervision" in sys.modules)
stream.runner.stop(20)
stream.detector.close()
"""


def test_no_frame_waits_for_the_library_that_follows_objects() -> None:
    done = subprocess.run([sys.executable, "-c", TRACKED_LATER], stdout=-1, text=True, timeout=100, check=True)
    assert done.stdout == "True\n"


# Connecting and trying again ------------------------------------------------------------------------------------------


def test_it_connects_and_says_what_is_the_case(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    before = time.time()
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(*(item(number) for number in range(5)))
    until(lambda: stream.runner.status().frames.published == 5)
    status = stream.runner.status()
    assert status.online
    assert (status.epoch, status.node, status.generation, status.observed_generation) == (3, "node-1", 1, 1)
    assert (status.source, status.restarts, status.last_error, status.reason) == (INFO, 0, None, None)
    assert before - 60 < status.since <= time.time()
    assert status.frames.decoded == 5
    assert status.fps.keys() == {"decoded", "inferred", "published"}
    assert status.outputs[0].url == OUTPUT["url"]
    assert stream.media.publishers[0].pts == [3600 * number for number in range(5)]


def test_a_broken_source_is_tried_again_after_each_delay(start: Start) -> None:
    stream = start(REFUSED, REFUSED, REFUSED, backoffs=(Delays(0.0, 0.0, 3600.0),))
    stream.until_opened(3)
    stream.until(StreamState.RECONNECTING)
    status = stream.runner.status()
    assert status.restarts == 3
    assert status.last_error is not None
    assert (status.last_error.code, status.last_error.retryable) == (StreamErrorCode.CONNECTION_REFUSED, True)
    assert status.reason is None
    stream.runner.reconnect()  # does not wait for the hour to pass, and begins with short delays again
    stream.until(StreamState.ONLINE)
    assert len(stream.media.opened) == 4


def test_a_source_that_breaks_later_is_tried_again(start: Start) -> None:
    backoff = Delays(0.0)
    stream = start(backoffs=(backoff,))
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(item(0), ENDED)
    until(lambda: len(stream.media.sources) == 2)
    stream.until(StreamState.ONLINE)
    stream.media.sources[1].feed(item(1))
    until(lambda: stream.runner.status().frames.decoded == 2)
    assert stream.runner.pipeline.next_sequence == 2
    assert stream.runner.status().restarts == 1
    assert stream.media.sources[0].closed.is_set()
    assert len(backoff.healthy_at) >= 3  # on, off, on


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (StreamError(StreamErrorCode.AUTH_FAILED, "Wrong password."), "auth_failed", "Wrong password."),
        (ForbiddenAddress("The policy forbids it."), "forbidden_address", "The policy forbids it."),
        (InvalidSpec("source.url", "No such scheme."), "not_found", "source.url: No such scheme."),
    ],
)
def test_what_no_try_can_mend_waits_for_a_change(start: Start, error: Exception, code: str, message: str) -> None:
    stream = start(error, error)
    for tries in (1, 2):
        stream.until_opened(tries)
        stream.until(StreamState.FAILED)
        status = stream.runner.status()
        assert status.last_error is not None
        assert (status.last_error.code, status.last_error.retryable) == (code, False)
        assert (status.reason, status.restarts, status.online) == (message, 0, False)
        stream.apply(labels={"try": str(tries)})
    stream.until(StreamState.ONLINE)
    assert stream.runner.status().reason is None


def test_changed_zones_take_effect_without_reconnecting(start: Start) -> None:
    everything = {"kind": "polygon", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    stream = start(track={}, zones=[{"name": "old", **everything}])
    stream.until(StreamState.ONLINE)
    (source,) = stream.media.sources

    numbers = count()

    def seen(zone: str) -> bool:
        source.feed(item(next(numbers), at=picture(19)))
        return [(known.name, len(known.entered)) for known in stream.runner.status().zones] == [(zone, 1)]

    until(lambda: seen("old"))
    stream.apply(track={}, zones=[{"name": "new", **everything}])
    until(lambda: seen("new"))
    assert stream.runner.status().tracks == 1
    stream.apply()
    source.feed(item(next(numbers), at=picture(19)))
    until(lambda: stream.runner.status().zones == ())
    assert len(stream.media.opened) == 1


def test_a_life_goes_on_with_what_the_last_one_carried(start: Start) -> None:
    stream = start(track={})
    stream.until(StreamState.ONLINE)
    (source,) = stream.media.sources
    for number in range(3):
        source.feed(item(number, at=picture(19)))
        until(lambda: stream.runner.pipeline.ledger.snapshot().inferred == number + 1)  # noqa: B023
    stream.runner.stop(20)
    carried = stream.runner.carry()
    assert carried is not None
    second = Pipeline(
        spec(track={}), stream.detector, first_sequence=10, observe=lambda stage, s: None, epoch=4, carried=carried
    )
    assert second.follower.carry() == carried


def test_a_failed_stream_can_be_restarted_without_a_change(start: Start) -> None:
    stream = start(StreamError(StreamErrorCode.NOT_FOUND, "No such path."))
    stream.until(StreamState.FAILED)
    stream.runner.reconnect()
    stream.until(StreamState.ONLINE)


def test_an_unforeseen_error_is_tried_again_and_tells_no_details(start: Start) -> None:
    stream = start(KeyError("rtsp://user:secret@camera"), backoffs=(Delays(3600.0),))
    stream.until(StreamState.RECONNECTING)
    error = stream.runner.status().last_error
    assert error is not None
    assert (error.code, error.message, error.retryable) == ("internal", "internal error: KeyError", True)


def test_errors_show_no_credentials(start: Start) -> None:
    told = StreamError(StreamErrorCode.INVALID_DATA, "rtsp://user:s3cret@camera/1?token=s3cret is no video.")
    stream = start(told, source={"url": "rtsp://user:s3cret@camera/1?token=s3cret"}, backoffs=(Delays(3600.0),))
    stream.until(StreamState.RECONNECTING)
    assert "s3cret" not in stream.runner.status().model_dump_json()
    assert "camera/1" in stream.runner.status().model_dump_json()
    (opened,) = stream.media.opened
    assert opened.credentials is not None


def entries(stream: Stream) -> list[tuple[StreamState, str | None, int]]:
    return [
        (entry.state, None if entry.error is None else entry.error.code, entry.times)
        for entry in stream.runner.history.since(0)[1]
    ]


def test_its_history_tells_every_change_and_error(start: Start) -> None:
    stream = start(REFUSED, REFUSED, backoffs=(Delays(0.0, 0.0, 3600.0),))
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(ENDED)
    stream.until(StreamState.RECONNECTING)
    stream.apply(paused=True)
    stream.until(StreamState.PAUSED)
    stream.media.script.append(StreamError(StreamErrorCode.AUTH_FAILED, "Wrong password."))
    stream.apply()
    stream.until(StreamState.FAILED)
    assert entries(stream) == [
        (StreamState.CONNECTING, None, 1),
        (StreamState.RECONNECTING, "connection_refused", 2),
        (StreamState.ONLINE, None, 1),
        (StreamState.RECONNECTING, "ended", 1),
        (StreamState.PAUSED, None, 1),
        (StreamState.CONNECTING, None, 1),
        (StreamState.FAILED, "auth_failed", 1),
    ]
    assert {entry.epoch for entry in stream.runner.history.since(0)[1]} == {3}


def test_its_history_tells_what_broke_an_output(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    broke = LastError(code=StreamErrorCode.ENDED, message="The receiver cut the connection.", at=1.0, retryable=True)
    for url in ("rtmp://media/live", "rtmp://media/other", "rtmp://media/live"):
        stream.media.on_error(url, broke)
    entries = stream.runner.history.since(0)[1][2:]
    assert [(entry.state, entry.output, entry.times) for entry in entries] == [
        (StreamState.ONLINE, "rtmp://media/live", 2),
        (StreamState.ONLINE, "rtmp://media/other", 1),
    ]
    assert all(entry.error == broke for entry in entries)


def test_a_size_that_changes_in_mid_stream_shows_in_the_status(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    larger = INFO.model_copy(update={"width": 1920, "height": 1080})
    stream.media.sources[0].info = larger
    assert stream.runner.status().source == larger
    stream.media.script.append(HandFedSource(larger))
    stream.runner.reconnect()
    until(lambda: len(stream.media.sources) == 2)
    stream.until(StreamState.ONLINE)
    assert len(stream.media.publishers) == 1  # which has taken care of the new size already


# Changes --------------------------------------------------------------------------------------------------------------


def test_what_is_looked_for_changes_in_place(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    changed = stream.apply(detect={"confidence": 0.9}, video_delay_ms=7, outputs=[OUTPUT])
    assert stream.runner.pipeline.spec == stream.runner.spec == changed
    assert stream.runner.status().generation == 2
    stream.media.sources[0].feed(item(0))
    until(lambda: stream.runner.status().frames.published == 1)
    assert (len(stream.media.sources), len(stream.media.publishers)) == (1, 1)


def test_outputs_change_in_place(start: Start) -> None:
    stream = start()
    stream.until(StreamState.ONLINE)
    changed = stream.apply(outputs=[OUTPUT])
    assert stream.media.publishers[0].outputs == changed.outputs
    assert len(stream.media.sources) == 1


def test_an_older_change_that_comes_late_is_not_followed(start: Start) -> None:
    stream = start()
    stream.until(StreamState.ONLINE)
    newer = spec(outputs=[OUTPUT], video_delay_ms=3)
    stream.runner.apply(newer, 3)
    stream.runner.apply(spec(video_delay_ms=2), 2)
    assert (stream.runner.spec, stream.runner.status().generation) == (newer, 3)
    assert stream.media.publishers[0].outputs == newer.outputs


@pytest.mark.parametrize("changes", [{"source": {"url": "rtsp://other/1"}}, {"outputs": [OUTPUT]}])
def test_a_change_that_could_not_be_followed_whole_is_followed_when_it_comes_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    stream = start()
    stream.until(StreamState.ONLINE)
    with monkeypatch.context() as broken:
        broken.setattr(RecordingPublisher, "update", lambda self, outputs: 1 / 0)
        broken.setattr(stream.runner.pipeline, "interrupt", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stream.runner.apply(spec(**changes), 2)
    assert stream.runner.generation == 1
    stream.runner.apply(wanted := spec(**changes), 2)
    assert (stream.runner.generation, stream.runner.spec) == (2, wanted)
    until(lambda: stream.media.opened[-1] == wanted.source)
    until(lambda: stream.media.publishers[-1].outputs == wanted.outputs)


def test_changes_at_the_same_time_end_with_the_newest(start: Start) -> None:
    stream = start()
    stream.until(StreamState.ONLINE)
    specs = {number: spec(outputs=[{**OUTPUT, "bitrate": 1_000_000 + number}]) for number in range(2, 40)}
    numbers = iter(specs)

    def change() -> None:
        for number in numbers:
            stream.runner.apply(specs[number], number)

    in_threads(change, change)
    assert stream.runner.spec == specs[39]
    assert stream.media.publishers[-1].outputs == specs[39].outputs


@pytest.mark.parametrize(
    ("slate", "url", "stays"),
    [(True, "rtsp://camera/1", True), (False, "rtsp://camera/1", False), (True, "file:a", False)],
)
def test_only_outputs_with_a_slate_stay_open_when_the_source_fails(
    start: Start, slate: bool, url: str, stays: bool
) -> None:
    stream = start(outputs=[{**OUTPUT, "slate": slate}], source={"url": url})
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(StreamError(StreamErrorCode.NOT_FOUND, "No such path."))
    stream.until(StreamState.FAILED)
    assert stream.media.publishers[0].closed.is_set() != stays
    stream.runner.reconnect()
    stream.until(StreamState.ONLINE)
    assert len(stream.media.publishers) == (1 if stays else 2)


def test_another_source_is_connected_to_and_gets_a_publisher_of_its_own(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    changed = stream.apply(source={"url": "rtsp://camera/2"}, outputs=[{"url": "rtmp://media/other"}])
    until(lambda: len(stream.media.publishers) == 2)
    stream.until(StreamState.ONLINE)
    assert stream.media.opened[1].url == "rtsp://camera/2"
    assert stream.media.sources[0].closed.is_set()
    assert stream.media.publishers[0].closed.is_set()
    assert stream.media.publishers[1].outputs == changed.outputs
    assert stream.runner.status().restarts == 0
    assert stream.runner.status().last_error is None


def test_outputs_live_on_over_a_reconnect(start: Start) -> None:
    stream = start(backoffs=(Delays(0.0),), outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(ENDED)
    until(lambda: len(stream.media.sources) == 2)
    stream.runner.reconnect()
    until(lambda: len(stream.media.sources) == 3)
    stream.until(StreamState.ONLINE)
    stream.media.sources[2].feed(item(0))
    until(lambda: stream.runner.status().frames.published == 1)
    (publisher,) = stream.media.publishers
    assert not publisher.closed.is_set()
    assert publisher.pts == [0]


def test_outputs_live_on_when_another_decoder_takes_over(start: Start) -> None:
    hardware, software = (INFO.model_copy(update={"decoder": name}) for name in ("h264 (cuda)", "h264"))
    stream = start(HandFedSource(hardware), HandFedSource(software), backoffs=(Delays(0.0),), outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(ENDED)
    until(lambda: stream.runner.status().source == software)
    assert len(stream.media.publishers) == 1


def test_a_source_that_came_back_otherwise_gets_another_publisher(start: Start) -> None:
    other = HandFedSource(SourceInfo(codec="hevc", width=1920, height=1080, fps=30.0))
    stream = start(HandFedSource(), other, backoffs=(Delays(0.0),), outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(ENDED)
    until(lambda: len(stream.media.publishers) == 2)
    assert stream.media.publishers[0].closed.is_set()
    stream.until(StreamState.ONLINE)
    assert stream.runner.status().source == other.info


def test_outputs_that_changed_while_the_source_was_away_are_followed(start: Start) -> None:
    stream = start(backoffs=(Delays(3600.0),), outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.media.sources[0].feed(ENDED)
    stream.until(StreamState.RECONNECTING)
    changed = stream.apply(outputs=[])
    assert stream.media.publishers[0].outputs == changed.outputs
    stream.runner.reconnect()
    stream.until(StreamState.ONLINE)
    assert len(stream.media.publishers) == 1


def test_an_output_that_was_taken_out_ends_though_the_new_source_stays_away(start: Start) -> None:
    stream = start(HandFedSource(), REFUSED, backoffs=(Delays(), Delays(3600.0)), outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.apply(source={"url": "rtsp://camera/2"}, outputs=[])
    assert stream.media.publishers[0].outputs == ()
    stream.until(StreamState.RECONNECTING)
    assert stream.runner.status().outputs == ()


def test_outputs_that_cannot_be_opened_are_tried_again(start: Start) -> None:
    stream = start(REFUSED, backoffs=(Delays(3600.0), Delays(3600.0)))
    stream.until(StreamState.RECONNECTING)
    stream.media.publishing = OSError("no process to be had")
    stream.runner.reconnect()
    until(lambda: stream.runner.status().restarts == 2)
    stream.media.publishing = None
    stream.runner.reconnect()
    stream.until(StreamState.ONLINE)


def test_a_paused_stream_closes_everything_and_comes_back(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    stream.apply(paused=True, outputs=[OUTPUT])
    stream.until(StreamState.PAUSED)
    assert stream.media.sources[0].closed.is_set()
    assert stream.media.publishers[0].closed.is_set()
    stream.runner.reconnect()  # wakes it, but it stays paused
    stream.apply(paused=True, outputs=[])
    stream.until(StreamState.PAUSED)
    assert len(stream.media.opened) == 1
    stream.apply(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    assert (len(stream.media.sources), len(stream.media.publishers)) == (2, 2)


def test_a_stream_may_begin_paused(start: Start) -> None:
    stream = start(paused=True)
    stream.until(StreamState.PAUSED)
    assert stream.media.opened == []


def test_a_resumed_stream_is_connecting_until_its_source_is_open(start: Start) -> None:
    blocking = Blocking(announced=True)
    stream = start(blocking, paused=True)
    stream.until(StreamState.PAUSED)
    stream.apply()
    assert blocking.opening.wait(20)
    assert stream.runner.status().state is StreamState.CONNECTING
    stream.apply(source={"url": "rtsp://camera/2"})  # leaves the one that does not open
    stream.until(StreamState.ONLINE)
    assert stream.runner.status().last_error is None


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file", "FILE"])
def test_a_file_that_ended_is_published_to_its_end_and_rests(start: Start, scheme: str) -> None:
    stream = start(source={"url": f"{scheme}:clip.mp4", "realtime": False}, outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    publisher = stream.media.publishers[0]
    publisher.held.clear()  # an encoder that is behind when the file ends
    stream.media.sources[0].feed(*(item(number) for number in range(20)), ENDED)
    until(lambda: stream.runner.status().frames.decoded == 20)
    assert not publisher.closed.wait(0.1)
    publisher.held.set()
    stream.until(StreamState.FAILED)
    status = stream.runner.status()
    assert publisher.closed.is_set()
    assert len(publisher.written) == 20
    assert (status.reason, status.restarts, len(stream.media.opened)) == ("The source ended.", 0, 1)
    until(lambda: stream.runner.status().frames.inferred == 20)


# The end --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [REFUSED, StreamError(StreamErrorCode.AUTH_FAILED, "No."), None])
def test_stop_ends_it_in_any_state(start: Start, first: StreamError | None) -> None:
    stream = start(*([first] if first else []), outputs=[OUTPUT])
    stream.until_opened(1)
    began = time.monotonic()
    stream.runner.stop(60)
    assert time.monotonic() - began < 20
    assert stream.runner.status().state is StreamState.STOPPING
    opened = len(stream.media.opened)
    stream.runner.reconnect()
    assert len(stream.media.opened) == opened


def test_stop_leaves_a_source_that_is_still_opening(start: Start) -> None:
    blocking = Blocking(announced=True)
    stream = start(blocking)
    assert blocking.opening.wait(20)
    began = time.monotonic()
    stream.runner.stop(60)
    assert time.monotonic() - began < 20


def test_stop_returns_in_time_though_the_source_blocks(start: Start) -> None:
    blocking = Blocking(announced=False)
    stream = start(blocking, outputs=[OUTPUT])
    assert blocking.opening.wait(20)
    began = time.monotonic()
    stream.runner.stop(0.3)
    assert 0.2 < time.monotonic() - began < 10
    assert stream.runner.status().state is StreamState.STOPPING
    blocking.interrupt()


def test_stop_leaves_a_file_that_waits_for_the_detector(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LAST_REPLIES_S", 0.2)
    stream = start(source={"url": "file:clip.mp4", "realtime": False})
    stream.until(StreamState.ONLINE)
    stream.detector.engine.hang()
    stream.media.sources[0].feed(*(item(number) for number in range(10)))
    until(lambda: stream.runner.status().frames.decoded >= 3)  # one is out, one in the slot, one waits for it
    began = time.monotonic()
    stream.runner.stop(60)
    assert time.monotonic() - began < 20
    stream.detector.engine.resume()  # the link settles every frame, if late
    until(lambda: stream.runner.status().frames.in_flight == 0)


def test_outputs_that_cannot_be_closed_do_not_end_the_stream(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    publisher = stream.media.publishers[0]
    close = publisher.close

    def broken() -> None:
        close()
        raise OSError("no such process")

    monkeypatch.setattr(publisher, "close", broken)
    stream.apply(paused=True)
    stream.until(StreamState.PAUSED)
    stream.apply()
    stream.until(StreamState.ONLINE)


WHY = "its outputs pause: nobody knows who publishes"


def test_a_stream_that_is_held_goes_on_without_its_outputs_and_tells_why(start: Start) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    (publisher,) = stream.media.publishers
    assert [output.url for output in publisher.outputs] == [OUTPUT["url"]]
    stream.runner.hold(WHY)
    assert publisher.outputs == ()
    status = stream.runner.status()
    assert status.online
    (output,) = status.outputs
    assert (output.state, output.last_error and output.last_error.code) == ("held", StreamErrorCode.NO_LEASE)
    before = status.frames.decoded
    stream.media.sources[0].feed(item(0))
    until(lambda: stream.runner.status().frames.decoded == before + 1)
    stream.runner.hold(None)
    assert [output.url for output in publisher.outputs] == [OUTPUT["url"]]
    assert [entry.error.message for entry in stream.runner.history.since(0)[1] if entry.error] == [WHY]


def test_a_change_of_outputs_while_held_opens_none_and_counts_afterwards(start: Start) -> None:
    stream = start(held=WHY, outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    (publisher,) = stream.media.publishers
    assert publisher.outputs == ()
    other = {"url": "rtmp://media/other"}
    stream.apply(outputs=[other])
    assert publisher.outputs == ()
    stream.runner.hold(None)
    assert [output.url for output in publisher.outputs] == [other["url"]]


def test_outputs_that_could_not_be_closed_are_closed_when_it_is_said_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = start(outputs=[OUTPUT])
    stream.until(StreamState.ONLINE)
    (publisher,) = stream.media.publishers
    with monkeypatch.context() as broken:
        broken.setattr(RecordingPublisher, "update", lambda self, outputs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stream.runner.hold(WHY)
    stream.runner.hold(WHY)
    assert publisher.outputs == ()
    assert [entry.error.message for entry in stream.runner.history.since(0)[1] if entry.error] == [WHY]


def test_a_source_that_comes_back_while_held_opens_no_output(start: Start) -> None:
    stream = start(outputs=[OUTPUT], backoffs=(Delays(0.0, 3600.0),))
    stream.until(StreamState.ONLINE)
    stream.runner.hold(WHY)
    stream.media.sources[0].feed(ENDED)
    stream.until_opened(2)
    stream.until(StreamState.ONLINE)
    assert all(publisher.outputs == () for publisher in stream.media.publishers)
