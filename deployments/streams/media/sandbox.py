"""Probes sources and decodes images in child processes: bounded in number, time and memory, killed when late.

Secrets reach a child only through its stdin; what a child prints on stderr is dropped, as it could hold a URL.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

import deployments
from deployments.errors import InvalidSpec, Overloaded, StreamError, StreamErrorCode
from deployments.streams.frame import UInt8Array
from deployments.streams.media.image import FIELD, check
from deployments.streams.media.probe import revive
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceInfo, SourceSpec
from deployments.streams.urls import Credentials

MAX_CHILDREN = 4
"""At once of probes, and as many of images, in each process: further calls wait their turn."""

MAX_WAITING_PROBES = 8
"""Where all sources hang, the last of them waits for two further rounds of the API's 5 s."""

MAX_WAITING_IMAGES = 32
"""A second or two of large photographs, and up to 640 MB of them."""

START_S = 2.0
"""Added to a limit for the child's start, which takes 0.3 s where the node is idle."""

DECODE_S = 10.0
"""Longest decoding of an image; 50 megapixels take about a second."""

_ROOT = str(Path(deployments.__file__).parent.parent)
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")


class _Turns:
    """Who may run a child now; used on one event loop."""

    def __init__(self, what: str, most_waiting: int) -> None:
        self._what = what
        self._most_waiting = most_waiting
        self._waiting = 0
        self._free = asyncio.Semaphore(MAX_CHILDREN)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises Overloaded where enough wait already."""
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise Overloaded(f"{self._waiting} {self._what} wait already: try again in a few seconds.")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class _AllTurns:
    """Those of one event loop: sources that hang hold up no image."""

    def __init__(self) -> None:
        self.probes = _Turns("probes", MAX_WAITING_PROBES)
        self.images = _Turns("images", MAX_WAITING_IMAGES)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _AllTurns] = WeakKeyDictionary()


def _here() -> _AllTurns:
    return _turns.setdefault(asyncio.get_running_loop(), _AllTurns())


async def probe(spec: SourceSpec, policy: UrlPolicy, timeout_s: float) -> SourceInfo:
    """What a source is, found out without starting a stream.

    Args:
        timeout_s: until it must have answered with its first picture.

    Raises:
        StreamError: it can't be opened, or not in time.
        ForbiddenAddress: the policy forbids it.
        InvalidSpec: the URL can't be used.
        Overloaded: too many probes wait already.
    """
    request = {
        "source": {**spec.model_dump(mode="json"), "credentials": _revealed(spec.credentials)},
        "policy": policy.model_dump(mode="json"),
        "timeout_s": timeout_s,
    }
    try:
        async with _here().probes.turn():
            output = await _run("deployments.streams.media.probe", json.dumps(request).encode(), timeout_s + START_S)
    except TimeoutError:
        raise StreamError(
            StreamErrorCode.TIMEOUT, f"The source did not answer within {timeout_s:g} s: check that it can be reached."
        ) from None
    try:
        reply = json.loads(output)
    except ValueError:
        raise StreamError(
            StreamErrorCode.INVALID_DATA, "The source broke the decoder: check it with a player."
        ) from None
    if "error" in reply:
        raise revive(reply["error"])
    return SourceInfo.model_validate(reply["info"])


async def decode_image(data: bytes) -> UInt8Array:
    """The pixels of a JPEG or PNG as uint8 ``[height, width, 3]`` BGR, turned upright as its Exif data says.

    Raises:
        InvalidSpec: empty, too large, animated, damaged or of another format.
        Overloaded: too many images wait already.
    """
    check(data)
    try:
        async with _here().images.turn():
            output = await _run("deployments.streams.media.image", data, DECODE_S + START_S)
    except TimeoutError:
        raise InvalidSpec(FIELD, "The image takes too long to decode: send a smaller one.") from None
    head, _, pixels = output.partition(b"\n")
    if head.startswith(b"error: "):
        raise InvalidSpec(FIELD, head[7:].decode())
    try:
        width, height = (int(word) for word in head.split())
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    except ValueError:  # the child ran out of memory or crashed
        raise InvalidSpec(FIELD, "The image is damaged and can't be decoded.") from None


def _revealed(credentials: Credentials | None) -> dict[str, Any] | None:
    if credentials is None:
        return None
    single = {name: getattr(credentials, name) for name in ("username", "password", "path", "parameters")}
    return {
        **{name: None if secret is None else secret.get_secret_value() for name, secret in single.items()},
        "query": {name: secret.get_secret_value() for name, secret in credentials.query.items()},
    }


async def _run(module: str, data: bytes, limit_s: float) -> bytes:
    """What ``python -m module`` prints for ``data``; TimeoutError after ``limit_s``, with the child killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
    )
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await child.communicate(data)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return output


def _environment() -> dict[str, str]:
    """Nothing that the child does not need: the node's environment may hold secrets."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join([_ROOT, *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])])
    return {**passed, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
