"""`raysight engine inspect`: what a package is, and which engine would run it here."""

from __future__ import annotations

from serve_app.cli.packages import Device, DeviceOption, Package


def inspect(package: Package, device: DeviceOption = Device.AUTO) -> None:
    """Show a model package, its plans, and which engine would run it on this machine and why not the others."""
    from rich.console import Console
    from rich.table import Table

    from engines.choose import choose_here, look
    from engines.package import load_package
    from engines.trt.opening import described_plans

    loaded = load_package(package)
    manifest, declared, built = loaded.manifest, loaded.manifest.input, loaded.manifest.built
    print(f"{manifest.name} ({package})")
    table = Table(show_header=False)
    table.add_row("family", manifest.family)
    table.add_row("classes", str(len(manifest.class_names)))
    kind = "uint8 [batch, height, width, 3]" if built else "float32 [batch, 3, height, width]"
    table.add_row("input", f"{declared.name}: {kind}, {declared.width}x{declared.height} {declared.colour}")
    table.add_row("batch", f"1 to {built.max_batch}" if built else "1" if loaded.batch == 1 else "any")
    table.add_row("outputs", "\n".join(str(output) for output in loaded.outputs))
    suppress = "suppressed on the CPU" if built and built.suppress else "not suppressed"
    table.add_row("built", f"{built.precision}, the best {built.top_k}, {suppress}" if built else "no, a plain export")
    machine = look()
    gpus = [f"{gpu.index}: {gpu.name}, compute capability {gpu.compute_capability}" for gpu in machine.gpus]
    table.add_row("GPUs", "\n".join(map(str, gpus)) or f"none: {machine.no_gpu}")
    table.add_row("plans", "\n".join(described_plans(loaded)) or "none")
    choice = choose_here(loaded, device.allowed)
    for verdict in choice.verdicts:
        chosen = "chosen" if verdict.engine == choice.engine else verdict.obstacle or "could be used"
        table.add_row(verdict.engine, chosen)
    console = Console()
    console.print(table, markup=False)
