"""How fast 1080p is decoded on a GPU and in software, and what a stream costs of CPU and of the GPU's memory.

``python -m benchmarks.nvdec --streams 1,2,4,8 --seconds 5 --json PATH``, under three minutes.

Each stream is a process that reads one clip through raysight's own source, as fast as it goes. The clip is that of
`benchmarks.pipeline`, 1080p H.264 at 30 frames a second, many times over. A row's frames a second are those of all its
processes together, between a start that they share and ``--seconds`` later; opening is not among it. CPU is user and
system time of the processes. ``vram_mib`` is what the driver says of each process (a CUDA context, and the decoder's
pictures), ``device_mib`` by how much the whole GPU's memory in use grew, for each process. With a decoder in software
nothing is used of the GPU. What can't be measured here is a row with the reason. ``encoder`` says whether NVENC can be
opened, which is not measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks import report
from benchmarks.pipeline import FPS, Clip, make_clip
from deployments.streams.media import errors
from deployments.streams.media.encoder import H264Encoder
from deployments.streams.media.gpu import Nvdec, Nvenc
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec

HARDWARE, SOFTWARE = "cuda", "none"
WARM_UP = 60
"""Frames that a process decodes before it is ready."""

MIN_FRAMES = 6000
"""Of the clip: at a thousand a second, the six seconds in which it needn't be opened anew."""

OPEN_S = 40.0
"""From a process's start until it is ready."""

CLOSE_S = 5.0
"""For all processes to end by themselves."""

LIMIT_S = 150.0
"""Rows that would begin later are left out."""

SAMPLE_S = 0.1
MIB = 2**20


