"""The schema of the API application's ``args`` in ``serve_config.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from deployments.store.opening import sqlite_url
from deployments.streams.media.clips import CLIPS
from deployments.streams.policy import UrlPolicy
from deployments.streams.webrtc.settings import PlaybackSettings
from deployments.supervisor.config import SupervisorConfig
from serve_app.auth.config import AuthArgs


class AppArgs(AuthArgs):
    """What `serve_app.app.build_app` takes; who may call is in `serve_app.auth.config`."""

    media_root: Path = Field(default=CLIPS, description="`file:` sources are looked for under this folder only.")
    output_root: Path = Field(
        default=Path("recordings"), description="`file:` outputs are written under this folder only."
    )
    store: str | None = Field(
        default=None,
        description="Where streams are kept: sqlite:///path on one node, redis://host:port or rediss://... (TLS) in a "
        "cluster; null: a file in the folder `state` beside output_root.",
    )
    models_root: Path | None = Field(
        default=None,
        description="Models are swapped to packages under this folder only, the same on all nodes; null: never.",
    )
    allow_private_addresses: bool = Field(
        default=True, description="Whether sources and outputs may lie in private ranges: cameras live there."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=("localhost", "127.0.0.1", "::1"),
        description="Values of the Host header that are answered; any other is a sign of DNS rebinding.",
    )
    grpc_from: Literal["loopback", "anywhere"] = Field(
        default="loopback",
        description="Whose gRPC calls are answered where `grpc_options` open that port: Serve binds it everywhere.",
    )
    webrtc: PlaybackSettings = PlaybackSettings()
    num_replicas: int = Field(default=1, ge=1, description="Replicas of the API.")
    streams: SupervisorConfig = SupervisorConfig()

    @property
    def store_url(self) -> str:
        """Where what is registered is kept."""
        return self.store or sqlite_url(self.output_root.resolve().parent / "state" / "registry.db")

    def policy(self) -> UrlPolicy:
        """Which addresses and folders streams may use."""
        return UrlPolicy(
            media_root=self.media_root.resolve(),
            output_root=self.output_root.resolve(),
            allow_private=self.allow_private_addresses,
        )
