"""The cluster's one supervisor, by name: started where there is none, replaced where it is an old one."""

from __future__ import annotations

import os
import time
from typing import Any

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from deployments.code import CODE_VERSION
from deployments.errors import StreamNotFound, SupervisorUnavailable
from deployments.names import NAMESPACE, SUPERVISOR
from deployments.store.opening import open_store, refuse_nodes
from deployments.streams.actor import actor_name
from deployments.streams.policy import UrlPolicy
from deployments.supervisor.actor import Supervisor
from deployments.supervisor.config import SupervisorConfig

REPLACE_TIMEOUT_S = 10.0
"""Longest wait for a supervisor with other code or another store to make room."""


def get_supervisor(config: SupervisorConfig, policy: UrlPolicy, store: str) -> ActorHandle[Any]:
    """The cluster's supervisor, started where there is none yet, replaced where it runs other code or another store.

    Streams run on meanwhile. Raises StoreAway where the store's URL or a key can't be used, or not in a cluster of that
    many nodes.
    """
    open_store(store, os.environ).close()
    refuse_nodes(store, sum(node["Alive"] for node in ray.nodes()))  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + REPLACE_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            found = find_supervisor()
        except SupervisorUnavailable:
            break
        if not _is_other(found, (CODE_VERSION, store)):
            return found
        ray.kill(found, no_restart=True)
    create: Any = ray.remote(Supervisor)
    options = create.options(
        name=SUPERVISOR,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,  # of several replicas one is the first
        num_cpus=0,
        resources={HEAD_NODE_RESOURCE_NAME: 0.001},  # so that the loss of no other node takes who has to see it
        max_restarts=-1,
        max_concurrency=256,
    )
    actor: ActorHandle[Any] = options.remote(config, policy, store)
    return actor


def _is_other(actor: ActorHandle[Any], identity: tuple[str, str]) -> bool:
    """Whether a supervisor runs other code or another store; one that only just starts is none of those."""
    try:
        found: Any = ray.get(actor.identity.remote(), timeout=REPLACE_TIMEOUT_S / 2)
    except (AttributeError, RayTaskError):
        return True  # of a release that has no such method
    except (RayError, TimeoutError):
        return False
    return tuple(found) != identity


def find_supervisor() -> ActorHandle[Any]:
    """The cluster's supervisor. Raises SupervisorUnavailable where there is none."""
    try:
        return ray.get_actor(SUPERVISOR, NAMESPACE)
    except ValueError:
        raise SupervisorUnavailable("there is no supervisor: deploy the application raysight again") from None


def stream_actor(stream_id: str) -> ActorHandle[Any]:
    """The actor of a running stream. Raises StreamNotFound."""
    try:
        return ray.get_actor(actor_name(stream_id), NAMESPACE)
    except ValueError:
        raise StreamNotFound(f"stream {stream_id!r} does not run") from None
