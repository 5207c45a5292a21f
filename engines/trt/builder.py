"""Building plans: TensorRT's parser reads the wrapped network, its builder chooses the kernels."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engines.errors import EngineError, PackageError
from engines.package import ModelPackage
from engines.trt.binding import Binding
from engines.trt.device import ComputeCapability
from engines.trt.logger import Complaints

_log = logging.getLogger(__name__)

_USUAL_BATCH = 8
"""Kernels are chosen for this many frames: with wait-as-you-go batching, live streams come in batches of 5 to 15."""


class Progress(Protocol):
    """Told how the build goes on, from any thread. Phases lie within each other; ``parent`` is the one outside."""

    def started(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        ...

    def stepped(self, phase: str, step: int) -> None:
        """A step is done."""
        ...

    def finished(self, phase: str) -> None:
        """A phase is over."""
        ...


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is built for.

    Attributes:
        compute_capability: of the GPU, for runtimes that can build for another machine; None: the GPU at hand.
        timing_cache: a file with what earlier builds measured, written anew; TensorRT for RTX has no use for one.
    """

    max_batch: int
    compute_capability: ComputeCapability | None = None
    timing_cache: Path | None = None

    @property
    def opt_batch(self) -> int:
        """The batch that kernels are chosen for."""
        return min(_USUAL_BATCH, self.max_batch)


def build_plan(binding: Binding, package: ModelPackage, options: PlanOptions, progress: Progress) -> memoryview:
    """Build a plan of a package's wrapped network.

    Raises:
        PackageError: TensorRT can't read the network.
        EngineError: it can't build the plan, or can't build for that GPU.
    """
    trt, complaints = binding.trt, Complaints(binding.trt)
    builder = trt.Builder(complaints.logger)
    if builder is None:
        raise EngineError(f"{binding} can't build here: {complaints.summary()}")
    network = builder.create_network(_network_flags(binding))
    # The parser owns the weights until the network is built.
    parser = _parse(trt, network, package, complaints)
    config = builder.create_builder_config()
    # Float32 is meant to be float32: TF32 has ten bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    stop = threading.Event()
    config.progress_monitor = monitor = _monitor(trt, progress, stop)
    config.add_optimization_profile(_profile(builder, package, options))
    if options.compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target_member(binding, options.compute_capability), 0)
    cache = timing_cache(config, options.timing_cache) if binding.needs_gpu_to_build else None
    # In a thread of its own, so that Ctrl-C reaches Python and not the inside of TensorRT.
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build_serialized_network, network, config)
        try:
            plan = building.result()
        except KeyboardInterrupt:
            stop.set()
            raise
    del parser, monitor
    if plan is None:
        raise EngineError(f"{binding} can't build {package.path}: {complaints.summary()}")
    if cache is not None and options.timing_cache is not None:
        _keep(options.timing_cache, cache.serialize())
    return memoryview(plan)


def _network_flags(binding: Binding) -> int:
    """TensorRT 10 does as the file's types say only when asked; the others always do."""
    if binding.runtime == "tensorrt" and int(binding.version.split(".")[0]) < 11:
        return 1 << int(binding.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _parse(trt: Any, network: Any, package: ModelPackage, complaints: Complaints) -> Any:
    parser = trt.OnnxParser(network, complaints.logger)
    if not parser.parse(package.model_path.read_bytes()):
        errors = [" ".join(parser.get_error(index).desc().split()) for index in range(parser.num_errors)]
        raise PackageError(
            f"TensorRT can't read {package.model_path} ({'; '.join(errors[:2]) or complaints.summary()}); "
            "export the model with opset 17 and plain operators"
        )
    return parser


def _profile(builder: Any, package: ModelPackage, options: PlanOptions) -> Any:
    profile = builder.create_optimization_profile()
    spec = package.manifest.input
    frame = (spec.height, spec.width, 3)
    profile.set_shape(spec.name, (1, *frame), (options.opt_batch, *frame), (options.max_batch, *frame))
    return profile


def target_member(binding: Binding, wanted: ComputeCapability) -> Any:
    """What TensorRT for RTX calls this kind of GPU.

    Raises:
        EngineError: it can't build for it, or this TensorRT can't build for another machine at all.
    """
    if binding.runtime != "tensorrt_rtx":
        raise EngineError(f"{binding} builds for the GPU at hand only; leave out --compute-capability")
    known = binding.trt.ComputeCapability.__members__
    target = known.get(f"SM{wanted.major}{wanted.minor}")
    if target is None:
        names = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in known if name.startswith("SM"))
        raise EngineError(f"{binding} can't build for compute capability {wanted}; it knows {names}")
    return target


def timing_cache(config: Any, path: Path | None) -> Any:
    """What earlier builds measured; an empty one where there is none, or it is of another TensorRT or GPU."""
    earlier = path.read_bytes() if path is not None and path.is_file() else b""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        _log.warning("%s is of another TensorRT or GPU; measuring anew", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _keep(path: Path, measured: Any) -> None:
    try:
        path.write_bytes(measured)
    except OSError as error:
        # The plan is what took the time; without this, only the next one takes as long.
        _log.warning("can't keep what was measured in %s (%s)", path, error.strerror)


def _monitor(trt: Any, progress: Progress, stop: threading.Event) -> Any:
    """Tells ``progress`` how the build goes on, and TensorRT to end it at the next step after ``stop``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.started(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.stepped(phase_name, step)
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            progress.finished(phase_name)

    return Monitor()
