"""Why an actor finds no node, in words that name the setting; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CPU, MEMORY = "CPU", "memory"
"""As Ray names them; memory in bytes."""

ROUNDING = 5e-5
"""Ray counts in steps of 0.0001."""

_SETTINGS = {CPU: "streams.stream_num_cpus", MEMORY: "streams.stream_memory_mb"}


def shortage(need: Mapping[str, float], free: Iterable[Mapping[str, float]]) -> str | None:
    """What no node has free of ``need``; None where one has room for it all, or nothing is known of any.

    Args:
        need: amounts by Ray's names.
        free: the same of each node.
    """
    nodes = [{name: node.get(name, 0.0) + ROUNDING for name in need} for node in free]
    if not nodes or any(all(node[name] >= amount for name, amount in need.items()) for node in nodes):
        return None
    nowhere = [name for name, amount in need.items() if all(node[name] < amount for node in nodes)]
    lacking = nowhere or list(need)  # each is somewhere, but never all on one node
    settings = [_SETTINGS.get(name, "Ray's --resources") for name in lacking]
    what = " and ".join(_amount(name, need[name]) for name in lacking)
    return f"no node has {what} free: see {' and '.join(settings)}"


def _amount(name: str, amount: float) -> str:
    if name == CPU:
        return f"{amount:g} CPUs"
    return f"{amount / 1024**2:g} MiB" if name == MEMORY else f"{amount:g} of {name}"
