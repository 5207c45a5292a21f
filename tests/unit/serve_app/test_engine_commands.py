"""`raysight engine inspect`, `verify` and `benchmark` as they are typed, on this machine's CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engines.models import DEFAULT_PACKAGE
from serve_app.cli.app import main
from tests.support.built import built_package
from tests.unit.engines.test_choose import without_gpu


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run ``raysight engine ...`` and return its exit status."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["raysight", "engine", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    status = ended.value.code
    assert isinstance(status, int)
    return status


Output = pytest.CaptureFixture[str]


def test_inspect_shows_a_plain_package(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    assert run(monkeypatch, "inspect", DEFAULT_PACKAGE) == 0
    shown = capsys.readouterr().out
    for part in ("nanodet-g-416", "images: float32 [batch, 3, height, width], 416x416 bgr", "no, a plain export"):
        assert part in shown


@without_gpu
def test_inspect_says_which_engine_and_why_not_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path
) -> None:
    built_package(tmp_path)
    assert run(monkeypatch, "inspect", tmp_path) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    lines = {row[1].strip(): row[2].strip() for row in rows}
    assert lines["cpu"] == "chosen"
    assert lines["input"] == "frames: uint8 [batch, height, width, 3], 64x48 rgb"
    assert lines["batch"] == "1 to 5"
    assert lines["built"] == "fp32, the best 3, not suppressed"
    assert lines["GPUs"].startswith("none: NVIDIA's driver")
    assert "no GPU" in lines["tensorrt"]


@without_gpu
def test_verify_compares_each_batch_size(monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path) -> None:
    built_package(tmp_path, precision="fp16")
    assert run(monkeypatch, "verify", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "tolerance: 2 px of the 64x48 input, 0.02 of the score" in shown
    assert [line.split("│")[1].strip() for line in shown.splitlines() if "same" in line] == ["1", "2", "3", "4"]


@without_gpu
def test_verify_fails_where_anything_differs(monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path) -> None:
    from engines.onnx import OnnxEngine

    built_package(tmp_path)
    found = OnnxEngine.infer

    def infer(self: OnnxEngine, *args: object) -> object:
        rows = found(self, *args)  # type: ignore[arg-type]
        for row in rows if len(rows) == 2 else ():
            row.xyxy[0] += 1.0
        return rows

    monkeypatch.setattr(OnnxEngine, "infer", infer)
    assert run(monkeypatch, "verify", tmp_path, "--device", "cpu") == 1
    shown = capsys.readouterr().out
    assert [line.split("│")[1].strip() for line in shown.splitlines() if "DIFFERENT" in line] == ["2"]


@without_gpu
def test_benchmark_prints_writes_and_draws(monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path) -> None:
    built_package(tmp_path / "model")
    figures, drawing = tmp_path / "figures.json", tmp_path / "figures.png"
    words = ("--seconds", "0.1", "--device", "cpu", "--json", figures, "--plot", drawing)
    assert run(monkeypatch, "benchmark", tmp_path / "model", *words) == 0
    assert "frames/s" in capsys.readouterr().out
    document = json.loads(figures.read_text())
    assert document["device"] == "cpu"
    for row in document["batches"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["streams"] == {str(fps): int(row["fps"] // fps) for fps in (25, 30, 60)}
    assert drawing.read_bytes().startswith(b"\x89PNG")


@without_gpu
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("inspect", "{gone}"), "no such folder"),
        (("verify", "{gone}"), "no such folder"),
        (("benchmark", "{gone}"), "no such folder"),
        (("benchmark", "{model}", "--json", "{gone}/a.json"), "can't be written (No such file or directory)"),
        (("benchmark", "{model}", "--json", "{model}"), "can't be written (Is a directory)"),
        (("benchmark", "{model}", "--plot", "/proc/a.png"), "can't be written"),
        (("verify", "{model}", "--device", "cuda"), "no engine for"),
        (("verify", "{model}", "--device", "tensorrt"), "no GPU"),
        (("benchmark", "{model}", "--device", "cuda"), "no engine for"),
        (("verify", "{model}", "--images", "{gone}"), "can't read the folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path, words: tuple[str, ...], what: str
) -> None:
    built_package(tmp_path / "model")
    places = {"gone": tmp_path / "gone", "model": tmp_path / "model"}
    assert run(monkeypatch, *(word.format(**places) for word in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("raysight: ")
    assert what in line


def test_a_file_of_results_that_is_there_stays_as_it_is_where_another_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "old.json").write_text("{}")
    words = ("--json", tmp_path / "old.json", "--plot", tmp_path / "gone" / "new.png")
    assert run(monkeypatch, "benchmark", DEFAULT_PACKAGE, *words) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "{}"
