"""What the configuration says of playback by WebRTC, and what a player is answered."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from deployments.streams.addressed import Strict


class IceServer(Strict):
    """A STUN or TURN server, for viewers and streams that don't reach each other directly."""

    url: str = Field(pattern=r"^(stun|stuns|turn|turns):[^\s<>\"]+$", description="Such as stun:stun.example:3478.")
    username: str | None = Field(default=None, description="Of a TURN server; players are told it.")
    credential: str | None = Field(default=None, description="Its password; players are told it.")


class PlaybackSettings(Strict):
    """How WebRTC is played from the streams themselves."""

    ice_servers: tuple[IceServer, ...] = Field(
        default=(), max_length=8, description="None: viewers have to reach the node of the stream itself."
    )
    media_server: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Players are sent to `whep/STREAM/whep` below this URL; null: streams play it themselves.",
    )
    viewers_per_stream: int = Field(
        default=8, ge=0, le=64, description="Viewers of one stream at once: each costs its process CPU."
    )


@dataclass(frozen=True, slots=True)
class SdpAnswer:
    """What a player gets for its offer.

    Attributes:
        session: names the viewer in later calls; nobody else can guess it.
        sdp: the answer, with all candidates.
    """

    session: str
    sdp: str
