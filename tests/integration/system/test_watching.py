"""A stream of the running system is watched by WebRTC, copied and recorded."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from benchmarks.glass import PLAYER
from tests.integration.system.test_main_job import online
from tests.support.browser import browsing
from tests.support.cluster import Raysight, wait_until
from tests.support.media import make_clip
from tests.support.rtsp_server import RtspServer


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_browser_watches_and_what_was_seen_is_kept(raysight: Raysight, camera: RtspServer, tmp_path: Path) -> None:
    raysight.put("gate", {"source": {"url": camera.url("street")}})
    raysight.wait("gate", lambda status: online(status) and status["frames"]["published"] > 10)
    assert raysight.status("gate")["video"] == {"drawn": 0, "encoded": 0, "viewers": 0}
    with browsing() as page:
        page.goto(f"{raysight.cluster.api_url}/healthz")
        page.evaluate(PLAYER)
        page.evaluate("play('/v1/streams/gate/whep').then(found => { window.one = found; })")
        wait_until(lambda: page.evaluate("decoded(one)")["frames"] > 10)
        raysight.wait("gate", lambda status: status["video"]["viewers"] == 1 and status["video"]["encoded"] > 10)
        assert page.evaluate("fetch(one.location, {method: 'DELETE'}).then(answer => answer.status)") == 204
        raysight.wait("gate", lambda status: status["video"]["viewers"] == 0)

    record = {"before_s": 1, "after_s": 0.5, "longest_s": 3}
    output = {"url": "file:copy.mp4", "codec": "copy"}
    raysight.api.patch("/v1/streams/gate", json={"record": record, "outputs": [output]}).raise_for_status()
    status = raysight.wait(
        "gate",
        lambda status: bool(status["recording"]) and status["recording"]["clips"] > 0 and status["outputs"] != [],
        60,
    )
    assert status["outputs"][0]["encoder"] is None
    clip = raysight.api.get("/v1/streams/gate/clips").raise_for_status().json()["items"][-1]
    path = tmp_path / "clip.mp4"
    path.write_bytes(raysight.api.get(f"/v1/streams/gate/clips/{clip['name']}.mp4").raise_for_status().content)
    assert path.stat().st_size == clip["size_bytes"]
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5  # at least what came after the event
    picture = raysight.api.get(f"/v1/streams/gate/clips/{clip['name']}.jpg").raise_for_status()
    assert picture.content.startswith(b"\xff\xd8")
    answer = raysight.api.get("/v1/streams/gate/clips/20000101T000000-1.mp4")
    assert (answer.status_code, answer.json()["code"]) == (404, "clip_not_found")


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_browser_watches_the_camera_s_own_video(raysight: Raysight, tmp_path: Path) -> None:
    with RtspServer(clips={"yard": make_clip(tmp_path / "clip.mp4")}) as camera, browsing() as page:
        raysight.put("yard", {"source": {"url": camera.url("yard")}})
        status = raysight.wait("yard", lambda status: online(status) and status["frames"]["published"] > 10)
        assert status["source"]["webrtc_copy"]
        page.goto(f"{raysight.cluster.api_url}/healthz")
        page.evaluate(PLAYER)
        page.evaluate("play('/v1/streams/yard/whep?codec=copy').then(found => { window.one = found; })")
        wait_until(lambda: page.evaluate("decoded(one)")["frames"] > 10)
        status = raysight.wait("yard", lambda status: status["video"]["viewers"] == 1)
        assert status["video"] == {"drawn": 0, "encoded": 0, "viewers": 1}
        assert page.evaluate("fetch(one.location, {method: 'DELETE'}).then(answer => answer.status)") == 204
        raysight.wait("yard", lambda status: status["video"]["viewers"] == 0)
