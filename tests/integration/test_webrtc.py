"""Playback by WebRTC in a real browser, over the API, on loopback and without Ray."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from playwright.sync_api import Page

from benchmarks.glass import PLAYER
from deployments.errors import StreamError
from deployments.streams.media.items import VideoItem
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.media.passthrough import Passthrough
from deployments.streams.media.source import open_source
from deployments.streams.media.timeline import Timeline
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import SourceSpec, StreamSpec, VideoCounts
from deployments.streams.webrtc import viewers
from deployments.streams.webrtc.copies import Copies
from deployments.streams.webrtc.settings import PlaybackSettings
from tests.support.browser import browsing
from tests.support.media import make_clip
from tests.support.theatre import Theatre, theatre
from tests.support.waiting import until

PATH = "/v1/streams/gate/whep"
SPEC = StreamSpec.model_validate({"id": "gate", "source": {"url": "testsrc://?fps=25&size=320x240"}})


def counts(streams: Theatre) -> VideoCounts:
    return streams.runner.status().video


def enter(page: Page, address: str) -> None:
    page.goto(f"{address}/healthz")
    page.evaluate(PLAYER)


def play(page: Page, name: str) -> None:
    page.evaluate(f"play('{PATH}').then(found => {{ window.{name} = found; }})")


def decoded(page: Page, name: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(f"decoded({name})")
    return found


def test_two_viewers_see_one_encoding_which_ends_with_the_last_of_them(tmp_path: Path) -> None:
    settings = PlaybackSettings(viewers_per_stream=2)
    with theatre(SPEC, tmp_path, settings) as (streams, address), browsing() as page:
        until(lambda: streams.runner.status().frames.published > 10)
        assert counts(streams) == VideoCounts()
        enter(page, address)
        play(page, "one")
        until(lambda: decoded(page, "one")["frames"] > 10)
        play(page, "two")
        until(lambda: decoded(page, "two")["frames"] > 10)
        assert page.evaluate("[two.video.videoWidth, two.video.videoHeight].join('x')") == "320x240"
        before, published = counts(streams), streams.runner.status().frames.published
        until(lambda: decoded(page, "one")["frames"] > 40)
        frames = streams.runner.status().frames.published - published
        assert counts(streams).encoded - before.encoded <= frames + 2
        third = page.evaluate(f"play('{PATH}').catch(error => error.message)")
        assert json.loads(third)["code"] == "too_many_viewers"
        gone = page.evaluate("fetch(one.location, {method: 'DELETE'}).then(answer => answer.status)")
        assert gone == 204
        assert streams.viewers.count == 1
        page.evaluate("two.pc.close()")
        until(lambda: streams.viewers.count == 0)
        after = counts(streams)
        seen = streams.runner.status().frames.published
        until(lambda: streams.runner.status().frames.published > seen + 20)
        assert counts(streams).encoded <= after.encoded + 1


def test_an_offer_that_cannot_be_answered_is_refused_in_words(tmp_path: Path) -> None:
    with theatre(SPEC, tmp_path, PlaybackSettings()) as (streams, address), httpx.Client(base_url=address) as client:
        sdp = {"Content-Type": "application/sdp"}
        for offer in ("", "v=0\r\n", "nonsense", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n"):
            answer = client.post(PATH, content=offer, headers=sdp)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
        assert client.post(PATH, content="v=0", headers={"Content-Type": "text/plain"}).status_code == 415
        assert client.patch(f"{PATH}/x", content="").status_code == 405
        assert streams.viewers.count == 0


def packets_of(clip: Path) -> Iterator[EncodedPacket]:
    """As outputs get them that are copies."""
    passthrough = Passthrough()
    policy = UrlPolicy(media_root=clip.parent, output_root=clip.parent)
    source = SourceSpec(url=f"file:{clip.name}", realtime=False)
    with suppress(StreamError), open_source(source, policy, Timeline()) as opened:  # the end of the file is one
        for item in opened.items():
            if isinstance(item, VideoItem):
                yield from passthrough.packets(item.packets)


def test_a_copy_is_the_source_s_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=50)
    copies = Copies()
    sent = [copies.of(packet) for packet in packets_of(clip)]
    assert [packet.pts for packet in sent] == [number * 3600 for number in range(50)]
    with (
        av.open(io.BytesIO(b"".join(packet.data for packet in sent)), format="h264") as received,
        av.open(clip) as whole,
    ):
        shown = zip(received.decode(video=0), whole.decode(video=0), strict=True)
        assert all(np.array_equal(copy.to_ndarray(), frame.to_ndarray()) for copy, frame in shown)


@pytest.mark.parametrize(("codec", "options"), [("h264", {"preset": "veryfast", "bf": "2", "g": "12"}), ("hevc", None)])
def test_what_webrtc_can_not_carry_is_no_copy(tmp_path: Path, codec: str, options: dict[str, str] | None) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", codec=codec, options=options))
    with pytest.raises(ValueError):  # noqa: PT011
        list(map(Copies().of, packets))


@pytest.mark.parametrize("limit", ["CONNECT_S", "UNATTENDED_S"])
def test_a_viewer_that_never_comes_or_is_not_attended_to_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async def offer() -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTransceiver("video", "recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        sdp = str(connection.localDescription.sdp)
        await connection.close()
        return sdp

    monkeypatch.setattr(viewers, limit, 0.5)
    monkeypatch.setattr(viewers, "LOOK_S", 0.1)
    with theatre(SPEC, tmp_path, PlaybackSettings()) as (streams, address):
        answer = httpx.post(
            f"{address}{PATH}", content=asyncio.run(offer()), headers={"Content-Type": "application/sdp"}, timeout=20
        )
        assert answer.status_code == 201
        assert "H264/90000" in answer.text
        assert "VP8" not in answer.text
        until(lambda: streams.viewers.count == 0)
        assert counts(streams) == VideoCounts()  # nothing was encoded for who was not connected
