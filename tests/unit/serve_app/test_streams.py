"""Streams are created, listed, changed and deleted as the API says."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from deployments.errors import StreamErrorCode
from deployments.streams.history import HistoryEntry
from deployments.streams.spec import LastError, StreamState
from tests.unit.serve_app.conftest import Api

SECRET_URL = "rtsp://admin:hunter2@10.0.0.7/ch1?token=hunter2"
BODY: dict[str, Any] = {"source": {"url": "testsrc://"}}


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that a response tells of."""
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["status"], told["code"]) == (status, status, code)
    assert told["detail"]
    assert told["title"]
    return told


def ids(response: httpx.Response) -> list[str]:
    return [view["spec"]["id"] for view in response.json()["items"]]


def test_put_creates_then_replaces(api: Api) -> None:
    created = api.put("gate-3")
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    same = api.put("gate-3")
    assert (same.status_code, same.headers["etag"]) == (200, '"1"')
    changed = api.put("gate-3", video_delay_ms=50)
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    shown = api.call("GET", "/v1/streams/gate-3")
    assert shown.json()["spec"]["video_delay_ms"] == 50
    assert shown.headers["etag"] == '"2"'


def test_put_takes_the_same_id_in_the_body_only(api: Api) -> None:
    assert api.put("gate-3", id="gate-3").status_code == 201
    told = problem(api.put("gate-3", id="gate-4"), 422, "invalid_request")
    assert told["errors"][0]["field"] == "id"


def test_names_and_what_is_wrong_with_them_are_told_in_words(api: Api) -> None:
    told = problem(api.call("POST", "/v1/streams", json={**BODY, "id": "my gate"}), 422, "invalid_request")
    assert told["errors"] == [{"field": "id", "message": "take small letters, digits and inner hyphens, 63 at most"}]
    api.put("a", track={})
    line = {"kind": "line", "points": [[0.1, 0.1], [0.9, 0.9]]}
    for names, words in ((["<b>"], "take letters"), (["door", "door"], "each zone needs a name of its own")):
        patch = {"zones": [{"name": name, **line} for name in names]}
        told = problem(api.call("PATCH", "/v1/streams/a", json=patch), 422, "invalid_request")
        assert told["errors"][0]["message"].startswith(words)


def test_put_create_only(api: Api) -> None:
    header = {"If-None-Match": "*"}
    assert api.call("PUT", "/v1/streams/a", json=BODY, headers=header).status_code == 201
    problem(api.call("PUT", "/v1/streams/a", json=BODY, headers=header), 412, "precondition_failed")
    problem(api.call("PUT", "/v1/streams/a", json=BODY, headers={"If-None-Match": '"1"'}), 400, "bad_header")


def test_changes_based_on_another_generation_are_refused(api: Api) -> None:
    api.put("a")
    old = {"If-Match": '"7"'}
    for method, body in (("PUT", BODY), ("PATCH", {"paused": True}), ("DELETE", None)):
        problem(api.call(method, "/v1/streams/a", json=body, headers=old), 412, "precondition_failed")
    assert (
        api.call("PATCH", "/v1/streams/a", json={"paused": True}, headers={"If-Match": '"1"'}).headers["etag"] == '"2"'
    )
    assert api.call("PUT", "/v1/streams/a", json=BODY, headers={"If-Match": "*"}).status_code == 200
    problem(api.call("PUT", "/v1/streams/b", json=BODY, headers={"If-Match": "*"}), 412, "precondition_failed")
    problem(api.call("DELETE", "/v1/streams/a", headers={"If-Match": "latest"}), 400, "bad_header")
    assert api.call("DELETE", "/v1/streams/a", headers={"If-Match": '"3"'}).status_code == 204


def test_post_picks_an_id(api: Api) -> None:
    created = api.call("POST", "/v1/streams", json=BODY)
    stream_id = created.json()["spec"]["id"]
    assert created.status_code == 201
    assert re.fullmatch(r"stream-[0-9a-f]{4}", stream_id)
    assert created.headers["location"] == f"/v1/streams/{stream_id}"


def test_post_of_a_taken_id(api: Api) -> None:
    assert api.call("POST", "/v1/streams", json={"id": "a", **BODY}).status_code == 201
    problem(api.call("POST", "/v1/streams", json={"id": "a", **BODY}), 409, "stream_exists")


def test_patch_merges(api: Api) -> None:
    api.put("a", detect={"iou": 0.5}, labels={"site": "north"})
    patch = {"detect": {"confidence": 0.9}, "labels": {"site": None}}
    headers = {"Content-Type": "application/merge-patch+json"}
    spec = api.call("PATCH", "/v1/streams/a", json=patch, headers=headers).json()["spec"]
    assert (spec["detect"]["iou"], spec["detect"]["confidence"], spec["labels"]) == (0.5, 0.9, {})
    told = problem(api.call("PATCH", "/v1/streams/a", json={"detect": {"iou": 9}}), 422, "invalid_request")
    assert told["errors"][0]["field"] == "detect.iou"


