"""One stream's way from decoder to encoder, set against what FFmpeg itself needs to decode and encode the same clip.

``python -m benchmarks.pipeline --json PATH``; with ``--quick`` in under a minute, at more noise.

The clip is the shipped one, scaled up to 1080p at 30 frames a second. Rows:

- ``ffmpeg``: one process of Debian's ``ffmpeg`` that decodes and encodes it, with the settings of our encoder.
- ``pyav``: the same in one loop over PyAV, so with the very libraries that we use.
- ``ours``: decode, draw, encode and send to the relay that writes the file; only the first frame is inferred.
- ``ours_detecting``: all of it. Each frame is also letterboxed, into the place that a stand-in for the detector gives.
- ``ours_copying``: each frame is inferred, and the output gets the source's own packets.
- ``ours_unwatched``: each frame is inferred, but there is no output, so nothing is drawn or encoded.

CPU is user and system time of all processes of a row, without their start: the first two seconds of the clip don't
count. ``throughput`` plays the clip as fast as it goes, on one core: threads that share the two halves of a physical
core take more CPU time for the same work, and on a machine that is full of streams every row is in that position.
``live`` plays it at its own pace, on all cores. A row's ratio is the median over rounds of its CPU to that of
``ffmpeg`` in the same round, since the speed of a shared host drifts. The headline is `HEADLINE` to ``ffmpeg`` in
``throughput``. Latency is from "frame decoded" to "packet handed to the output", ``live``.

The two FFmpegs are not the same: Debian 12 has 5.1 with x264 core 164, PyAV's wheel 8.1 with core 165, each compiled
in its own way. Where ``pyav`` and ``ffmpeg`` differ, it is the libraries and not the pipeline. Ray's metrics, some 3 us
for each stage, are left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import psutil

from benchmarks import report
from benchmarks.stand_in import InstantDetector
from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media.clips import CLIPS
from deployments.streams.media.encoder import CRF, PRESET
from deployments.streams.media.outlet import Outlets
from deployments.streams.media.publisher import Publisher
from deployments.streams.media.reader import DECODER_THREADS
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.pipeline import Pipeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import DetectSpec, FrameCounts, OutputSpec, SourceSpec, StreamSpec

FOOTAGE = CLIPS / "pedestrians-768x576-25fps.mp4"
FPS = 30
HEADLINE = "ours_detecting"
MAX_RATIO = 1.25
"""What the headline must not exceed."""

ROWS = ("ffmpeg", "pyav", "ours", "ours_detecting", "ours_copying", "ours_unwatched")
LIVE_ROWS = ("ffmpeg", "ours_detecting")
OUTPUT = OutputSpec(url="file:ours.mp4")
OUTPUTS = {"ours_copying": (OutputSpec(url=OUTPUT.url, codec="copy"),), "ours_unwatched": ()}
"""Of the rows that encode nothing."""
SETTLE_S = 30.0
INSTALL = "benchmarks.pipeline needs the program ffmpeg: apt-get install ffmpeg"


@dataclass(frozen=True)
class Clip:
    """What is played: ``frames`` at `FPS`, the first ``warm_up`` of which count for no result."""

    path: Path
    size: tuple[int, int]
    frames: int
    warm_up: int = 2 * FPS


@dataclass(frozen=True)
class Run:
    """One row of one round; latencies in ms, for our rows at the clip's own pace only."""

    cpu_ms_per_frame: float
    fps: float
    frames: int
    dropped: int = 0
    latencies_ms: list[float] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Mark:
    """Where a pipeline stood at one moment."""

    cpu_s: float
    at: float
    frames: FrameCounts


