"""Connections over aiortc; imported once there is one. Everything here runs on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from deployments.errors import InvalidSpec
from deployments.streams.media.audience import Audience
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.webrtc.copies import Copies
from deployments.streams.webrtc.mailbox import Mailbox
from deployments.streams.webrtc.settings import IceServer

UNUSABLE = (ValueError, LookupError, AttributeError, InvalidAccessError, InvalidStateError, OperationError)
"""What aiortc raises for descriptions that it can't read or answer."""


class Packets(Protocol):
    """Where a connection gets its packets."""

    async def take(self) -> EncodedPacket: ...


def sending(
    packets: Packets, servers: Sequence[IceServer], want_key_frame: Callable[[], None]
) -> tuple[RTCPeerConnection, RTCRtpTransceiver]:
    """A connection that sends H.264 as it comes, and no more; the receiver's wishes for a key frame are passed on.

    The RTP time of a picture is its pts, of which the lower 32 bits remain.
    """
    ice = [RTCIceServer(server.url, server.username, server.credential) for server in servers]
    connection = RTCPeerConnection(RTCConfiguration(iceServers=ice))  # without any given, it would take Google's
    transceiver = connection.addTransceiver(_Video(packets), "sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])
    # What a lost picture calls in aiortc, for an encoder of its own that is not there.
    transceiver.sender._send_keyframe = want_key_frame  # type: ignore[method-assign]
    _keep_times(transceiver.sender)
    return connection, transceiver


class _Kept(int):
    """A time that stays what it is when something is added to it."""

    def __radd__(self, origin: int) -> int:
        return int(self)


def _keep_times(sender: RTCRtpSender) -> None:
    """Have RTP times be those of the packets: aiortc adds to them what nobody can know who has boxes by pts."""
    take = sender._next_encoded_frame

    async def kept(codec: Any) -> Any:
        frame = await take(codec)
        if frame is not None:
            frame.timestamp = _Kept(frame.timestamp)
        return frame

    sender._next_encoded_frame = kept  # type: ignore[method-assign]


async def offer(connection: RTCPeerConnection) -> str:
    """The SDP of an offer, with all candidates."""
    await connection.setLocalDescription(await connection.createOffer())
    return str(connection.localDescription.sdp)


async def accept(connection: RTCPeerConnection, answer: str) -> None:
    """Connect as the other side answered. Raises one of `UNUSABLE`."""
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))


class Peer:
    """A viewer from its offer until `close`.

    It joins the audience once it is connected, so that its first packet is a key frame that it gets.

    Args:
        copied: the audience gets the source's own packets; sound among them is left out.
        when_ended: called once the connection has failed, the viewer has left, or can't be sent what comes.
    """

    def __init__(
        self, audience: Audience, servers: Sequence[IceServer], when_ended: Callable[[], None], *, copied: bool
    ) -> None:
        self.connected = False
        self._audience = audience
        self._when_ended = when_ended
        self._leave: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(audience.want_key_frame)
        self._copies = Copies() if copied else None
        self._connection, self._transceiver = sending(self._mailbox, servers, audience.want_key_frame)
        self._connection.on("connectionstatechange", self._changed)

    async def answer(self, offer: str) -> str:
        """The SDP of the answer. Raises InvalidSpec where the offer can't be answered."""
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            if self._transceiver.mid is None or "H264/90000" not in offer:
                raise ValueError
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except UNUSABLE:
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
        self._loop.call_soon_threadsafe(self._put, packet)

    def _put(self, packet: EncodedPacket) -> None:
        if self._copies is None:
            self._mailbox.put(packet)
        elif not packet.audio:
            try:
                self._mailbox.put(self._copies.of(packet))
            except ValueError:
                self._when_ended()


class _Video(MediaStreamTrack):
    """Gives packets, which aiortc sends as they are, where it would encode frames."""

    kind = "video"

    def __init__(self, packets: Packets) -> None:
        super().__init__()
        self._packets = packets

    async def recv(self) -> Any:
        """The next packet."""
        encoded = await self._packets.take()
        packet: Any = av.Packet(encoded.data)
        packet.pts, packet.dts, packet.time_base = encoded.pts, encoded.dts, encoded.time_base
        return packet
