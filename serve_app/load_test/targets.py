"""A server of the inference protocol as a load test uses it: over HTTP with aiohttp, over gRPC with grpcio.

Both come with Ray. They talk to the address that was given and to no other: no redirect is followed, no proxy asked.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import grpc

from engines.errors import one_line
from serve_app.api.v2.messages import MESSAGES, SERVICE
from serve_app.api.v2.payload import write_request
from serve_app.api.v2.requests import MESSAGE_LIMIT
from serve_app.api.v2.tensors import join_bytes
from serve_app.client.errors import ServerAway
from serve_app.load_test.closed_loop import Failed
from serve_app.load_test.levels import LoadTestError, NotReady

TIMEOUT_S = 12.0
"""Of one request: longer than the server itself waits for the detector."""

CHANNELS = 8
"""Connections over gRPC: one alone carries some hundreds of frames a second."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a server says of its model."""

    name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """What each request sends: one tensor, as the protocol's bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def image_tensor(encoded: bytes) -> Tensor:
    """An encoded image, as it is."""
    return Tensor("image", "BYTES", (1,), join_bytes([encoded]))


def frame_tensor(facts: ModelFacts) -> Tensor:
    """A letterboxed frame: a smooth pattern, the same in every run."""
    rows = bytes((3 * at) % 251 for at in range(facts.width * 3))
    return Tensor("frames", "UINT8", (1, facts.height, facts.width, 3), rows * facts.height)


class Target(ABC):
    """One server, one way to it."""

    over: str

    @abstractmethod
    async def facts(self) -> ModelFacts:
        """What model there is.

        Raises:
            ServerAway: nobody answers.
            NotReady: the server does not serve the model now.
            LoadTestError: it refuses, or is no such server.
        """

    @abstractmethod
    def prepare(self, tensor: Tensor) -> None:
        """Make the request that `send` sends."""

    @abstractmethod
    async def send(self) -> None:
        """One request and its answer. Raises Failed."""

    @abstractmethod
    async def close(self) -> None:
        """Give all connections back."""


class HttpTarget(Target):
    """Over HTTP, with the binary tensor extension."""

    over = "http"

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        self._base = _base(url)
        self._model = f"{self._base}/v2/models/{quote(model, safe='')}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"Accept-Encoding": "identity", **({} if key is None else {"Authorization": f"Bearer {key}"})},
        )
        self._body = b""
        self._headers: dict[str, str] = {}

    async def facts(self) -> ModelFacts:
        try:
            async with self._session.get(self._model, allow_redirects=False) as response:
                told = await response.json(content_type=None)
                if response.status != 200:
                    failure = NotReady if response.status >= 500 else LoadTestError
                    raise failure(f"{self._base} answers {response.status}: {_error_in(told)}")
                return _facts(told["name"], told["inputs"])
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerAway(f"{self._base} can't be reached: {_words(error)}; is raysight running?") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise LoadTestError(f"{self._base} does not speak the inference protocol: is it raysight's API?") from None

    def prepare(self, tensor: Tensor) -> None:
        described = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
            "parameters": {"binary_data_size": len(tensor.raw)},
        }
        request = {"inputs": [described], "parameters": {"binary_data_output": True}}
        self._body, self._headers = write_request(request, [tensor.raw])

    async def send(self) -> None:
        try:
            async with self._session.post(
                f"{self._model}/infer", data=self._body, headers=self._headers, allow_redirects=False
            ) as response:
                answer = await response.read()
                if response.status != 200:
                    raise Failed(f"HTTP {response.status}", _said(answer))
        except TimeoutError:
            raise Failed("timeout") from None
        except aiohttp.ClientError:
            raise Failed("connection") from None

    async def close(self) -> None:
        await self._session.close()


class GrpcTarget(Target):
    """Over gRPC."""

    over = "grpc"

    def __init__(self, address: str, model: str, key: str | None = None) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535 or "/" in host:
            raise LoadTestError(f"--grpc {address!r} is no HOST:PORT")
        self._address, self._name = address, model
        options = [
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        self._next = cycle([channel.unary_unary(f"/{SERVICE}/ModelInfer") for channel in self._channels])
        self._request = b""
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)

    async def facts(self) -> ModelFacts:
        call = self._channels[0].unary_unary(f"/{SERVICE}/ModelMetadata")
        request = MESSAGES["ModelMetadataRequest"](name=self._name)
        try:
            answer = await call(request.SerializeToString(), timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            detail = " ".join((error.details() or "").split())
            raise LoadTestError(f"{self._address} answers {error.code().name} over gRPC: {detail}") from None
        told = MESSAGES["ModelMetadataResponse"].FromString(answer)
        return _facts(told.name, [{"name": tensor.name, "shape": list(tensor.shape)} for tensor in told.inputs])

    def prepare(self, tensor: Tensor) -> None:
        message = MESSAGES["ModelInferRequest"](model_name=self._name, raw_input_contents=[tensor.raw])
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        self._request = message.SerializeToString()

    async def send(self) -> None:
        try:
            await next(self._next)(self._request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise Failed(f"gRPC {error.code().name}", error.details() or "") from None

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise LoadTestError("URL must be that of the API, such as http://127.0.0.1:8000")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v2")
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"


def _facts(name: str, inputs: Any) -> ModelFacts:
    shape = next(tensor["shape"] for tensor in inputs if tensor["name"] == "frames")
    _, height, width, _ = (int(side) for side in shape)
    return ModelFacts(str(name), width, height)


def _error_in(told: Any) -> str:
    return str(told["error"]) if isinstance(told, dict) and "error" in told else "no reason given"


def _said(answer: bytes) -> str:
    try:
        return _error_in(json.loads(answer))
    except ValueError:
        return ""


def _words(error: BaseException) -> str:
    return one_line(error) or f"no answer within {TIMEOUT_S:g} s"