class TimedPublisher(Publisher):
    """A publisher that notes when it has handed out a frame's packet, by pts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.out: dict[int, float] = {}

    def write(self, pts: int, plain: Any, annotated: Any, on_sent: Callable[[float], None] | None = None) -> int:
        encoded = super().write(pts, plain, annotated, on_sent)
        self.out[pts] = time.monotonic()
        return encoded


class TimedSource:
    """A source that notes when each frame was decoded, by pts, and calls ``warm`` after ``warm_up`` of them."""

    def __init__(self, source: Any, warm_up: int, warm: Callable[[], None]) -> None:
        self._source, self._warm_up, self._warm = source, warm_up, warm
        self.decoded: dict[int, float] = {}

    def items(self) -> Iterator[Any]:
        for number, item in enumerate(self._source.items()):
            if number == self._warm_up:
                self._warm()
                self.decoded.clear()
            self.decoded[item.pts] = item.decoded_at
            yield item


def make_clip(path: Path, seconds: float, size: tuple[int, int] = (1920, 1080)) -> Clip:
    """The shipped footage at ``size`` and `FPS`, as cameras send it: no B-frames, one slice a picture, GOPs of 2 s."""
    frames = round(seconds * FPS)
    with av.open(str(FOOTAGE)) as footage, av.open(str(path), "w") as clip:
        stream: Any = clip.add_stream("libx264", FPS, options={"preset": "veryfast", "bf": "0", "g": str(2 * FPS)})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_type = "FRAME"  # threads by slices would cut each picture up
        for number, frame in enumerate(itertools.islice(footage.decode(video=0), frames)):
            scaled = frame.reformat(*size, "yuv420p", interpolation="BICUBIC")
            scaled.pts, scaled.time_base, scaled.pict_type = number, Fraction(1, FPS), 0
            clip.mux(stream.encode(scaled))
        clip.mux(stream.encode(None))
    return Clip(path, size, frames)


def ffmpeg_command(clip: Clip, into: Path, *, live: bool, frames: int) -> list[str]:
    """Decode and encode with the settings of `H264Encoder` and of our decoder."""
    rate, gop = str(OUTPUT.bitrate), str(round(OUTPUT.gop_s * FPS))
    read = ["-threads", str(DECODER_THREADS), "-thread_type", "slice", *(["-re"] if live else []), "-i", str(clip.path)]
    encode = ["-c:v", "libx264", "-preset", PRESET, "-tune", "zerolatency", "-crf", CRF, "-maxrate", rate]
    encode += ["-bufsize", rate, "-g", gop, "-forced-idr", "1", "-x264-params", "repeat-headers=1", "-threads", "1"]
    write = ["-an", "-filter_threads", "1", "-fps_mode", "passthrough", "-frames:v", str(frames), "-y", str(into)]
    return ["ffmpeg", "-nostdin", "-v", "error", *read, *encode, *write]


def run_ffmpeg(clip: Clip, *, live: bool) -> Run:
    """Two processes, over the whole clip and over its warm-up: the difference is without the start."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "ffmpeg.mp4"
        warm_cpu, warm_s = _cpu_of(ffmpeg_command(clip, into, live=live, frames=clip.warm_up))
        cpu, seconds = _cpu_of(ffmpeg_command(clip, into, live=live, frames=clip.frames))
    frames = clip.frames - clip.warm_up
    return Run((cpu - warm_cpu) * 1e3 / frames, frames / (seconds - warm_s), frames)


def _cpu_of(command: list[str]) -> tuple[float, float]:
    """Seconds of CPU and of wall time that a command takes."""
    started = time.monotonic()
    with subprocess.Popen(command) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - started


