"""What a model's engines manage and what streams ask of them, by node; pure."""

from __future__ import annotations

from collections.abc import Iterable

from deployments.models.versions import ModelState
from deployments.streams.spec import StreamView
from serve_app.api.ports import NodeLoad


def node_loads(model: ModelState, streams: Iterable[StreamView]) -> tuple[NodeLoad, ...]:
    """Each node with a replica of the model, by name, and the share of its streams.

    A stream counts at its own node, or, where no replica is there, at the node with the most room.
    """
    speeds: dict[str, list[float]] = {}
    for replica in model.replicas:
        speeds.setdefault(replica.node, []).append(replica.engine_fps)
    used: dict[str, list[float]] = {node: [] for node in speeds}
    for view in streams:
        if view.status.online and view.spec.detect.model == model.name:
            here = view.status.node
            node = here if here in used else max(speeds, key=lambda name: sum(speeds[name]) - sum(used[name]))
            used[node].append(_offered(view))
    return tuple(
        NodeLoad(node, sum(each) if all(each) else None, sum(used[node]), len(used[node]))
        for node, each in sorted(speeds.items())
    )


def _offered(view: StreamView) -> float:
    return min(view.status.fps.get("decoded", 0.0), view.spec.detect.max_fps or float("inf"))