@dataclass
class Nvml:
    """What NVIDIA's management library says of the first GPU; ``missing`` says why it says nothing."""

    missing: str | None = None
    _nvml: Any = None
    _handle: Any = None

    @classmethod
    def open(cls) -> Nvml:
        """Makes no CUDA context."""
        try:
            import pynvml

            pynvml.nvmlInit()
            return cls(None, pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        except ImportError:
            return cls("the package nvidia-ml-py is not installed")
        except Exception as error:  # noqa: BLE001  # the library has an exception for each of its codes
            return cls(f"no GPU: {error}")

    def ask(self, read: Callable[[Any, Any], Any]) -> Any:
        """What ``read`` makes of the library and the GPU; None where it can't be told."""
        if self._nvml is None:
            return None
        with suppress(Exception):
            return read(self._nvml, self._handle)
        return None

    def describe(self) -> dict[str, Any]:
        """Name, driver and memory."""
        if self.missing is not None:
            return {"missing": self.missing}
        return {
            "name": self.ask(lambda nvml, gpu: nvml.nvmlDeviceGetName(gpu)),
            "driver": self.ask(lambda nvml, gpu: nvml.nvmlSystemGetDriverVersion()),
            "memory_mib": self.ask(lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total // MIB),
            "count": self.ask(lambda nvml, gpu: nvml.nvmlDeviceGetCount()),
        }

    def used_mib(self) -> float | None:
        """Memory in use on the whole GPU."""
        used: float | None = self.ask(lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / MIB)
        return used

    def by_process(self) -> dict[int, float]:
        """MiB of each process, by the number that the driver knows it by: in a container not our own."""
        found = self.ask(lambda nvml, gpu: nvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or []
        return {process.pid: (process.usedGpuMemory or 0) / MIB for process in found}

    def decoder_percent(self) -> float | None:
        """Utilisation of all NVDECs."""
        percent: float | None = self.ask(lambda nvml, gpu: float(nvml.nvmlDeviceGetDecoderUtilization(gpu)[0]))
        return percent


class Sampler:
    """Asks for the utilisation of NVDEC on a thread, until it is stopped."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._stopped = threading.Event()
        self._seen: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float] | None:
        """Mean and maximum in per cent; None where it is not to be had."""
        self._stopped.set()
        self._thread.join()
        if not self._seen:
            return None
        return {"mean": round(float(np.mean(self._seen)), 1), "max": max(self._seen)}

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            percent = self._nvml.decoder_percent()
            if percent is not None:
                self._seen.append(percent)


def decode(clip: Path, hwaccel: str, seconds: float, parent: Connection) -> None:
    """One stream, in a process of its own: says when it is ready, decodes on "go", and keeps all of it until "end"."""
    try:
        spec = SourceSpec(url=f"file:{clip.name}", realtime=False, loop=True, hwaccel=hwaccel)
        policy = UrlPolicy(media_root=clip.parent, output_root=clip.parent)
        with open_source(spec, policy, Timeline(), nvdec=Nvdec()) as source:
            items = source.items()
            for _ in range(WARM_UP):
                next(items)
            parent.send({"decoder": source.info.decoder})
            parent.recv()
            cpu, started = _cpu(), time.monotonic()
            took: list[float] = []
            while (now := time.monotonic()) < started + seconds:
                item: Any = next(items)
                took.append(item.decode_s * 1e3)
            parent.send({"frames": len(took), "seconds": now - started, "cpu_s": _cpu() - cpu, "decode_ms": took})
            parent.recv()
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent has a row for it
        with suppress(OSError):
            parent.send({"reason": f"{type(error).__name__}: {error}"})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Streams:
    """Processes that decode side by side; a context manager that ends them."""

    clip: Path
    hwaccel: str
    count: int
    seconds: float
    _ends: list[Connection] = field(default_factory=list)
    _processes: list[Any] = field(default_factory=list)

    def __enter__(self) -> Streams:
        context = multiprocessing.get_context("spawn")
        for _ in range(self.count):
            ours, theirs = context.Pipe()
            process = context.Process(target=decode, args=(self.clip, self.hwaccel, self.seconds, theirs), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        self.tell("end")
        deadline = time.monotonic() + CLOSE_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End them whatever they do; harmless once they have ended."""
        for process in self._processes:
            process.kill()
            process.join()

    def tell(self, word: str) -> None:
        """To all of them."""
        for end in self._ends:
            with suppress(OSError):
                end.send(word)

    def hear(self, limit_s: float) -> list[dict[str, Any]]:
        """What each says next; a ``reason`` of those that end or say nothing in time."""
        deadline = time.monotonic() + limit_s
        heard = []
        for end, process in zip(self._ends, self._processes, strict=True):
            try:
                late = not end.poll(max(0.0, deadline - time.monotonic()))
                heard.append({"reason": f"nothing came within {limit_s:g} s"} if late else end.recv())
            except (EOFError, OSError):
                process.join(1.0)
                heard.append({"reason": f"the process ended with status {process.exitcode}"})
        return heard


def row(clip: Path, hwaccel: str, count: int, seconds: float, nvml: Nvml) -> dict[str, Any]:
    """One row, or the ``reason`` why there is none."""
    start: dict[str, Any] = {"hwaccel": hwaccel, "streams": count}
    before, strangers = nvml.used_mib(), nvml.by_process()
    with Streams(clip, hwaccel, count, seconds) as streams:
        ready = streams.hear(OPEN_S)
        if reasons := _reasons(ready):
            return {**start, "reason": reasons}
        sampler = Sampler(nvml)
        streams.tell("go")
        results = streams.hear(seconds + 20.0)
        utilisation = sampler.stop()
        after, processes = nvml.used_mib(), nvml.by_process()
    if reasons := _reasons(results):
        return {**start, "reason": reasons}
    own = [round(mib, 1) for pid, mib in processes.items() if pid not in strangers]
    frames = sum(result["frames"] for result in results)
    took = [value for result in results for value in result["decode_ms"]]
    grown = None if before is None or after is None else round((after - before) / count, 1)
    return {
        **start,
        "decoder": ready[0]["decoder"],
        "fps": round(sum(result["frames"] / result["seconds"] for result in results), 1),
        "slowest_fps": round(min(result["frames"] / result["seconds"] for result in results), 1),
        "cpu_ms_per_frame": round(sum(result["cpu_s"] for result in results) * 1e3 / frames, 3),
        "decode_ms": {f"p{q}": round(float(np.percentile(took, q)), 2) for q in (50, 95, 99)},
        "nvdec_percent": utilisation if hwaccel == HARDWARE else None,
        "vram_mib": own if hwaccel == HARDWARE else None,
        "device_mib": grown if hwaccel == HARDWARE else None,
    }


def _reasons(heard: list[dict[str, Any]]) -> str | None:
    found = [one["reason"] for one in heard if "reason" in one]
    return f"{len(found)} of {len(heard)}: {found[0]}" if found else None


def repeated(clip: Clip, path: Path, frames: int) -> Path:
    """The packets of ``clip`` over and over, ``frames`` at least: a loop would open the decoder anew each time."""
    with av.open(str(clip.path)) as source, av.open(str(path), "w") as into:
        video: Any = source.streams.video[0]
        stream: Any = into.add_stream_from_template(video)
        packets = [packet for packet in source.demux(video) if packet.size]
        ticks = round(1 / (FPS * packets[0].time_base))
        number = 0
        while number < frames:
            for packet in packets:
                copy: Any = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
                copy.pts = copy.dts = number * ticks
                copy.duration = ticks
                into.mux(copy)
                number += 1
    return path


def measure(clip: Path, counts: list[int], seconds: float, nvml: Nvml, say: Callable[[str], None]) -> dict[str, Any]:
    """All rows, those of the GPU first."""
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    for hwaccel in (HARDWARE, SOFTWARE):
        failed: str | None = None
        for count in counts:
            if failed is not None:
                found = {"hwaccel": hwaccel, "streams": count, "reason": f"not tried after: {failed}"}
            elif time.monotonic() - started > LIMIT_S:
                found = {"hwaccel": hwaccel, "streams": count, "reason": f"left out after {LIMIT_S:g} s"}
            else:
                found = row(clip, hwaccel, count, seconds, nvml)
                reason = found.get("reason")
                failed = None if reason is None else str(reason)  # with more streams it would only take longer to fail
            rows.append(found)
            say(line(found))
    about = {"gpu": nvml.describe(), "pyav_ffmpeg": av.ffmpeg_version_info, "encoder": encoder()}
    say(f"encoder: {about['encoder']}")
    return {**about, "seconds": seconds, "rows": rows}


def encoder() -> str:
    """What a stream with a place on NVENC encodes with here; tried in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_opened_encoder).result(OPEN_S)
        except Exception as error:  # noqa: BLE001  # the process may end in any way
            return f"none: {type(error).__name__}: {error}"


def _opened_encoder() -> str:
    errors.silence()
    picture = AvPicture(av.VideoFrame(640, 480, "nv12"))
    how: dict[str, Any] = {"time_base": Fraction(1, 90_000), "fps": Fraction(FPS), "bitrate": 4_000_000, "gop_s": 2.0}
    found = Nvenc().encoder(picture, **how) or H264Encoder(picture, **how)
    return found.codec if found.encode(picture, 0) else f"{found.codec}, which holds pictures back"


def line(found: dict[str, Any]) -> str:
    """A row for people."""
    head = f"{found['hwaccel']:<6}{found['streams']:>3}"
    if "reason" in found:
        return f"{head}  {found['reason']}"
    numbers = f"{found['fps']:>9} fps{found['cpu_ms_per_frame']:>8} CPU ms/frame{found['decode_ms']['p50']:>8} ms p50"
    gpu = f"  nvdec {found['nvdec_percent']}  MiB {found['vram_mib']} ({found['device_mib']} by the device)"
    return f"{head}{numbers}  {found['decoder']}{gpu if found['hwaccel'] == HARDWARE else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="1,2,4,8", help="how many side by side, one row each")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a row is measured")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    args = parser.parse_args()
    nvml = Nvml.open()
    if nvml.missing is not None:
        print(f"The GPU can't be looked at: {nvml.missing}")
    with tempfile.TemporaryDirectory() as folder:
        clip = repeated(make_clip(Path(folder) / "once.mp4", 10.0), Path(folder) / "clip.mp4", MIN_FRAMES)
        counts = [int(count) for count in args.streams.split(",")]
        result = measure(clip, counts, args.seconds, nvml, print)
    if args.json is not None:
        report.write(args.json, "benchmarks.nvdec", result)


if __name__ == "__main__":
    main()
