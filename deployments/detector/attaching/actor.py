"""`AttachBroker`: one actor a node that holds the Serve handles, one a model, for all of the node's streams.

A handle weighs 25 MiB and 8 threads, most of it for Serve itself; without it a stream that decodes weighs 134 MiB
(``python -m benchmarks.stream_cost``; benchmarks/results/stream-cost-2-cores.json). The broker weighs 85 MiB, so that
it pays from the fourth stream of a node on. And each handle looks up every replica that comes or goes, so there should
be few. Streams therefore ask their node's broker, and never import Serve.

A broker that dies takes no attachment along: the link between stream and replica doesn't pass through it, and the
replica ends its side of the request when that link ends. Whoever attaches next makes another broker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.code import CODE_VERSION
from deployments.errors import DetectorUnavailable
from deployments.link.grant import Grant
from deployments.names import DEFAULT_MODEL, DEPLOYMENT, NAMESPACE, application_of

GRANT_TIMEOUT_S = 20.0
"""How long a replica may take to answer: above the cold start of a small engine, as trying anew costs Serve more."""

BROKER_START_S = 20.0
"""How long the broker itself may take to start, on a busy machine."""

IDLE_S = 60.0
"""A broker that has attached nobody for so long ends itself: it weighs as much as a stream, and one that outlived
Serve has a handle that never works again."""

logger = logging.getLogger(__name__)


class AttachBroker:
    """Opens attach requests and keeps them open, each for as long as its attachment stands."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}  # by model
        self._open: dict[str, Any] = {}
        self._granted: dict[str, asyncio.Task[None]] = {}
        self._countdown: asyncio.TimerHandle | None = None

    async def attach(self, request: str, model: str, stream: str, client_key: bytes, to: str) -> Grant:
        """Ask for leave to attach, best to the replica named ``to``; ``request`` is what `release` ends."""
        self._count_down()
        handle = self._handle(model).options(stream=True)
        responses = self._open[request] = handle.attach.remote(stream, client_key, to=to)
        try:
            grant: Grant = await asyncio.wait_for(anext(responses), GRANT_TIMEOUT_S)
        except BaseException:
            self._end(request)
            raise
        self._granted[request] = asyncio.create_task(self._until_over(request, responses))
        if self._countdown is not None:
            self._countdown.cancel()
            self._countdown = None
        return grant

    async def release(self, request: str) -> None:
        """End a request, answered or not."""
        self._end(request)

    def _handle(self, model: str) -> Any:
        from ray import serve  # not above: streams import this module, and Serve would cost each of them 20 MiB

        if model not in self._handles:
            self._handles[model] = serve.get_deployment_handle(DEPLOYMENT, app_name=application_of(model))
        return self._handles[model]

    def _end(self, request: str) -> None:
        responses = self._open.pop(request, None)
        if responses is not None:
            responses.cancel()

    async def _until_over(self, request: str, responses: Any) -> None:
        """Wait for the end of an attachment: its stream may be gone without a word."""
        try:
            async for _ in responses:
                pass
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001, however it ends, it is over
            logger.info("the attachment of request %s ended: %r", request, error)
        self._open.pop(request, None)
        del self._granted[request]
        self._count_down()

    def _count_down(self) -> None:
        if self._countdown is None and not self._granted:
            self._countdown = asyncio.get_running_loop().call_later(IDLE_S, os._exit, 0)


def broker_name(node: str) -> str:
    """The name under which the broker of a node is found in `NAMESPACE`.

    Streams of other code have another one: after a redeployment the old one ends with the last stream that it attached.
    """
    return f"attach-broker:{node}:{CODE_VERSION}"


class BrokeredAttachment:
    """`deployments.link.attacher.AttachRequest` by way of this node's broker."""

    def __init__(self, stream_id: str, client_key: bytes, to: str, model: str = DEFAULT_MODEL) -> None:
        """Ask for leave to attach to a model, best to its replica named ``to``. Raises DetectorUnavailable."""
        self._model = model
        self._request = secrets.token_hex(8)
        try:
            self._broker = _broker()
            self._grant = self._broker.attach.remote(self._request, model, stream_id, client_key, to)
        except (RayError, ValueError) as error:
            raise DetectorUnavailable("this node's attach broker could not be started") from error

    def grant(self) -> Grant:
        """What the replica answers first. Raises DetectorUnavailable."""
        try:
            grant: Grant = ray.get(self._grant, timeout=BROKER_START_S + GRANT_TIMEOUT_S)
        except RayError as error:
            raise DetectorUnavailable(
                f"no Detector replica of model {self._model!r} answers now; the stream attaches as soon as one does"
            ) from error
        return grant

    def cancel(self) -> None:
        """End the request."""
        self._broker.release.remote(self._request)


def _broker() -> Any:
    """This node's broker, started where there is none: one that died is found dead only by asking for its name."""
    node = ray.get_runtime_context().get_node_id()
    remote: Any = ray.remote
    return (
        remote(AttachBroker)
        .options(
            name=broker_name(node),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=10_000,  # one call waits for each grant
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote()
    )
