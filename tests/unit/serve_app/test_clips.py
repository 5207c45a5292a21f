"""The routes of clips over a shelf on disk."""

from __future__ import annotations

from pathlib import Path

from deployments.streams.policy import UrlPolicy
from deployments.streams.recording.shelf import PART_BYTES, Shelf
from deployments.streams.recording.spec import Clip
from tests.support.closed_api import problem
from tests.unit.serve_app.conftest import Api

PATH = "/v1/streams/gate/clips"
NAME = "20260101T000000-7"


def test_clips_are_listed_and_served_whole_and_in_parts(api: Api, tmp_path: Path) -> None:
    api.put("gate")
    problem(api.call("GET", PATH), 503, "stream_not_running")
    shelf = api.streams.shelf = Shelf(UrlPolicy(media_root=tmp_path, output_root=tmp_path), "gate")
    assert api.call("GET", PATH).json() == {"items": []}
    problem(api.call("GET", f"{PATH}/{NAME}.mp4"), 404, "clip_not_found")
    data = bytes(range(256)) * 8 * (PART_BYTES // 1024)
    written = shelf.new(NAME)
    written.write_bytes(data)
    clip = Clip(name=NAME, started_at=1.0, seconds=2.0, size_bytes=len(data), label="person", key="gate/7")
    shelf.keep(written, clip, b"jpeg")
    assert api.call("GET", PATH).json()["items"] == [clip.model_dump()]
    whole = api.call("GET", f"{PATH}/{NAME}.mp4")
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "video/mp4", data)
    assert whole.headers["accept-ranges"] == "bytes"
    part = api.call("GET", f"{PATH}/{NAME}.mp4", headers={"Range": "bytes=1000-1500000"})
    assert (part.status_code, part.content) == (206, data[1000:1500001])
    assert part.headers["content-range"] == f"bytes 1000-1500000/{len(data)}"
    problem(
        api.call("GET", f"{PATH}/{NAME}.mp4", headers={"Range": f"bytes={len(data)}-"}), 416, "range_not_satisfiable"
    )
    picture = api.call("GET", f"{PATH}/{NAME}.jpg")
    assert (picture.headers["content-type"], picture.content) == ("image/jpeg", b"jpeg")
    problem(api.call("GET", f"{PATH}/..%2f{NAME}.mp4"), 404, "route_not_found")
    problem(api.call("GET", f"{PATH}/x.mp4"), 422, "invalid_request")
    problem(api.call("GET", "/v1/streams/none/clips"), 404, "stream_not_found")