def run_pyav(clip: Clip) -> Run:
    """Decode and encode in one loop; runs in a process of its own."""
    rate = str(OUTPUT.bitrate)
    options = {"preset": PRESET, "tune": "zerolatency", "crf": CRF, "maxrate": rate, "bufsize": rate}
    options |= {"g": str(round(OUTPUT.gop_s * FPS)), "x264-params": "repeat-headers=1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(str(clip.path)) as source,
        av.open(f"{folder}/pyav.mp4", "w") as into,
    ):
        decoder: Any = source.streams.video[0]
        decoder.codec_context.thread_type, decoder.codec_context.thread_count = "SLICE", DECODER_THREADS
        encoder: Any = into.add_stream("libx264", FPS, options=options)
        encoder.width, encoder.height, encoder.pix_fmt = decoder.width, decoder.height, "yuv420p"
        encoder.codec_context.thread_count = 1
        cpu, started = 0.0, 0.0
        for number, frame in enumerate(source.decode(decoder)):
            if number == clip.warm_up:
                cpu, started = _cpu(), time.monotonic()
            frame.pict_type = 0
            into.mux(encoder.encode(frame))
        frames = clip.frames - clip.warm_up
        return Run((_cpu() - cpu) * 1e3 / frames, frames / (time.monotonic() - started), frames)


def run_ours(row: str, clip: Clip, *, live: bool) -> Run:
    """Play the clip through a `Pipeline`; runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        policy = UrlPolicy(media_root=clip.path.parent, output_root=Path(folder))
        spec = StreamSpec(
            id="one",
            source=SourceSpec(url=f"file:{clip.path.name}", realtime=live),
            detect=DetectSpec(max_fps=0.001 if row == "ours" else None),
            outputs=OUTPUTS.get(row, (OUTPUT,)),
        )
        pipeline = Pipeline(spec, InstantDetector(), first_sequence=0, observe=lambda stage, seconds: None)
        pipeline.start()
        timeline = Timeline()
        try:
            with open_source(spec.source, policy, timeline) as source:
                wishes = (spec.outputs, source.info, timeline.time_base, source.audio, Outlets(policy).way)
                publisher = TimedPublisher(*wishes)
                with closing(publisher):
                    return _played(pipeline, publisher, source, clip.warm_up)
        finally:
            pipeline.stop()


def _played(pipeline: Pipeline, publisher: TimedPublisher, source: Any, warm_up: int) -> Run:
    """From the end of the warm-up until the last packet is with the relay."""
    pipeline.publisher = publisher
    starts: list[Mark] = []

    def warm() -> None:
        if pipeline.spec.source.unpaced:  # at its own pace it has no backlog, and a pause would make one
            _settle(pipeline, publisher)
        starts.append(Mark(_cpu(), time.monotonic(), pipeline.ledger.snapshot()))

    timed: Any = TimedSource(source, warm_up, warm)
    try:
        pipeline.decode(timed)
    except StreamError as error:
        if error.code is not StreamErrorCode.ENDED:
            raise
    _settle(pipeline, publisher)
    (start,), end = starts, Mark(_cpu(), time.monotonic(), pipeline.ledger.snapshot())
    frames = end.frames.decoded - start.frames.decoded
    cpu_ms, fps = (end.cpu_s - start.cpu_s) * 1e3 / frames, frames / (end.at - start.at)
    paced, decoded = not pipeline.spec.source.unpaced, timed.decoded
    latencies_ms = [(at - decoded[pts]) * 1e3 for pts, at in publisher.out.items() if paced and pts in decoded]
    return Run(cpu_ms, fps, frames, _dropped(end.frames) - _dropped(start.frames), latencies_ms)


def _settle(pipeline: Pipeline, publisher: Publisher) -> None:
    """Wait until all that was decoded is inferred, encoded and sent."""
    pause, deadline = threading.Event(), time.monotonic() + SETTLE_S
    while True:
        frames = pipeline.ledger.snapshot()
        sent = (output.packets + output.dropped_packets for output in publisher.statuses())
        if frames.in_flight == frames.queued == 0 and all(count == frames.published for count in sent):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the last frames were not through within {SETTLE_S:g} s")
        pause.wait(0.01)


def _dropped(frames: FrameCounts) -> int:
    """Frames that a branch gave up, other than by ``max_fps``, which is meant."""
    counts: dict[str, int] = frames.dropped.model_dump(exclude={"max_fps"})
    return sum(counts.values()) + frames.video_dropped


def _cpu() -> float:
    """Seconds of CPU of this process and its relays."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    relays = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return own.ru_utime + own.ru_stime + sum(times.user + times.system for times in relays)


