"""A real RTSP server on loopback: GStreamer's, in a child process with the system's Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import av

PYTHON = "/usr/bin/python3"
_CHILD = Path(__file__).with_name("rtsp_child.py")
_KINDS = {"h264": "video/x-h264", "hevc": "video/x-h265", "mjpeg": "image/jpeg"}


def available() -> bool:
    """Whether GStreamer's RTSP server is installed here."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        return subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class RtspServer:
    """Serves MP4 clips without B-frames (H.264, HEVC or MJPEG) as live streams, and records what is published to it.

    Attributes:
        clips: path in the URL to the file, which is played in a loop at its own pace, shared by all clients.
        recordings: path in the URL to the file that takes what is published there, as raw H.264.
        relays: paths at which is played what is published to PATH/in, without waiting.
        user, password, digest: who may connect; None: everybody.
        port: 0 before the first `start`; later starts take the same one.
        address: where it listens, which may lie in another network namespace.
        prefix: the command that runs it there, such as ``ip netns exec NAME``.
        environment: variables of its process, besides those of this one.
    """

    clips: Mapping[str, Path] = field(default_factory=dict)
    recordings: Mapping[str, Path] = field(default_factory=dict)
    relays: tuple[str, ...] = ()
    user: str | None = None
    password: str | None = None
    digest: bool = False
    port: int = 0
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start serving; returns once the port listens."""
        child = subprocess.Popen(
            [*self.prefix, PYTHON, str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        config = {
            "address": self.address,
            "port": self.port,
            "clips": {name: [str(path), _KINDS[codec_of(path)]] for name, path in self.clips.items()},
            "recordings": {name: str(path) for name, path in self.recordings.items()},
            "relays": self.relays,
            "user": self.user,
            "password": self.password,
            "digest": self.digest,
        }
        child.stdin.write(json.dumps(config).encode() + b"\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line.strip():
            child.wait()
            raise RuntimeError("the RTSP server did not start")
        self._child = child
        self.port = int(line)

    def kill(self) -> None:
        """End it as a power cut of the camera would: without a word to its clients."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def wait_for_pictures(self, path: str, count: int) -> None:
        """Return once ``count`` more pictures published to ``path`` are in its file."""
        assert self._child is not None
        assert self._child.stdout is not None
        while count:
            line = self._child.stdout.readline()
            if not line:
                raise RuntimeError("the RTSP server has ended")
            count -= line.strip() == path.encode()

    @property
    def pid(self) -> int:
        """Of the running server, to stop and continue it."""
        assert self._child is not None
        return self._child.pid

    def url(self, path: str, user_info: str | None = None) -> str:
        """The URL of a path, with its own credentials where it wants some and none are given."""
        if user_info is None:
            user_info = f"{self.user}:{self.password}" if self.user is not None else ""
        return f"rtsp://{user_info}{'@' if user_info else ''}{self.address}:{self.port}/{path}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def codec_of(path: Path) -> str:
    """FFmpeg's name of the video codec in a file."""
    with av.open(path) as container:
        return container.streams.video[0].codec_context.name
