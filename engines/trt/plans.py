"""Plans, what TensorRT makes of a package's network for one kind of GPU: where they lie, and which one fits.

``plans/<key>.plan`` has ``plans/<key>.json`` beside it, which says what it was made of and holds its hash. The key is a
hash over all that a plan must match; no file says so in its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.errors import PackageError
from engines.trt.binding import Runtime

FOLDER = "plans"
_KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan was made of, and for.

    Attributes:
        onnx_sha256: of the package's ``model.onnx``.
        version: of the runtime, in full.
        compute_capability: of the GPU, such as ``8.9``.
        max_batch, opt_batch: frames at most, and the number that kernels were chosen for.
    """

    onnx_sha256: str
    runtime: Runtime
    version: str
    compute_capability: str
    max_batch: int
    opt_batch: int

    @property
    def key(self) -> str:
        """The name of the plan's files."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan in a package. ``gpu`` is the one that it was made on, for people; None if there was none."""

    path: Path
    facts: PlanFacts
    sha256: str
    gpu: str | None = None

    def read(self) -> bytes:
        """The plan.

        Raises:
            PackageError: the file is cut off, or isn't the one that was built.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise _refused(self.path, f"can't be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _refused(self.path, "is cut off, or isn't the one that was built: its hash differs")
        return content

    @property
    def whole(self) -> bool:
        """Whether the file is the one that was built."""
        return self.path.is_file() and sha256_of(self.path) == self.sha256


def sha256_of(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_plan(package: Path, content: bytes | memoryview, facts: PlanFacts, gpu: str | None) -> Plan:
    """Put a plan into a package, replacing the one with this key. No half of it is ever there under its name."""
    folder = package / FOLDER
    folder.mkdir(exist_ok=True)
    plan = Plan(folder / f"{facts.key}.plan", facts, hashlib.sha256(content).hexdigest(), gpu)
    described = {"facts": asdict(facts), "sha256": plan.sha256, "gpu": gpu}
    for path, data in (
        (plan.path.with_suffix(".json"), json.dumps(described, indent=1).encode()),
        (plan.path, content),
    ):
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
    return plan


def plans_of(package: Path) -> list[Plan]:
    """All plans of a package.

    Raises:
        PackageError: the description of one is broken.
    """
    return [_described(path) for path in sorted((package / FOLDER).glob("*.json"))]


def find_plan(package: Path, runtime: Runtime, version: str, compute_capability: str) -> Plan:
    """The plan that fits this runtime and GPU; of several, the one with the largest batch.

    Raises:
        PackageError: none does; the message says what the others are for, and the command that builds one.
    """
    plans, model = plans_of(package), sha256_of(package / "model.onnx")
    fitting = [
        plan
        for plan in plans
        if plan.facts.onnx_sha256 == model
        and (plan.facts.runtime, plan.facts.version) == (runtime, version)
        and plan.facts.compute_capability == compute_capability
    ]
    if fitting:
        return max(fitting, key=lambda plan: plan.facts.max_batch)
    there = [
        f"{plan.facts.runtime} {plan.facts.version} and compute capability {plan.facts.compute_capability}"
        + ("" if plan.facts.onnx_sha256 == model else " of another model.onnx")
        for plan in plans
    ]
    raise PackageError(
        f"{package} has no plan for {runtime} {version} and a GPU of compute capability {compute_capability}, "
        f"only {', '.join(there) or 'none at all'}; build one there: {rebuild_command(package)}"
    )


def rebuild_command(package: Path) -> str:
    """What the user types to get a plan for the GPU at hand."""
    return f"raysight engine build {package}"


def _described(path: Path) -> Plan:
    try:
        content = json.loads(path.read_bytes())
        facts = TypeAdapter(PlanFacts).validate_python(content["facts"])
        return Plan(path.with_suffix(".plan"), facts, str(content["sha256"]), content.get("gpu"))
    except (OSError, ValueError, ValidationError, KeyError, TypeError) as error:
        raise _refused(path, "doesn't describe a plan") from error


def _refused(path: Path, why: str) -> PackageError:
    return PackageError(f"{path} {why}; build it again: {rebuild_command(path.parent.parent)}")
