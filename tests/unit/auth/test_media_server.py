"""What a media server is answered when it asks whether a client may publish or watch."""

from __future__ import annotations

import httpx
import pytest

from tests.support.closed_api import ClosedApi, problem

NORTH = {"site": "north"}


def asked(closed: ClosedApi, action: str = "read", path: str = "whep/gate-3", **more: object) -> httpx.Response:
    """A question in the words of MediaMTX 1.20."""
    body = {"ip": "10.0.0.9", "user": "", "password": "", "token": "", "protocol": "webrtc", "id": None, "query": ""}
    return closed.call("POST", "/v1/media/authorize", json={**body, "action": action, "path": path, **more})


@pytest.fixture
def gate(closed: ClosedApi) -> ClosedApi:
    assert closed.put("gate-3", closed.key("operator"), labels=NORTH).status_code == 201
    return closed


@pytest.mark.parametrize("field", ["token", "password"])
def test_a_viewer_watches_and_an_operator_publishes(gate: ClosedApi, field: str) -> None:
    viewer, operator = gate.key("viewer", labels=NORTH), gate.key("operator")
    assert asked(gate, "read", **{field: viewer}).status_code == 204
    assert asked(gate, "publish", **{field: operator}).status_code == 204
    problem(asked(gate, "publish", **{field: viewer}), 403, "forbidden")


def test_without_a_key_nobody_does(gate: ClosedApi) -> None:
    problem(asked(gate), 401, "unauthorized")
    problem(asked(gate, token="rsk_nobody_" + "0" * 64), 401, "unauthorized")
    problem(asked(gate, user="admin", password="admin"), 401, "unauthorized")


def test_a_stream_outside_the_labels_is_not_there(gate: ClosedApi) -> None:
    problem(asked(gate, token=gate.key("viewer", labels={"site": "south"})), 404, "stream_not_found")
    problem(asked(gate, path="whep/gate-4", token=gate.key("viewer")), 404, "stream_not_found")


@pytest.mark.parametrize("path", ["gate-3", "", "live/gate-3", "/whep/gate-3"])
def test_other_paths_are_nobodys(gate: ClosedApi, path: str) -> None:
    problem(asked(gate, path=path, token=gate.key("admin")), 403, "forbidden")


@pytest.mark.parametrize("action", ["api", "metrics", "pprof", "playback"])
def test_other_actions_are_nobodys(gate: ClosedApi, action: str) -> None:
    problem(asked(gate, action, token=gate.key("admin")), 403, "forbidden")


def test_a_question_that_cannot_be_read_opens_nothing(gate: ClosedApi) -> None:
    problem(asked(gate, "fly", token=gate.key("admin")), 422, "invalid_request")
    problem(
        gate.call("POST", "/v1/media/authorize", content=b"{", headers={"Content-Type": "application/json"}),
        400,
        "malformed_json",
    )
