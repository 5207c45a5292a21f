"""Building a model package: read, wrap, try out, build a plan, and put it all in place at once."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from engines.building.describe import Description
from engines.building.half import Conversion
from engines.building.source import read_source
from engines.building.target import Target, choose_target
from engines.building.trial import try_out
from engines.building.wrap import wrap
from engines.errors import EngineError, PackageError
from engines.manifest import Manifest, Precision
from engines.package import ModelPackage, load_package
from engines.trt.builder import PlanOptions, Progress, build_plan
from engines.trt.device import ComputeCapability
from engines.trt.plans import FOLDER, Plan, PlanFacts, sha256_of, write_plan

TIMING_CACHE = "timing.cache"


@dataclass(frozen=True, slots=True)
class Wrap:
    """How a network is wrapped; see `engines.manifest.Built`."""

    precision: Precision = "fp16"
    max_batch: int = 32
    top_k: int = 300


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """Whether to build a plan, where that is possible or in any case, and for which GPUs if not for those here."""

    wish: Literal["possible", "always", "never"] = "possible"
    compute_capability: ComputeCapability | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What to build: ``model`` is an ONNX file or a package, ``output`` the folder of the new package."""

    model: Path
    output: Path
    wrap: Wrap = field(default_factory=Wrap)
    said: Description = field(default_factory=Description)
    plan: PlanOrder = field(default_factory=PlanOrder)
    force: bool = False


class Watcher(Progress, Protocol):
    """Told what is being done, and how the plan goes on."""

    def stage(self, what: str) -> None:
        """Another stage begins."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was built.

    Attributes:
        conversion: to float16, None where nothing was converted.
        plan: None where none was built; ``no_plan`` says why.
    """

    path: Path
    manifest: Manifest
    conversion: Conversion | None
    plan: Plan | None
    no_plan: str
    seconds: float


def build(order: Order, watcher: Watcher) -> Outcome:
    """Build a package; where that fails, there is nothing at ``output`` that wasn't there before.

    Raises:
        EngineError: it can't be built; one line says why and what to do.
    """
    began = time.monotonic()
    target = _target(order.plan)
    with _replacing(order.output, order.force) as folder:
        watcher.stage("Reading the network")
        source = read_source(order.model, order.said)
        watcher.stage(f"Wrapping it in {order.wrap.precision}")
        wrapping = wrap(source, order.wrap.precision, order.wrap.max_batch, order.wrap.top_k)
        (folder / FOLDER).mkdir()
        (folder / "model.onnx").write_bytes(wrapping.model.SerializeToString())
        (folder / "manifest.json").write_text(wrapping.manifest.model_dump_json(indent=2) + "\n")
        watcher.stage("Trying it out")
        try_out(folder / "model.onnx", wrapping.manifest)
        package = load_package(folder)
        plan = None if isinstance(target, str) else _plan(package, target, order.plan.timing_cache, watcher)
    return Outcome(
        order.output,
        wrapping.manifest,
        wrapping.conversion,
        plan and Plan(order.output / FOLDER / plan.path.name, plan.facts, plan.sha256, plan.gpu),
        target if isinstance(target, str) else "",
        time.monotonic() - began,
    )


def add_plan(path: Path, order: PlanOrder, watcher: Watcher) -> Outcome:
    """Build a plan for a package that was built before, and put it there.

    Raises:
        EngineError: it can't be built; one line says why and what to do.
    """
    began = time.monotonic()
    package = load_package(path)
    if package.manifest.built is None:
        raise PackageError(f"{path} holds a network as it was exported; give --output for the package to build")
    plan = _plan(package, choose_target(order.compute_capability), order.timing_cache, watcher)
    return Outcome(path, package.manifest, None, plan, "", time.monotonic() - began)


def _target(order: PlanOrder) -> Target | str:
    """What to build a plan for, or why none is built."""
    if order.wish == "never":
        return "as told"
    try:
        return choose_target(order.compute_capability)
    except EngineError as error:
        if order.wish == "always" or order.compute_capability is not None:
            raise
        return str(error)


def _plan(package: ModelPackage, target: Target, timing_cache: Path | None, watcher: Watcher) -> Plan:
    binding, built = target.binding, package.manifest.built
    assert built is not None
    watcher.stage(f"Building a plan with {binding} for compute capability {target.compute_capability}")
    (package.path / FOLDER).mkdir(exist_ok=True)
    options = PlanOptions(
        built.max_batch,
        None if binding.needs_gpu_to_build else target.compute_capability,
        timing_cache or package.path / FOLDER / TIMING_CACHE,
    )
    content = build_plan(binding, package, options, watcher)
    facts = PlanFacts(
        sha256_of(package.model_path),
        binding.runtime,
        binding.version,
        str(target.compute_capability),
        built.max_batch,
        options.opt_batch,
    )
    return write_plan(package.path, content, facts, target.gpu)


@contextmanager
def _replacing(output: Path, force: bool) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place if all goes well, and is gone if not.

    Raises:
        PackageError: there is something at ``output``, and it isn't a package, or isn't to be replaced.
    """
    output = output.absolute()
    if not output.parent.is_dir():
        raise PackageError(f"there is no folder {output.parent}; make it first")
    filled = output.exists() and not (output.is_dir() and not any(output.iterdir()))
    if filled and not (output / "manifest.json").is_file():
        raise PackageError(f"{output} is there and isn't a model package; name another folder by --output")
    if filled and not force:
        raise PackageError(f"{output} is there already; name another folder by --output, or replace it by --force")
    try:
        room = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise PackageError(f"can't write in {output.parent} ({error.strerror}); name another --output") from error
    try:
        fresh, old = room / "new", room / "old"
        fresh.mkdir()
        yield fresh
        if filled:
            output.rename(old)
        fresh.rename(output)
    except OSError as error:
        raise EngineError(f"can't write {output} ({error.strerror}); make room, or name another --output") from error
    finally:
        shutil.rmtree(room)