def test_what_a_stream_went_through_is_told_newest_first(api: Api) -> None:
    api.put("a")
    assert api.call("GET", "/v1/streams/a/history").json() == {"items": []}
    broke = LastError(code=StreamErrorCode.STALLED, message="No video came in time.", at=2.0, retryable=True)
    went = [
        HistoryEntry(epoch=1, number=1, at=1.0, last_at=1.0, state=StreamState.ONLINE),
        HistoryEntry(epoch=1, number=2, at=2.0, last_at=9.0, times=3, state=StreamState.RECONNECTING, error=broke),
    ]
    api.streams.streams["a"].history += went
    told = api.call("GET", "/v1/streams/a/history").json()["items"]
    assert told == [entry.model_dump(mode="json") for entry in reversed(went)]
    problem(api.call("GET", "/v1/streams/b/history"), 404, "stream_not_found")


def test_delete_and_restart(api: Api) -> None:
    api.put("a")
    assert api.call("POST", "/v1/streams/a/restart").json()["status"]["state"] == "connecting"
    deleted = api.call("DELETE", "/v1/streams/a")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("POST", "/restart"),
        ("GET", "/detections"),
        ("GET", "/live.mjpeg"),
        ("GET", "/snapshot.jpg"),
    ):
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        problem(api.call(method, f"/v1/streams/a{path}", json=body), 404, "stream_not_found")


def test_list_filters_and_pages(api: Api) -> None:
    for number, stream_id in enumerate(("d", "b", "a", "c")):
        api.put(stream_id, labels={"site": "north", "even": str(number % 2 == 0)})
    api.runner.run(api.streams.set_status("c", state=StreamState.ONLINE))
    assert ids(api.call("GET", "/v1/streams")) == ["a", "b", "c", "d"]
    assert ids(api.call("GET", "/v1/streams?label=site=north&label=even=True")) == ["a", "d"]
    assert ids(api.call("GET", "/v1/streams?state=online")) == ["c"]
    first = api.call("GET", "/v1/streams?limit=3")
    assert ids(first) == ["a", "b", "c"]
    second = api.call("GET", "/v1/streams", params={"limit": 3, "cursor": first.json()["next_cursor"]})
    assert (ids(second), second.json()["next_cursor"]) == (["d"], None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("label=north", "label"),
        ("state=asleep", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("cursor=%C3%A9", "cursor"),
        ("cursor=_w", "cursor"),
    ],
)
def test_list_refuses_what_it_cannot_read(api: Api, query: str, field: str) -> None:
    told = problem(api.call("GET", f"/v1/streams?{query}"), 422, "invalid_request")
    assert told["errors"][0]["field"] == field


def test_credentials_never_come_back(api: Api) -> None:
    answers = [
        api.put("a", SECRET_URL, outputs=[{"url": SECRET_URL}]),
        api.call("GET", "/v1/streams/a"),
        api.call("GET", "/v1/streams"),
        api.call("PATCH", "/v1/streams/a", json={"source": {"url": SECRET_URL + "&x=1"}}),
        api.call("POST", "/v1/streams/a/restart"),
        api.put("a", SECRET_URL, detect=SECRET_URL),
        api.put("b", SECRET_URL, **{SECRET_URL: 1, "labels": {SECRET_URL: 5}}),
        api.call("PUT", "/v1/streams/a", json={"source": SECRET_URL}),
        api.call("PUT", "/v1/streams/a", json={"source": {"url": [SECRET_URL]}}),
        api.call(
            "PUT", "/v1/streams/a", json={"source": {"url": "rtsp://h", "credentials": {"password": ["hunter2"]}}}
        ),
        api.call(
            "PUT", "/v1/streams/a", content=f'{{"url": "{SECRET_URL}"', headers={"Content-Type": "application/json"}
        ),
        api.call("POST", "/v1/streams", json={"id": SECRET_URL, **BODY}),
        api.call("GET", f"/v1/streams?state={SECRET_URL}&cursor={SECRET_URL}"),
        api.call("GET", f"/v1/nothing?url={SECRET_URL}"),
        api.call("GET", f"/{SECRET_URL}"),
        api.call("GET", "/v1/streams/rtsp%3A%2F%2Fadmin%3Ahunter2@h"),
        api.call("POST", "/v1/probe", json={"url": SECRET_URL}),
        api.call("POST", "/v1/probe", json={"url": SECRET_URL, "transport": SECRET_URL}),
    ]
    for answer in answers:
        assert "hunter2" not in answer.text + str(answer.headers), answer.request.url.path
    assert api.media.probed[0].credentials is not None
