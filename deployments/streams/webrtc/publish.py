"""A process that publishes one output by WHIP: ``python -m deployments.streams.webrtc.publish``.

To `deployments.streams.media.sink.Sink` it is what `media.relay` is, and speaks as that does. FFmpeg has WHIP too, but
takes no wish for a key frame, and checks no address that the server names.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.media import errors, relay
from deployments.streams.media.audience import KEY_FRAMES_APART_S
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.policy import UrlPolicy
from deployments.streams.webrtc.copies import AnnexB
from deployments.streams.webrtc.offer import vetted

TIMEOUT_S = 8.0
"""For each step until media flows; `sink.OPEN_TIMEOUT_S` for all of them."""

AHEAD = 8
"""Packets that are read before they can be sent; the others wait in the pipe, and then with the output."""

SDP_LIMIT = 64 * 1024

_SILENT = "WebRTC takes no sound but Opus: it is left out."
_CODES = {401: StreamErrorCode.AUTH_FAILED, 403: StreamErrorCode.AUTH_FAILED, 404: StreamErrorCode.NOT_FOUND}


class Endpoint:
    """The server's side of the signalling.

    Args:
        url: ``whip+http://`` or ``whip+https://``, with credentials: a password alone is a bearer token.
        proxy: through which all goes, as a URL.
    """

    def __init__(self, url: str, proxy: str | None) -> None:
        parts = urlsplit(url.removeprefix("whip+"))
        self._url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
        self._where = errors.place(url)
        self._headers = _authorization(unquote(parts.username or ""), unquote(parts.password or ""))
        proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirects)
        self._resource: str | None = None

    def post(self, offer: str) -> str:
        """The answer to an offer. Raises StreamError."""
        try:
            with self._ask("POST", self._url, offer.encode()) as response:
                location = response.headers.get("Location")
                self._resource = None if location is None else urljoin(self._url, location)
                answer: bytes = response.read(SDP_LIMIT)
                return answer.decode(errors="replace")
        except urllib.error.HTTPError as error:
            code = _CODES.get(error.code, StreamErrorCode.INVALID_DATA)
            message = f"{self._where}: The server answers {error.code}: check the URL, the credentials and its log."
            raise StreamError(code, message) from None
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from None

    def delete(self) -> None:
        """Say goodbye; the server finds out by itself otherwise."""
        if self._resource is None or urlsplit(self._resource)[:2] != urlsplit(self._url)[:2]:
            return
        try:
            self._ask("DELETE", self._resource, None).close()
        except (OSError, HTTPException):
            return

    def _ask(self, method: str, url: str, body: bytes | None) -> Any:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/sdp"}
        return self._opener.open(urllib.request.Request(url, body, headers, method=method), timeout=TIMEOUT_S)

    def _unreachable(self, error: Exception) -> StreamError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return StreamError(StreamErrorCode.TLS_FAILED, f"{self._where}: Check the server's certificate.")
        if isinstance(reason, TimeoutError):
            return errors.timed_out(f"{self._where}/")
        return StreamError(StreamErrorCode.CONNECTION_REFUSED, f"{self._where}: No connection: check host and port.")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The credentials are for this server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _authorization(username: str, password: str) -> dict[str, str]:
    if not password:
        return {}
    if not username:
        return {"Authorization": f"Bearer {password}"}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def main() -> None:
    """Publish until standard input ends; the exit status is 0 where all was sent."""
    target = relay.begin()
    where = errors.place(target["url"])
    packets = relay.incoming()
    try:
        asyncio.run(_publish(target, where, packets))
    except ImportError:
        message = "aiortc is not installed here: pip install 'raysight[webrtc]'"
        _fail(StreamError(StreamErrorCode.CODEC_UNSUPPORTED, f"{where}: {message}"))
    except StreamError as error:
        _fail(error)
    os._exit(0)  # a thread may still read


def _fail(error: StreamError) -> NoReturn:
    relay.tell({"event": "error", "code": error.code.value, "message": error.message})
    os._exit(1)


class _KeyWishes:
    """Passes the receiver's wishes on, not all too many."""

    def __init__(self) -> None:
        self._told_at = float("-inf")

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= KEY_FRAMES_APART_S:
            self._told_at = now
            relay.tell({"event": "key"})


