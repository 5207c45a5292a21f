"""Inference over gRPC: from the protocol's messages to `Inference` and back."""

from __future__ import annotations

import ipaddress
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from deployments.errors import DetectorUnavailable, QuotaExceeded, StoreAway, SupervisorUnavailable
from deployments.streams.urls import redact
from serve_app.api.problems import Kind, Refused, refusal_of
from serve_app.api.v2.inference import Inference, aside
from serve_app.api.v2.messages import MESSAGES
from serve_app.api.v2.requests import (
    MESSAGE_LIMIT,
    InferAnswer,
    InferRequest,
    InputTensor,
    WantedOutput,
    invalid,
    too_large,
)
from serve_app.auth.doors import Credentials, Doors
from serve_app.auth.errors import Forbidden, Unauthorized
from serve_app.auth.roles import Role
from serve_app.auth.routes import RPC_ROLES

logger = logging.getLogger(__name__)

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
FOREIGN_PEER = Kind(403, "foreign_peer", "Another machine asked for this")


class Context(Protocol):
    """What is needed of a call's context."""

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]: ...

    def set_code(self, code: grpc.StatusCode) -> None: ...

    def set_details(self, details: str) -> None: ...


class InferenceRpc:
    """The protocol's methods.

    Args:
        from_anywhere: whether callers on other machines are answered.
        doors: who is let in, by the metadata ``authorization``; None where nobody is asked.
    """

    def __init__(self, inference: Inference, *, from_anywhere: bool, doors: Doors | None = None) -> None:
        self._inference = inference
        self._doors = doors
        self._from_anywhere = from_anywhere
        self._methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._model_infer,
        }

    async def call(self, method: str, request: bytes, context: Context) -> Any:
        """The response message of one call; an error is in the context's code and details."""
        try:
            if not self._from_anywhere and not is_loopback(context.peer()):
                raise Refused(FOREIGN_PEER, "Calls from other machines are not answered; see grpc_from.")
            if self._doors is not None:
                await self._doors.admit(_credentials(context), RPC_ROLES.get(method, Role.ADMIN))
            if len(request) > MESSAGE_LIMIT:
                raise too_large()
            with self._inference.holding(len(request)):
                return await self._methods[method](await aside(_parsed, method, request, size=len(request)))
        except Refused as refused:
            code, detail = _CODES[refused.kind.status], refused.detail
        except (DetectorUnavailable, SupervisorUnavailable, StoreAway) as error:
            code, detail = grpc.StatusCode.UNAVAILABLE, str(error)
        except (Unauthorized, Forbidden, QuotaExceeded) as error:
            code, detail = _CODES[refusal_of(error).kind.status], str(error)
        except Exception as error:  # noqa: BLE001 (the last resort: Serve would tell the client its stack trace)
            text = redact("".join(traceback.format_exception(error)))
            logger.error("unexpected error in %s\n%s", method, text)
            code, detail = grpc.StatusCode.INTERNAL, "Something broke inside the server; its log says what."
        context.set_code(code)
        context.set_details(detail)
        return MESSAGES[f"{method}Response"]()

    async def _server_live(self, _: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _server_ready(self, _: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=await _holds(self._inference.require_ready()))

    async def _model_ready(self, request: Any) -> Any:
        ready = await _holds(self._inference.model(request.name, request.version))
        return MESSAGES["ModelReadyResponse"](ready=ready)

    async def _server_metadata(self, _: Any) -> Any:
        return ParseDict(self._inference.server(), MESSAGES["ServerMetadataResponse"]())

    async def _model_metadata(self, request: Any) -> Any:
        facts = await self._inference.metadata(request.name, request.version)
        return ParseDict(facts, MESSAGES["ModelMetadataResponse"]())

    async def _model_config(self, request: Any) -> Any:
        facts = await self._inference.config(request.name, request.version)
        return ParseDict({"config": facts}, MESSAGES["ModelConfigResponse"]())

    async def _model_infer(self, request: Any) -> Any:
        served = await self._inference.model(request.model_name, request.model_version)
        return to_message(await self._inference.infer(served, read_message(request)))


def _credentials(context: Context) -> Credentials:
    sent = [value for name, value in context.invocation_metadata() if name.lower() == "authorization"]
    return Credentials(authorization=sent[-1] if sent and isinstance(sent[-1], str) else None)


def is_loopback(peer: str) -> bool:
    """Whether gRPC's name of a peer, such as ``ipv4:127.0.0.1:5000`` or ``ipv6:[::1]:5000``, is of this machine."""
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]")
    if kind == "unix":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def read_message(message: Any) -> InferRequest:
    """A ModelInferRequest as a request.

    Raises:
        Refused: raw contents are not one for each input, or contents are of another type than the input.
    """
    raws = [memoryview(raw) for raw in message.raw_input_contents]
    if raws and len(raws) != len(message.inputs):
        raise invalid(f"Send raw_input_contents for each of the {len(message.inputs)} inputs, or for none.")
    tensors = []
    for number, tensor in enumerate(message.inputs):
        if "shared_memory_region" in tensor.parameters:
            raise invalid("Shared memory regions are not supported; send the data itself.")
        raw = raws[number] if raws else None
        values = None if raws else _values(tensor)
        tensors.append(InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), raw, values))
    return InferRequest(
        inputs=tuple(tensors),
        id=message.id,
        outputs=tuple(_wanted(output) for output in message.outputs),
        parameters={name: _parameter(value) for name, value in message.parameters.items()},
    )


def to_message(answer: InferAnswer) -> Any:
    """An answer as a ModelInferResponse, with raw contents."""
    message = MESSAGES["ModelInferResponse"](
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id
    )
    for tensor in answer.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        message.raw_output_contents.append(tensor.raw())
    return message


async def _holds(check: Awaitable[Any]) -> bool:
    try:
        await check
    except (DetectorUnavailable, SupervisorUnavailable, Refused):
        return False
    return True


def _parsed(method: str, request: bytes) -> Any:
    try:
        return MESSAGES[f"{method}Request"].FromString(request)
    except DecodeError:
        raise invalid(f"The message is no {method}Request.") from None


def _values(tensor: Any) -> Any:
    """UINT8's contents as bytes, those of BYTES as a list."""
    if tensor.datatype == "BYTES":
        return list(tensor.contents.bytes_contents)
    try:
        return bytes(tensor.contents.uint_contents)
    except ValueError:
        raise invalid(f"{tensor.name} must hold whole numbers from 0 to 255.") from None


def _wanted(output: Any) -> WantedOutput:
    if "shared_memory_region" in output.parameters or "classification" in output.parameters:
        raise invalid("Neither shared memory regions nor classification of outputs are supported.")
    return WantedOutput(output.name)


def _parameter(value: Any) -> Any:
    choice = value.WhichOneof("parameter_choice")
    return None if choice is None else getattr(value, choice)
