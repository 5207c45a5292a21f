"""Publishing by WHIP to a server on loopback, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.test_copy import Start, audience, start
from tests.support.media import make_clip
from tests.support.waiting import until

__all__ = ["audience", "start"]

TOKEN = "t0ken-of-the-server"


class Server:
    """`tests.support.whip_server` in a process of its own; ``said`` is what it told so far."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.whip_server", TOKEN]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        until(lambda: bool(self.said))
        self.port = self.said[0]["port"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        self.said.extend(json.loads(line) for line in self._process.stdout)

    def frames(self) -> list[dict[str, Any]]:
        return [one for one in list(self.said) if one["event"] == "frame"]

    def url(self, token: str = TOKEN) -> str:
        return f"whip+http://:{token}@127.0.0.1:{self.port}/whip/gate"

    def tell(self, what: str) -> None:
        httpx.post(f"http://127.0.0.1:{self.port}/{what}", timeout=10).raise_for_status()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_video_is_published_again_after_a_break_and_ended_in_good_order(start: Start, server: Server) -> None:
    runner = start({"url": "testsrc://?fps=25&size=320x240"}, {"url": server.url(), "gop_s": 30})
    until(lambda: len(server.frames()) > 10)
    assert server.frames()[0] == {"event": "frame", "size": [320, 240], "key": True}
    keys = sum(frame["key"] for frame in server.frames())
    server.tell("ask")
    until(lambda: sum(frame["key"] for frame in server.frames()) > keys)  # of itself it is one in 30 s
    seen = len(server.frames())
    server.tell("drop")
    until(lambda: len(server.frames()) > seen + 10, 40)
    until(lambda: runner.status().outputs[0].state == "online")
    assert runner.status().outputs[0].last_error is not None
    assert TOKEN not in runner.status().model_dump_json()
    runner.stop(20)
    until(lambda: {"event": "deleted"} in server.said)


def test_a_copy_is_published_and_what_cannot_be_is_told(start: Start, server: Server, tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", frames=50, options={"bf": "0", "g": "10"})
    runner = start({"url": "file:plain.mp4", "loop": True}, {"url": server.url(), "codec": "copy"})
    until(lambda: len(server.frames()) > 10)
    assert runner.status().video.encoded == 0
    runner.stop(20)
    make_clip(tmp_path / "reordered.mp4", frames=50, options={"bf": "2", "g": "10"})
    refused = {"url": server.url(), "codec": "copy"}
    runner = start({"url": "file:reordered.mp4", "loop": True}, refused, {"url": server.url("wrong-token-0000")})
    until(lambda: [output.state for output in runner.status().outputs] == ["failed", "failed"], 40)
    errors = [output.last_error for output in runner.status().outputs]
    assert [error.code for error in errors if error is not None] == ["codec_unsupported", "auth_failed"]
    assert errors[0] is not None
    assert "no B-frames" in errors[0].message
