"""All streams at once, and a store that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.errors import StoreAway
from serve_app.config import AppArgs
from tests.unit.serve_app.conftest import Api


def test_an_export_has_no_secret_and_no_default(api: Api) -> None:
    api.put(
        "gate",
        "rtsp://viewer:s3cr3t@10.0.0.7/ch1",
        paused=True,
        outputs=[{"url": "rtmp://media/live/k3y"}],
        sinks=[{"url": "file:a.jsonl"}, {"url": "https://hooks/x", "credentials": {"secret": "s1gn" * 4}}],
    )
    api.put("yard")
    answer = api.call("GET", "/v1/export")
    assert answer.json() == {
        "streams": {
            "gate": {
                "source": {"url": "rtsp://10.0.0.7/ch1", "credentials": {"ref": "gate-source"}},
                "outputs": [{"url": "rtmp://media/live/***", "credentials": {"ref": "gate-output-0"}}],
                "sinks": [
                    {"url": "file:a.jsonl"},
                    {"url": "https://hooks/x", "credentials": {"ref": "gate-sink-1"}},
                ],
                "paused": True,
            },
            "yard": {"source": {"url": "testsrc://"}},
        }
    }
    assert "s3cr3t" not in answer.text
    assert "k3y" not in answer.text
    assert "s1gn" not in answer.text


def test_a_drain_asks_for_the_end_of_all_streams(api: Api) -> None:
    api.put("gate")
    answer = api.call("POST", "/v1/drain")
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.streams.drained
    assert api.call("GET", "/v1/streams/gate").status_code == 200


def test_a_change_that_can_not_be_stored_is_a_503_that_says_so(api: Api) -> None:
    api.streams.failure = StoreAway("the store, Redis on db, can't be used: connection refused")
    answer = api.put("gate")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "connection refused" in answer.json()["detail"]
    assert answer.headers["Retry-After"]


def test_streams_are_kept_beside_the_recordings_unless_another_store_is_named(tmp_path: Path) -> None:
    assert AppArgs(output_root=tmp_path / "out").store_url == f"sqlite://{tmp_path}/state/registry.db"
    assert AppArgs(store="redis://db:6379").store_url == "redis://db:6379"
    with pytest.raises(ValidationError):
        AppArgs.model_validate({"store": 1})
