"""One viewer's connection, over aiortc; imported once there is a viewer. Everything here runs on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from deployments.errors import InvalidSpec
from deployments.streams.media.audience import Audience
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.webrtc.mailbox import Mailbox
from deployments.streams.webrtc.settings import IceServer

_UNUSABLE = (ValueError, LookupError, AttributeError, InvalidAccessError, InvalidStateError, OperationError)
"""What aiortc raises for offers that it can't read or answer."""


class Peer:
    """A viewer from its offer until `close`.

    It joins the audience once it is connected, so that its first packet is a key frame that it gets.

    Args:
        when_ended: called once the connection has failed or the viewer has left.
    """

    def __init__(self, audience: Audience, servers: Sequence[IceServer], when_ended: Callable[[], None]) -> None:
        self.connected = False
        self._audience = audience
        self._when_ended = when_ended
        self._leave: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(audience.want_key_frame)
        ice = [RTCIceServer(server.url, server.username, server.credential) for server in servers]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=ice))
        self._connection.on("connectionstatechange", self._changed)

    async def answer(self, offer: str) -> str:
        """The SDP of the answer. Raises InvalidSpec where the offer can't be answered."""
        sender = self._connection.addTrack(_Video(self._mailbox))
        # What a lost picture calls in aiortc, for an encoder of its own that is not there.
        sender._send_keyframe = self._audience.want_key_frame  # type: ignore[method-assign]
        (transceiver,) = self._connection.getTransceivers()
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            if transceiver.mid is None or "H264/90000" not in offer:
                raise ValueError
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except _UNUSABLE:
            raise InvalidSpec("body", "Send an SDP offer to receive H.264 video.") from None
        return str(self._connection.localDescription.sdp)

    async def close(self) -> None:
        """Leave, and end the connection."""
        self.connected = False
        if self._leave is not None:
            leave, self._leave = self._leave, None
            await asyncio.to_thread(leave)  # the last one waits for the encoder's present picture
        await self._connection.close()

    async def _changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected" and self._leave is None:
            self.connected = True
            self._leave = self._audience.join(self._take)
        elif state in ("failed", "closed"):
            self._when_ended()

    def _take(self, packet: EncodedPacket) -> None:
        self._loop.call_soon_threadsafe(self._mailbox.put, packet)


class _Video(MediaStreamTrack):
    """Gives packets, which aiortc sends as they are, where it would encode frames."""

    kind = "video"

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    async def recv(self) -> Any:
        """The next packet."""
        encoded = await self._mailbox.take()
        packet: Any = av.Packet(encoded.data)
        packet.pts, packet.dts, packet.time_base = encoded.pts, encoded.dts, encoded.time_base
        return packet
