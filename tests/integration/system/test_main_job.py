"""The main job: a real RTSP camera in, people found, events and annotated H.264 out."""

from __future__ import annotations

import itertools
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import psutil
import pytest

from tests.support.cluster import Raysight, wait_until
from tests.support.media import make_clip
from tests.support.rtsp_server import RtspServer

FRAMES = 250


def online(status: dict[str, Any]) -> bool:
    return status["state"] == "online" and status["frames"]["inferred"] > 0


def assert_ledgers(status: dict[str, Any]) -> None:
    frames = status["frames"]
    assert frames["decoded"] == frames["inferred"] + sum(frames["dropped"].values()) + frames["in_flight"]
    assert frames["decoded"] == frames["published"] + frames["video_dropped"] + frames["queued"]
    assert min(frames["in_flight"], frames["queued"]) >= 0


def test_people_are_found_on_a_live_rtsp_stream(raysight: Raysight, camera: RtspServer) -> None:
    raysight.put("gate", {"source": {"url": camera.url("street")}})
    status = raysight.wait("gate", online)
    assert status["source"]["codec"] == "h264"
    assert (status["source"]["width"], status["source"]["height"], status["source"]["fps"]) == (768, 576, 25.0)

    events = raysight.events("gate", 60)
    people = [sum(d["label"] == "person" for d in event["detections"]) for event in events]
    assert sum(count >= 5 for count in people) > 0.5 * len(events), people

    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    assert [event["pts"] for event in events] == sorted({event["pts"] for event in events})
    for event in events:
        assert (event["stream_id"], event["width"], event["height"]) == ("gate", 768, 576)
        for found in event["detections"]:
            left, top, right, bottom = found["box"]
            assert 0 <= left < right <= 768
            assert 0 <= top < bottom <= 576


def test_both_ledgers_add_up_at_any_moment(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}, "detect": {"max_fps": 5}})
    raysight.put("pattern", {"source": {"url": "testsrc://?fps=30&size=320x240"}})
    for stream_id in ("street", "pattern"):
        raysight.wait(stream_id, lambda status: status["frames"]["decoded"] > 50)
    seen = set()
    for _ in range(40):
        for stream_id in ("street", "pattern"):
            status = raysight.status(stream_id)
            assert_ledgers(status)
            seen.add((stream_id, status["frames"]["decoded"]))
    assert len(seen) > 2, "the status never moved"
    assert raysight.status("street")["frames"]["dropped"]["max_fps"] > 0


def test_resuming_from_the_last_event_loses_nothing(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    raysight.wait("street", online)
    first = raysight.events("street", 5)
    again = raysight.events("street", 5, after=first[0]["sequence"])
    assert [event["sequence"] for event in again[:4]] == [event["sequence"] for event in first[1:]]


@pytest.mark.long
def test_a_file_output_has_every_frame_in_the_sources_size_and_rate(raysight: Raysight) -> None:
    make_clip(raysight.media_root / "short.mp4", frames=FRAMES, size=(768, 576))
    output = {"url": "file:copy.mp4", "annotate": True}
    raysight.put("street", {"source": {"url": "file:short.mp4"}, "outputs": [output]})
    status = raysight.wait("street", lambda status: status["state"] == "failed", timeout_s=60)
    assert status["last_error"]["code"] == "ended"
    assert_ledgers(status)
    assert status["frames"]["decoded"] == FRAMES
    assert status["frames"]["video_dropped"] == 0
    raysight.api.delete("/v1/streams/street")
    with av.open(raysight.output_root / "copy.mp4") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 768, 576)
        assert Fraction(stream.average_rate) == 25
    # What is encoded before the file is open is lost, and counted: three seconds at most on a busy machine.
    assert FRAMES - 75 <= len(frames) <= FRAMES
    steps = {round(float((b.pts - a.pts) * b.time_base), 3) for a, b in itertools.pairwise(frames)}
    assert steps == {0.04}


def test_a_file_that_may_be_read_slowly_is_inferred_to_its_last_frame(raysight: Raysight) -> None:
    make_clip(raysight.media_root / "slow.mp4", frames=60, size=(768, 576))
    raysight.put("street", {"source": {"url": "file:slow.mp4", "realtime": False}})
    raysight.wait("street", lambda status: status["state"] == "failed", timeout_s=60)
    status = raysight.wait("street", lambda status: status["frames"]["in_flight"] == 0)  # the last are still out
    assert_ledgers(status)
    assert status["frames"]["inferred"] == status["frames"]["decoded"] == 60


