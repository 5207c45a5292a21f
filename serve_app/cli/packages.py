"""What the commands about model packages have in common: their arguments, and how they open an engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.protocol import Engine
    from engines.types import EngineName

Package = Annotated[Path, typer.Argument(help="Folder of the model package.", show_default=False)]


class Device(StrEnum):
    """What ``--device`` takes."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    CUDA = "cuda"
    CPU = "cpu"

    @property
    def allowed(self) -> tuple[EngineName, ...]:
        """The engines that it leaves to choose from."""
        from engines.types import PREFERENCE

        return PREFERENCE if self is Device.AUTO else tuple(name for name in PREFERENCE if name == self.value)


DeviceOption = Annotated[
    Device, typer.Option("--device", help="What runs the model; auto takes the first of tensorrt, cuda and cpu.")
]


@contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    """Warm it up, and close it in the end."""
    try:
        engine.warmup()
        yield engine
    finally:
        engine.close()


def gpu_of(engine: Engine) -> int | None:
    """The number of the GPU that it runs on."""
    kind, _, rest = engine.info.device.partition(":")
    return int(rest.split()[0]) if kind == "cuda" else None
