"""WHEP over ports in memory: what players are told, and how long a viewer counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.spec import SourceInfo, StreamState
from deployments.streams.webrtc.offer import MAX_CANDIDATES, vetted
from deployments.streams.webrtc.settings import IceServer, PlaybackSettings
from serve_app.api import playbacks
from serve_app.api.whep import link
from tests.support.closed_api import problem
from tests.support.waiting import until_so
from tests.unit.serve_app.conftest import Api

SDP = {"Content-Type": "application/sdp"}
PATH = "/v1/streams/gate/whep"


def test_an_offer_gets_its_answer_with_all_that_a_player_needs(api: Api) -> None:
    api.put("gate")
    turn = IceServer(url="turn:turn.example:3478", username="me", credential='a"b')
    api.app.state.playback = PlaybackSettings(ice_servers=(IceServer(url="stun:stun.example"), turn))
    answer = api.call("POST", PATH, content="an offer", headers=SDP)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        201,
        "answer to an offer",
        SDP["Content-Type"],
    )
    assert answer.headers["location"] == f"{PATH}/viewer-0"
    assert answer.headers.get_list("link") == [
        '<stun:stun.example>; rel="ice-server"',
        '<turn:turn.example:3478>; rel="ice-server"; username="me"; credential="a\\"b"; credential-type="password"',
    ]
    assert api.call("DELETE", answer.headers["location"]).status_code == 204
    assert api.streams.playing == {"viewer-0": False}
    assert link(IceServer(url="stun:a")) == '<stun:a>; rel="ice-server"'


def test_the_source_s_own_video_is_played_where_webrtc_carries_it(api: Api) -> None:
    api.put("gate")
    found = {"codec": "h264", "width": 1280, "height": 720, "fps": 25.0}
    api.runner.run(api.streams.set_status("gate", source=SourceInfo(**found)))
    problem(api.call("POST", f"{PATH}?codec=copy", content="x", headers=SDP), 422, "codec_unsupported")
    problem(api.call("POST", f"{PATH}?codec=hevc", content="x", headers=SDP), 422, "invalid_request")
    assert api.call("POST", f"{PATH}?codec=h264", content="x", headers=SDP).text == "answer to x"
    api.runner.run(api.streams.set_status("gate", source=SourceInfo(**found, webrtc_copy=True)))
    assert api.call("POST", f"{PATH}?codec=copy", content="x", headers=SDP).text == "answer to x, copied"


def test_what_can_not_be_played_is_told(api: Api) -> None:
    problem(api.call("POST", PATH, content="x", headers=SDP), 404, "stream_not_found")
    problem(api.call("DELETE", f"{PATH}/viewer-0"), 404, "stream_not_found")
    api.put("gate")
    problem(api.call("POST", PATH, content="x"), 415, "unsupported_media_type")
    problem(api.call("POST", PATH, content=b"\xff", headers=SDP), 422, "invalid_request")
    problem(api.call("POST", PATH, content="x" * 70_000, headers=SDP), 413, "body_too_large")
    problem(api.call("PATCH", f"{PATH}/viewer-0", content="x"), 405, "method_not_allowed")
    api.runner.run(api.streams.set_status("gate", state=StreamState.FAILED))
    problem(api.call("POST", PATH, content="x", headers=SDP), 503, "no_picture")
    assert api.app.state.viewers.seats.taken == 0


def test_players_are_sent_to_the_media_server_where_there_is_one(api: Api) -> None:
    api.put("gate")
    api.app.state.playback = PlaybackSettings(media_server="https://cameras.example/")
    answer = api.call("POST", PATH, content="an offer", headers=SDP)
    assert (answer.status_code, answer.headers["location"]) == (307, "https://cameras.example/whep/gate/whep")
    problem(api.call("POST", "/v1/streams/none/whep", content="x", headers=SDP), 404, "stream_not_found")


def test_a_viewer_has_a_seat_until_it_is_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbacks, "ASK_S", 0.01)
    seats = api.app.state.viewers.seats

    api.put("gate")
    for _ in range(2):
        api.call("POST", PATH, content="an offer", headers=SDP)
    assert seats.taken == 2
    api.streams.playing["viewer-0"] = False  # it left by itself
    api.runner.run(until_so(lambda: seats.taken == 1))
    api.call("DELETE", f"{PATH}/viewer-1")
    api.runner.run(until_so(lambda: seats.taken == 0))


def test_a_viewer_goes_with_its_stream(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbacks, "ASK_S", 0.01)
    api.put("gate")
    api.call("POST", PATH, content="an offer", headers=SDP)
    api.call("DELETE", "/v1/streams/gate")

    api.runner.run(until_so(lambda: not api.app.state.viewers.seats.taken))


ALLOWED = {"10.0.0.7", "2001:db8::1"}


@given(st.lists(st.sampled_from([*ALLOWED, "169.254.169.254", "224.0.0.1", "0a1b.local", "x y"]), max_size=40))
def test_only_allowed_addresses_are_sent_to_and_few(hosts: list[str]) -> None:
    lines = [f"a=candidate:{number} 1 udp 2122 {host} 5000 typ host" for number, host in enumerate(hosts)]
    kept = vetted("\n".join(["v=0", *lines, "a=end-of-candidates", "a=mid:0"]), ALLOWED.__contains__).splitlines()
    wanted = [line for line in lines if line.split()[4] in ALLOWED][:MAX_CANDIDATES]
    assert kept == ["v=0", *wanted, "a=mid:0"]
