"""``make demo``: the main job on this machine, from nothing to boxes on people.

Starts Ray and Serve from ``serve_config.yaml``, registers the shipped clip as a live camera and a test pattern, and
runs until Ctrl-C, or for ``DEMO_SECONDS`` seconds from the first frame on. Then it says what each of them gave. Streams
that the user registered beside them come back at the next start: they are kept in ``STATE``, by default ``state``.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from deployments.store.opening import sqlite_url
from serve_app.local import PATIENCE_S, LocalCluster, Ports, StartError

CONFIG = Path(__file__).resolve().parent.parent / "serve_config.yaml"

STREAMS: dict[str, dict[str, Any]] = {
    "street": {"source": {"url": "file:pedestrians-768x576-25fps.mp4", "loop": True}, "labels": {"demo": "clip"}},
    "pattern": {"source": {"url": "testsrc://?fps=25&size=640x360"}, "labels": {"demo": "pattern"}},
}

FIRST_FRAME_TIMEOUT_S = 180.0
"""Two stream actors start within some 5 s on two idle cores; a busy machine gets as long as a start may take."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: stop everything and leave."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment chose."""

    ports: Ports
    seconds: float | None
    store: str | None

    @staticmethod
    def from_environment(environment: dict[str, str]) -> Settings:
        """Raises StartError with the name of the variable that can't be used."""
        ports = Ports(_port(environment, "API_PORT", 8000), _port(environment, "DASHBOARD_PORT", 8265))
        if ports.api == ports.dashboard:
            raise StartError(f"API_PORT and DASHBOARD_PORT are both {ports.api}: choose two different ones")
        state = environment.get("STATE")
        return Settings(ports, _seconds(environment), sqlite_url(Path(state) / "registry.db") if state else None)


def _port(environment: dict[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise StartError(f"{name}={text!r} is no port: choose a whole number from 1 to 65535")
    return int(text)


def _seconds(environment: dict[str, str]) -> float | None:
    text = environment.get("DEMO_SECONDS")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise StartError(f"DEMO_SECONDS={text!r} is no number of seconds above 0")
    return seconds


class PersonCounter(threading.Thread):
    """Follows one stream's detections as any client would, and counts the people."""

    def __init__(self, api_url: str, stream_id: str) -> None:
        super().__init__(daemon=True, name="count-people")
        self.people = 0
        self._url = f"{api_url}/v1/streams/{stream_id}/detections"

    def run(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=30) as response:
                for line in response:
                    if line.startswith(b"data: {"):
                        found = json.loads(line[6:]).get("detections", [])
                        self.people += sum(detection["label"] == "person" for detection in found)
        except OSError:
            return  # the server went away: the demo is over


def main() -> int:
    """Run the demo; the exit status is 0 where people were found."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {line}", flush=True)

    try:
        settings = Settings.from_environment(dict(os.environ))
        with LocalCluster(CONFIG, settings.ports, say=say, store=settings.store) as cluster:
            try:
                status = _run(cluster, settings.seconds, say)
            finally:
                _forget_own(cluster.api_url)
            say("stopping everything")
    except StartError as error:
        print(f"raysight could not start: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("stopped", flush=True)
        return 0
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second Ctrl-C must not break the clean-up that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted


def _run(cluster: LocalCluster, seconds: float | None, say: Any) -> int:
    api = cluster.api_url
    for stream_id, spec in STREAMS.items():
        _request("PUT", f"{api}/v1/streams/{stream_id}", spec)
    say("waiting for the first frames")
    _wait_for_frames(api, say)
    counter = PersonCounter(api, "street")
    counter.start()
    say("live pictures with boxes:")
    print(f"\n    page           {api}/")
    print(f"    API            {api}/v1/streams   (described at {api}/docs)")
    print(f"    Ray dashboard  {cluster.dashboard_url}   (asks for this token: {cluster.token})\n", flush=True)
    if seconds is None:
        say("Ctrl-C stops everything")
        signal.pause()
    counter.join(seconds)
    return _summary(api, counter, say)


def _forget_own(api: str) -> None:
    """The next start registers them anyway; what the user registered comes back by itself."""
    for stream_id in STREAMS:
        with suppress(OSError):
            _request("DELETE", f"{api}/v1/streams/{stream_id}")


def _own(api: str) -> list[dict[str, Any]]:
    return [_request("GET", f"{api}/v1/streams/{stream_id}") for stream_id in STREAMS]


def _wait_for_frames(api: str, say: Any) -> None:
    began, words = time.monotonic(), 0
    pause = threading.Event()
    while waiting := [view for view in _own(api) if not view["status"]["frames"]["inferred"]]:
        took = time.monotonic() - began
        if took > FIRST_FRAME_TIMEOUT_S:
            why = "; ".join(map(_in_words, waiting))
            raise StartError(f"no objects were looked for within {FIRST_FRAME_TIMEOUT_S:g} s: {why}")
        if took > (words + 1) * PATIENCE_S:
            words += 1
            say("still waiting for the first frames: a busy machine takes its time")
        pause.wait(0.3)


def _in_words(view: dict[str, Any]) -> str:
    status = view["status"]
    why = (status["last_error"] or {}).get("message") or status["reason"] or "no reason given"
    return f"{view['spec']['id']} is {status['state']} ({why})"


def _summary(api: str, counter: PersonCounter, say: Any) -> int:
    for view in _own(api):
        status = view["status"]
        frames, whole = status["frames"], status["latency_ms"]["whole"]
        say(
            f"{view['spec']['id']}: {frames['decoded']} frames decoded, {frames['inferred']} inferred, "
            f"{frames['published']} published, {status['detections']} detections; "
            f"decoded to detections p50 {whole['p50']:.0f} ms, p99 {whole['p99']:.0f} ms"
        )
    say(f"street: {counter.people} times a person")
    if counter.people == 0:
        print("no person was found in the clip: something is wrong", file=sys.stderr)
        return 1
    return 0


def _request(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