class _Waiting:
    """The next packets, for the connection."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[EncodedPacket] = asyncio.Queue(AHEAD)

    async def take(self) -> EncodedPacket:
        packet = await self.queue.get()
        self.queue.task_done()
        return packet


async def _publish(target: dict[str, Any], where: str, packets: Any) -> None:
    from deployments.streams.webrtc import peer

    waiting, lost, connected = _Waiting(), asyncio.Event(), asyncio.Event()
    connection, _ = peer.sending(waiting, (), _KeyWishes().tell)

    def changed() -> None:
        state = connection.connectionState
        if state == "connected":
            connected.set()
        elif state in ("failed", "closed"):
            lost.set()

    connection.on("connectionstatechange", changed)
    endpoint = Endpoint(target["url"], target["proxy"])
    policy = UrlPolicy(media_root=Path(), output_root=Path(), allow_private=target["private"])
    try:
        answer = await asyncio.to_thread(endpoint.post, await peer.offer(connection))
        try:
            await peer.accept(connection, vetted(answer, policy.allows))
        except peer.UNUSABLE:
            message = f"{where}: The server's answer can't be used: check that it takes H.264."
            raise StreamError(StreamErrorCode.INVALID_DATA, message) from None
        if not await _first(TIMEOUT_S, connected, lost) or lost.is_set():
            message = f"{where}: No media connection: check the UDP ports and addresses of the server."
            raise StreamError(StreamErrorCode.TIMEOUT, message)
        relay.tell({"event": "open", "left_out": _SILENT if packets.streams.audio else None})
        sent = asyncio.create_task(_send(packets, where, waiting))
        gone = asyncio.create_task(lost.wait())
        await asyncio.wait({sent, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not sent.done():
            raise StreamError(StreamErrorCode.ENDED, f"{where}: The receiver cut the connection.")
        await sent
    finally:
        await asyncio.to_thread(endpoint.delete)
        await connection.close()


async def _first(timeout_s: float, *events: asyncio.Event) -> bool:
    """Whether one of the events came in time."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    done, pending = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return bool(done)


async def _send(packets: Any, where: str, waiting: _Waiting) -> None:
    """Until the last packet has been taken. Raises StreamError."""
    loop = asyncio.get_running_loop()
    read: asyncio.Future[None] = loop.create_future()

    def pump() -> None:
        failure: StreamError | None = None
        try:
            for packet in _read(packets, where):
                asyncio.run_coroutine_threadsafe(waiting.queue.put(packet), loop).result()
        except StreamError as error:
            failure = error
        except errors.ReadError as error:
            failure = errors.translate(error, f"{where}/", "read")
        if failure is None:
            loop.call_soon_threadsafe(read.set_result, None)
        else:
            loop.call_soon_threadsafe(read.set_exception, failure)

    # Not of the loop's own threads, for which it would wait at the end: this one may wait for packets for ever.
    threading.Thread(target=pump, name="packets", daemon=True).start()
    await read
    await waiting.queue.join()


def _read(packets: Any, where: str) -> Iterator[EncodedPacket]:
    """The video, in Annex B form and with parameter sets before each key frame. Raises StreamError."""
    video = packets.streams.video[0]
    form = AnnexB(video)
    for packet in packets.demux(video):
        if packet.pts is None:
            continue
        data, shown_after = relay.taken_apart(packet)
        if shown_after:
            message = f"{where}: WebRTC takes no B-frames: set the output's codec to h264."
            raise StreamError(StreamErrorCode.CODEC_UNSUPPORTED, message)
        key_frame = bool(packet.is_keyframe)
        times = (packet.pts, packet.pts, 0, packet.time_base)
        yield EncodedPacket(form.data(data, packet.pts, key_frame=key_frame), *times, key_frame, video)


if __name__ == "__main__":
    main()
