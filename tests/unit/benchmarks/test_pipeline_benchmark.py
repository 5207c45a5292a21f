"""The benchmark of one stream's CPU: what it plays, what it counts, what it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pipeline, report

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason=pipeline.INSTALL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Clip:
    made = pipeline.make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 1.0, (64, 48))
    return pipeline.Clip(made.path, made.size, made.frames, warm_up=10)


def test_our_rows_account_for_every_frame_after_the_warm_up(clip: pipeline.Clip) -> None:
    for row in ("ours", "ours_detecting", "ours_unwatched"):
        result = pipeline.run_ours(row, clip, live=False)
        assert (result.frames, result.dropped) == (20, 0), row
        assert result.cpu_ms_per_frame > 0, row
        assert result.fps > 0, row


def test_latency_is_of_every_frame_at_the_clips_own_pace(clip: pipeline.Clip) -> None:
    result = pipeline.run_ours("ours_detecting", clip, live=True)
    assert 0 < len(result.latencies_ms) <= result.frames
    assert all(latency > 0 for latency in result.latencies_ms)


def test_pyavs_loop_counts_the_same_frames(clip: pipeline.Clip) -> None:
    assert pipeline.run_pyav(clip).frames == 20


@needs_ffmpeg
def test_ffmpeg_encodes_every_frame_with_our_settings(clip: pipeline.Clip, tmp_path: Path) -> None:
    into = tmp_path / "out.mp4"
    subprocess.run(pipeline.ffmpeg_command(clip, into, live=False, frames=clip.frames), check=True, timeout=20)
    probe = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets,profile,has_b_frames"]
    found = json.loads(subprocess.run([*probe, "-of", "json", str(into)], capture_output=True, check=True).stdout)
    assert found["streams"] == [{"profile": "Constrained Baseline", "has_b_frames": 0, "nb_read_packets": "30"}]


@needs_ffmpeg
def test_the_result_has_all_rows_and_its_circumstances(
    clip: pipeline.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", _in_this_process)
    result = pipeline.measure(clip, throughput_rounds=1, live_rounds=1)
    report.write(tmp_path / "result.json", "benchmarks.pipeline", result)
    written: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    assert {"hardware", "versions", "command", "ffmpeg", "pyav_ffmpeg", "clip", "headline"} <= written.keys()
    assert [entry["row"] for entry in written["throughput"]] == list(pipeline.ROWS)
    assert [entry["row"] for entry in written["live"]] == list(pipeline.LIVE_ROWS)
    for entry in written["throughput"] + written["live"]:
        assert entry.keys() == {
            "row", "cpu_ms_per_frame", "ratio_to_ffmpeg", "ratios", "fps", "frames", "dropped", "latency_ms",
        }  # fmt: skip
    assert written["ffmpeg"].startswith("ffmpeg version ")
    assert written["headline"]["row"] == pipeline.HEADLINE
    latency = written["live"][-1]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert pipeline.HEADLINE in pipeline.table(result)


def _in_this_process(row: str, clip: pipeline.Clip, *, live: bool) -> pipeline.Run:
    if row == "ffmpeg":
        return pipeline.Run(1.0, 30.0, 20)  # so short a run is all start, and what is left of it may be nothing
    return pipeline.run_pyav(clip) if row == "pyav" else pipeline.run_ours(row, clip, live=live)


def test_rounds_go_back_and_forth_and_ratios_are_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([10.0, 12.0, 26.0, 20.0])  # the host is half as fast in the second round
    order = []

    def run(row: str, clip: pipeline.Clip, *, live: bool) -> pipeline.Run:
        order.append(row)
        return pipeline.Run(next(costs), 30.0, 10)

    monkeypatch.setattr(pipeline, "run", run)
    found = pipeline.rounds(("ffmpeg", "ours"), pipeline.Clip(Path("clip.mp4"), (64, 48), 30), 2, live=False)
    assert order == ["ffmpeg", "ours", "ours", "ffmpeg"]
    entry = pipeline.summary(found)[1]
    assert entry["ratios"] == [1.2, 1.3]
    assert entry["ratio_to_ffmpeg"] == 1.25


def test_without_ffmpeg_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt-get install ffmpeg"):
        pipeline.main()
