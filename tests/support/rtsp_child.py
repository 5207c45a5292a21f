"""The RTSP server itself; runs with the system's Python, which has GStreamer, and imports nothing of the project.

Reads its configuration as JSON from stdin, prints its port once it listens, and serves until stdin closes, so that it
never outlives a test run that was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

PAYLOADERS = {
    "video/x-h264": "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "video/x-h265": "h265parse config-interval=-1 ! rtph265pay name=pay0 pt=96 config-interval=-1",
    "image/jpeg": "jpegparse ! rtpjpegpay name=pay0 pt=26",
}
SPLITTERS = {
    "video/x-h264": "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
    "video/x-h265": "h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
    "image/jpeg": "identity",
}


class Clip:
    """The access units of a file, with their timestamps from 0 on in nanoseconds."""

    def __init__(self, path: str, kind: str) -> None:
        pipeline = Gst.parse_launch(
            f'filesrc location="{path}" ! qtdemux name=d d.video_0 ! queue ! {SPLITTERS[kind]} '
            "! appsink name=sink sync=false"
        )
        sink = pipeline.get_by_name("sink")
        pipeline.set_state(Gst.State.PLAYING)
        self.units = []
        self.caps = None
        while (sample := sink.pull_sample()) is not None:
            buffer = sample.get_buffer()
            self.caps = sample.get_caps()
            self.units.append((buffer.extract_dup(0, buffer.get_size()), buffer.pts, buffer.duration))
        pipeline.set_state(Gst.State.NULL)
        first = min(pts for _, pts, _ in self.units)
        self.units = [(data, pts - first, duration) for data, pts, duration in self.units]
        self.length = max(pts + duration for _, pts, duration in self.units)


class LoopFactory(GstRtspServer.RTSPMediaFactory):
    """Serves one clip over and over as a live source that all clients share."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__()
        self.clip = Clip(path, kind)
        self.set_launch(f"( appsrc name=feed is-live=true format=time ! {PAYLOADERS[kind]} )")
        self.set_shared(True)
        self.connect("media-configure", self.on_media)

    def on_media(self, _factory: object, media: Any) -> None:
        feed = media.get_element().get_by_name_recurse_up("feed")
        feed.set_property("caps", self.clip.caps)
        threading.Thread(target=self.push, args=(feed,), daemon=True).start()

    def push(self, feed: Any) -> None:
        origin = time.monotonic()
        base = None
        offset = 0
        while True:
            for data, pts, duration in self.clip.units:
                due = origin + (offset + pts) / Gst.SECOND
                time.sleep(max(0.0, due - time.monotonic()))
                clock = feed.get_clock()
                if base is None:
                    base = clock.get_time() - feed.get_base_time() if clock else 0
                buffer = Gst.Buffer.new_wrapped(data)
                buffer.pts = buffer.dts = base + offset + pts
                buffer.duration = duration
                if feed.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            offset += self.clip.length


class RecordFactory(GstRtspServer.RTSPMediaFactory):
    """Takes what is published, appends it to a file and prints its name for every picture."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__()
        self.name = name
        self.path = path
        self.listen(50)

    def listen(self, latency_ms: int) -> None:
        self.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        self.set_latency(latency_ms)
        self.set_launch(
            "( rtph264depay name=depay0 ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au "
            "! appsink name=sink sync=false async=false emit-signals=true )"
        )
        self.connect("media-configure", self.on_media)

    def on_media(self, _factory: object, media: Any) -> None:
        media.get_element().get_by_name_recurse_up("sink").connect("new-sample", self.on_sample)

    def on_sample(self, sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        with open(self.path, "ab") as target:
            target.write(buffer.extract_dup(0, buffer.get_size()))
        with suppress(BlockingIOError):  # a test that does not ask for pictures reads none of it
            os.write(sys.stdout.fileno(), f"{self.name}\n".encode())
        return Gst.FlowReturn.OK


class RelayFactory(RecordFactory):
    """Takes what is published and hands it at once to those who play ``played``."""

    def __init__(self) -> None:
        GstRtspServer.RTSPMediaFactory.__init__(self)
        self.listen(0)
        self.feed: Any = None
        self.played = GstRtspServer.RTSPMediaFactory()
        self.played.set_launch(
            f"( appsrc name=feed is-live=true format=time do-timestamp=true ! {PAYLOADERS['video/x-h264']} )"
        )
        self.played.set_shared(True)
        self.played.set_latency(0)
        self.played.connect("media-configure", self.on_player)

    def on_player(self, _factory: object, media: Any) -> None:
        self.feed = media.get_element().get_by_name_recurse_up("feed")

    def on_sample(self, sink: Any) -> Any:
        sample = sink.emit("pull-sample")
        if self.feed is not None:
            buffer = sample.get_buffer()
            self.feed.set_property("caps", sample.get_caps())
            self.feed.emit("push-buffer", Gst.Buffer.new_wrapped(buffer.extract_dup(0, buffer.get_size())))
        return Gst.FlowReturn.OK


def protect(server: Any, factories: list[Any], user: str, password: str, digest: bool) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for factory in factories:
        role = Gst.Structure.new_empty("viewer")
        role.set_value(GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
        role.set_value(GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role_from_structure(role)
        factory.set_permissions(permissions)


def main() -> None:
    Gst.init(None)
    config = json.loads(sys.stdin.readline())
    server = GstRtspServer.RTSPServer()
    server.set_address(config["address"])
    server.set_service(str(config["port"]))
    server.get_thread_pool().set_max_threads(-1)  # who waits for video to come must not keep it from coming
    mounts = server.get_mount_points()
    factories: list[Any] = []
    for name, (path, kind) in config["clips"].items():
        factories.append(LoopFactory(path, kind))
        mounts.add_factory(f"/{name}", factories[-1])
    for name, path in config["recordings"].items():
        factories.append(RecordFactory(name, path))
        mounts.add_factory(f"/{name}", factories[-1])
    for name in config["relays"]:
        factories.append(RelayFactory())
        mounts.add_factory(f"/{name}/in", factories[-1])
        mounts.add_factory(f"/{name}", factories[-1].played)
    if config["user"] is not None:
        protect(server, factories, config["user"], config["password"], config["digest"])
    if not server.attach(None):
        sys.exit("the port is taken")
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    print(server.get_bound_port(), flush=True)
    os.set_blocking(sys.stdout.fileno(), False)
    loop.run()


main()