@pytest.mark.timeout(90)
def test_annotated_video_is_published_to_an_rtsp_server(raysight: Raysight, tmp_path: Path) -> None:
    recording = tmp_path / "published.h264"
    with RtspServer(recordings={"gate": recording}) as server:
        output = {"url": server.url("gate"), "annotate": True}
        raysight.put("gate", {"source": {"url": "file:street.mp4", "loop": True}, "outputs": [output]})
        server.wait_for_pictures("gate", 60)
        status = raysight.wait("gate", lambda status: status["outputs"][0]["state"] == "online")
        assert status["outputs"][0]["url"] == server.url("gate")
        raysight.api.delete("/v1/streams/gate")
    with av.open(recording, format="h264") as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 55
    assert (frames[0].width, frames[0].height) == (768, 576)


def test_metrics_reach_prometheus(raysight: Raysight) -> None:
    zones = [
        {"name": "line", "kind": "line", "points": [[0.72, 0.1], [0.72, 0.9]]},
        {"name": "whole", "kind": "polygon", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]},
    ]
    spec = {"source": {"url": "file:street.mp4", "loop": True}, "outputs": [{"url": "file:measured.mp4"}]}
    raysight.put("street", {**spec, "track": {}, "zones": zones})
    raysight.wait("street", online)
    stages = {"decode", "letterbox", "wait", "infer", "draw", "encode", "whole"}
    wanted = [f'ray_raysight_stage_latency_milliseconds_bucket{{.*stage="{stage}"' for stage in stages]
    wanted += [
        'ray_raysight_frames_total{.*outcome="inferred".*stream="street"',
        'ray_raysight_stream_latency_milliseconds{.*quantile="0.99".*stream="street"',
        "ray_raysight_batch_size_frames_bucket{",
        'ray_raysight_link_frames_total{.*outcome="replied"',
        'ray_raysight_link_attachments{.*over="memory".* 1',
        "ray_raysight_waiting_frames{",
        'ray_raysight_streams{.*state="online"',
        'ray_raysight_zone_crossings_total{.*class="person".*direction="(left|right)_to_.*stream="street".*zone="line"',
        'ray_raysight_zone_occupancy{.*stream="street".*zone="whole".* [1-9]',
    ]

    def exported() -> bool:
        text = httpx.get(f"http://127.0.0.1:{raysight.cluster.metrics_port}/metrics").text
        return not [name for name in wanted if not re.search(name.replace("{", r"\{", 1), text)]

    wait_until(exported, 80.0)


def test_deleting_a_stream_ends_its_actor(raysight: Raysight) -> None:
    raysight.put("brief", {"source": {"url": "testsrc://?fps=10&size=320x240"}})
    raysight.wait("brief", online)
    actors = raysight.processes("ray::StreamActor")
    assert len(actors) == 1
    started = time.monotonic()
    assert raysight.api.delete("/v1/streams/brief").status_code == 204
    assert time.monotonic() - started < 5
    assert raysight.api.get("/v1/streams/brief").status_code == 404
    assert psutil.wait_procs(actors, timeout=10)[1] == []


def test_changes_take_effect_without_reconnecting(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    before = raysight.wait("street", online)
    patched = raysight.api.patch("/v1/streams/street", json={"detect": {"classes": ["car"], "confidence": 0.2}})
    assert patched.status_code == 200
    wanted = patched.json()["status"]["generation"]
    after = raysight.wait("street", lambda status: status["observed_generation"] == wanted)
    labels = {d["label"] for event in raysight.events("street", 10)[2:] for d in event["detections"]}
    assert labels == {"car"}
    assert (after["since"], after["restarts"], after["epoch"]) == (before["since"], 0, before["epoch"])


def test_pause_and_resume(raysight: Raysight) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    raysight.wait("street", online)
    raysight.api.patch("/v1/streams/street", json={"paused": True})
    paused = raysight.wait("street", lambda status: status["state"] == "paused")
    raysight.api.patch("/v1/streams/street", json={"paused": False})
    raysight.wait("street", lambda s: online(s) and s["frames"]["decoded"] > paused["frames"]["decoded"])


def test_snapshots_and_one_image(raysight: Raysight, street_clip: Path) -> None:
    raysight.put("street", {"source": {"url": "file:street.mp4", "loop": True}})
    raysight.wait("street", online)
    picture = raysight.api.get("/v1/streams/street/snapshot.jpg?annotated=true")
    assert picture.headers["content-type"] == "image/jpeg", picture.text
    plain = raysight.api.get("/v1/streams/street/snapshot.jpg?annotated=false")
    found = raysight.api.post("/v1/detect", content=plain.content, headers={"content-type": "image/jpeg"}).json()
    assert sum(d["label"] == "person" for d in found["detections"]) >= 3


def test_probe_tells_what_a_stream_would_get(raysight: Raysight, camera: RtspServer) -> None:
    good = raysight.api.post("/v1/probe", json={"url": camera.url("street")})
    assert good.status_code == 200, good.text
    assert (good.json()["codec"], good.json()["width"]) == ("h264", 768)
    wrong = raysight.api.post("/v1/probe", json={"url": camera.url("street", "viewer:wrong")})
    assert wrong.json()["code"] == "auth_failed"
    assert raysight.api.get("/v1/streams").json()["items"] == []
