"""An installed raysight has all that a checkout has."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from serve_app.allocator import SETTINGS
from serve_app.local import ANSWERS_BY_GRPC

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("serve_app", "deployments", "engines")
NEEDED = (
    "engines/models/nanodet-g-416/model.onnx",
    "engines/models/nanodet-g-416/manifest.json",
    "deployments/streams/media/clips/pedestrians-768x576-25fps.mp4",
    "serve_app/web/index.html",
)


def project() -> dict[str, Any]:
    """What ``pyproject.toml`` says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def left_out(root: Path, packages: Iterable[str], data: Mapping[str, list[str]]) -> list[str]:
    """Files below the packages that an installation would lack, and entries that stand for nothing."""
    files = {
        path.relative_to(root).as_posix()
        for top in {package.partition(".")[0] for package in packages}
        for path in (root / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    folders = {package: package.replace(".", "/") for package in packages}
    shipped = {file for file in files if file.endswith(".py") and file.rpartition("/")[0] in folders.values()}
    found = [f"package {package} has no files" for package in packages if not _of(files, folders[package])]
    for package, patterns in data.items():
        for pattern in patterns:
            matched = {path.relative_to(root).as_posix() for path in (root / folders[package]).glob(pattern)}
            found += [] if matched else [f"{package}: {pattern} matches nothing"]
            shipped |= matched
    return found + [f"{file} is in no package or package data" for file in sorted(files - shipped)]


def _of(files: Iterable[str], folder: str) -> list[str]:
    return [file for file in files if file.startswith(f"{folder}/")]


def test_an_installation_lacks_nothing() -> None:
    setuptools = project()["tool"]["setuptools"]
    assert {package.partition(".")[0] for package in setuptools["packages"]} == set(TOPS)
    found = left_out(ROOT, setuptools["packages"], setuptools["package-data"])
    assert not found, "\n".join(found)
    assert all((ROOT / needed).is_file() for needed in NEEDED)


@pytest.mark.parametrize(("file", "times"), [("Dockerfile", 2), ("README.md", 1)])
def test_wherever_ray_is_started_it_keeps_memory_from_growing(file: str, times: int) -> None:
    told = (ROOT / file).read_text()
    assert told.count("LD_PRELOAD=libjemalloc.so.2") == times
    assert told.count(f"MALLOC_CONF={SETTINGS}") == times
    for name, value in ANSWERS_BY_GRPC.items():
        assert told.count(f"{name}={value}") == times


def test_licence_and_notice_are_there() -> None:
    named = project()["project"]["license-files"]
    assert {"LICENSE", "NOTICE"} <= set(named)
    texts = {name: (ROOT / name).read_text() for name in named}
    assert "Apache License" in texts["LICENSE"]
    assert "RangiLyu" in texts["NOTICE"]
    assert "vtest.avi" in texts["NOTICE"]


@pytest.mark.parametrize(
    ("packages", "data", "what"),
    [
        (["top"], {"top": ["*.json"]}, "top/inner/code.py is in no package or package data"),
        (["top", "top.inner"], {}, "top/model.json is in no package or package data"),
        (["top", "top.inner", "top.gone"], {"top": ["*.json"]}, "package top.gone has no files"),
        (["top", "top.inner"], {"top": ["*.json", "*.onnx"]}, "top: *.onnx matches nothing"),
    ],
)
def test_what_is_left_out_is_found(tmp_path: Path, packages: list[str], data: dict[str, list[str]], what: str) -> None:
    (tmp_path / "top/inner").mkdir(parents=True)
    for name in ("top/__init__.py", "top/model.json", "top/inner/code.py"):
        (tmp_path / name).write_text("")
    assert left_out(tmp_path, packages, data) == [what]