def run(row: str, clip: Clip, *, live: bool) -> Run:
    """One row once, in a fresh process."""
    if row == "ffmpeg":
        return run_ffmpeg(clip, live=live)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        if row == "pyav":
            return pool.submit(run_pyav, clip).result()
        return pool.submit(run_ours, row, clip, live=live).result()


def rounds(rows: tuple[str, ...], clip: Clip, count: int, *, live: bool) -> list[dict[str, Run]]:
    """All rows ``count`` times, back and forth, so that a drift of the host's speed meets them alike."""
    orders = [rows if number % 2 == 0 else rows[::-1] for number in range(count)]
    return [{row: run(row, clip, live=live) for row in order} for order in orders]


def summary(found: list[dict[str, Run]]) -> list[dict[str, Any]]:
    """One entry a row: medians over the rounds."""
    rows = []
    for row in found[0]:
        runs = [results[row] for results in found]
        ratios = [results[row].cpu_ms_per_frame / results["ffmpeg"].cpu_ms_per_frame for results in found]
        latencies = [latency for one in runs for latency in one.latencies_ms]
        rows.append(
            {
                "row": row,
                "cpu_ms_per_frame": round(median(one.cpu_ms_per_frame for one in runs), 3),
                "ratio_to_ffmpeg": round(median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "fps": round(median(one.fps for one in runs), 1),
                "frames": sum(one.frames for one in runs),
                "dropped": sum(one.dropped for one in runs),
                "latency_ms": _percentiles(latencies) if latencies else None,
            }
        )
    return sorted(rows, key=lambda entry: ROWS.index(entry["row"]))


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


def measure(clip: Clip, throughput_rounds: int, live_rounds: int) -> dict[str, Any]:
    """Run everything and return the result."""
    version = ffmpeg_version()  # first, so that the program is in the page cache for every round
    with one_core():
        throughput = summary(rounds(ROWS, clip, throughput_rounds, live=False))
    live = summary(rounds(LIVE_ROWS, clip, live_rounds, live=True))
    ratio = next(entry["ratio_to_ffmpeg"] for entry in throughput if entry["row"] == HEADLINE)
    return {
        "headline": {"row": HEADLINE, "ratio_to_ffmpeg": ratio, "at_most": MAX_RATIO},
        "clip": {"frames": clip.frames, "fps": FPS, "size": list(clip.size), "bytes": clip.path.stat().st_size},
        "ffmpeg": version,
        "pyav_ffmpeg": av.ffmpeg_version_info,
        "throughput": throughput,
        "live": live,
    }


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def ffmpeg_version() -> str:
    """The first line of ``ffmpeg -version``."""
    return subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = []
    for part in ("throughput", "live"):
        heads = f"{'CPU ms/frame':>13}{'to ffmpeg':>11}{'fps':>8}{'frames':>8}{'dropped':>9}  p50/p95/p99 ms"
        lines.append(f"{part:<16}{heads}")
        for entry in result[part]:
            latency = "/".join(f"{value:g}" for value in entry["latency_ms"].values()) if entry["latency_ms"] else "-"
            lines.append(
                f"  {entry['row']:<14}{entry['cpu_ms_per_frame']:>13}{entry['ratio_to_ffmpeg']:>11}"
                f"{entry['fps']:>8}{entry['frames']:>8}{entry['dropped']:>9}  {latency}"
            )
    return "\n".join([*lines, "{row} to ffmpeg: {ratio_to_ffmpeg} (at most {at_most})".format(**result["headline"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter clip and fewer rounds")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    args = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit(INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", 5.0 if args.quick else 10.0)
        result = measure(clip, 1 if args.quick else 5, 1 if args.quick else 3)
    print(table(result))
    if args.json is not None:
        report.write(args.json, "benchmarks.pipeline", result)


if __name__ == "__main__":
    main()
