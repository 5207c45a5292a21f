"""The benchmark of decoders: what it plays, and that what can't be measured is a row with the reason."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import pytest

from benchmarks import nvdec
from benchmarks.pipeline import make_clip
from tests.support.media import WITHOUT_GPU


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return nvdec.repeated(make_clip(folder / "once.mp4", 0.5, (64, 48)), folder / "clip.mp4", 100)


def test_the_clip_goes_on_and_on(clip: Path) -> None:
    with av.open(clip) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 105, "whole rounds of 15, a hundred frames at least"
    assert all(round(float(b.time - a.time) * 30) == 1 for a, b in pairwise(frames))


def test_software_is_measured(clip: Path) -> None:
    found = nvdec.row(clip, nvdec.SOFTWARE, 2, 0.3, nvdec.Nvml("not asked"))
    assert (found["hwaccel"], found["streams"], found["decoder"]) == ("none", 2, "h264")
    assert found["fps"] >= 2 * found["slowest_fps"] > 0
    assert found["cpu_ms_per_frame"] > 0
    assert found["decode_ms"]["p50"] <= found["decode_ms"]["p99"]
    assert "h264" in nvdec.line(found)


@WITHOUT_GPU
def test_without_a_gpu_its_rows_say_so_and_the_others_are_measured(clip: Path) -> None:
    said: list[str] = []
    result = nvdec.measure(clip, [1, 2], 0.2, nvdec.Nvml.open(), said.append)
    gpu, software = result["rows"][:2], result["rows"][2:]
    assert "NVDEC can't be used" in gpu[0]["reason"]
    assert gpu[1]["reason"].startswith("not tried after: ")
    assert [(found["streams"], "reason" in found) for found in software] == [(1, False), (2, False)]
    assert "missing" in result["gpu"]
    assert result["encoder"] == "libx264"
    assert len(said) == 5


def test_a_process_that_ends_or_breaks_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 1000)
    found = nvdec.row(tmp_path / "junk.mp4", nvdec.SOFTWARE, 1, 0.1, nvdec.Nvml("not asked"))
    assert "StreamError" in found["reason"]
    with nvdec.Streams(tmp_path / "junk.mp4", nvdec.SOFTWARE, 1, 0.1) as streams:
        streams.kill()
        assert streams.hear(20.0)[0]["reason"].startswith("the process ended with status -9")
