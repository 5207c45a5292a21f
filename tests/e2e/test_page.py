"""The page in a real browser, over the real API with ports in memory: what users see and do, view by view."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from deployments.errors import StreamError, StreamErrorCode
from deployments.streams.sinks.spec import SinkError, SinkStatus
from deployments.streams.spec import StreamState
from deployments.streams.tracking.spec import ZoneStatus
from deployments.streams.zone_marks import ZoneMark, outline_of
from tests.support.api_ports import merged
from tests.support.browser import chromium, watched_page
from tests.support.page_site import PageSite, page_site
from tests.support.waiting import until

expect.set_options(timeout=20_000)

STREAMS = 16
CONNECTIONS = 6
"""That a browser opens to one server."""

LINE = {"name": "door", "kind": "line", "points": [[0.6, 0.8], [0.6, 0.2]]}
YARD = {"name": "yard", "kind": "polygon", "points": [[0.1, 0.3], [0.4, 0.3], [0.4, 0.8], [0.1, 0.8]]}
VIEWS = (
    "#/",
    "#/add",
    "#/models",
    "#/streams/gate-0",
    "#/streams/gate-0/edit",
    "#/streams/gate-0/zones",
    "#/streams/away",
)

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}

WATCH = """() => new Promise((resolve) => {
  const frames = [], tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask" });
  const began = performance.now();
  let before = began;
  function frame(now) {
    frames.push(now - before);
    before = now;
    if (now - began < 4000) requestAnimationFrame(frame);
    else resolve({ frames: frames.slice(1), tasks });
  }
  requestAnimationFrame(frame);
})"""
"""Milliseconds from one drawn frame to the next, and those of tasks above 50 ms, over four seconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served() -> Iterator[PageSite]:
    with page_site() as site:
        yield site


@pytest.fixture
def site(served: PageSite) -> PageSite:
    served.clear()
    for number in range(STREAMS):
        served.add(f"gate-{number}", **({"track": {}, "zones": [LINE, YARD]} if number == 0 else {}))
    return served


@pytest.fixture
def page(browser: Browser, site: PageSite) -> Iterator[Page]:
    with watched_page(browser, site.url, viewport={"width": 1400, "height": 1000}) as page:
        yield page


def pictured(page: Page, name: str) -> None:
    """Keep a picture for people, where they ask for it."""
    if folder := os.environ.get("RAYSIGHT_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def spec_of(site: PageSite, stream_id: str) -> dict[str, Any]:
    return site.streams.streams[stream_id].view.spec.model_dump(mode="json")


# ---- the wall -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_wall_of_sixteen_is_smooth_and_leaves_connections_free(page: Page, site: PageSite) -> None:
    page.set_viewport_size({"width": 1400, "height": 1400})
    page.goto(site.url)
    expect(page.locator(".tile canvas:visible")).to_have_count(STREAMS)
    site.load.reset()
    seen = page.evaluate(WATCH)
    asked = [path for path in site.load.paths if path.endswith("snapshot.jpg")]
    assert not [path for path in site.load.paths if path.endswith(("live.mjpeg", "detections"))]
    assert site.load.most <= CONNECTIONS
    each = [asked.count(f"/v1/streams/gate-{number}/snapshot.jpg") for number in range(STREAMS)]
    assert min(each) >= 2  # in four seconds: all tiles are live, none starves
    assert max(each) - min(each) <= 2
    assert len(asked) <= 4 * 25 + 4  # and the server is asked at a bounded rate
    assert median(seen["frames"]) < 25
    # What the page itself does between two frames; another program on this machine can delay single ones.
    assert sum(duration for duration in seen["tasks"]) < 400
    pictured(page, "wall")


def test_only_tiles_in_sight_get_pictures(page: Page, site: PageSite) -> None:
    page.set_viewport_size({"width": 400, "height": 500})
    page.goto(site.url)
    expect(page.locator(".tile canvas:visible").first).to_be_visible()
    site.load.reset()
    until(lambda: len(site.load.paths) > 12)
    asked = {path for path in site.load.paths if path.endswith("snapshot.jpg")}
    assert 1 <= len(asked) <= 4


def test_quotas_slow_the_wall_down(page: Page, site: PageSite) -> None:
    refused: list[float] = []

    def refuse(route: Route) -> None:
        refused.append(time.monotonic())
        problem = {"detail": "Too many requests.", "code": "quota_exceeded"}
        route.fulfill(status=429, json=problem, content_type="application/problem+json")

    page.route("**/snapshot.jpg?*", refuse)
    page.goto(site.url)
    page.wait_for_timeout(5000)
    assert len([at for at in refused if at > refused[0] + 2.5]) <= 4
    page.unroute("**/snapshot.jpg?*")
    expect(page.locator(".tile canvas:visible").first).to_be_visible()


def test_who_can_not_be_logged_out_is_told(page: Page, site: PageSite) -> None:
    page.context.add_cookies([{"name": "raysight_csrf", "value": "token", "url": site.url}])
    problem = {"detail": "The store can't be used: try again.", "code": "store_unavailable"}
    page.route("**/v1/logout", lambda route: route.fulfill(status=503, json=problem))
    page.goto(site.url)
    page.get_by_role("button", name="Log out").click()
    notice = page.locator("#notice")
    expect(notice).to_have_text("You are still logged in. The store can't be used: try again.")
    page.unroute("**/v1/logout")
    with page.expect_navigation():
        page.get_by_role("button", name="Log out").click()
    expect(page.locator(".tile")).to_have_count(STREAMS)
    expect(notice).to_be_hidden()


def test_the_wall_tells_states_as_they_change(page: Page, site: PageSite) -> None:
    page.goto(site.url)
    expect(page.locator(".tile")).to_have_count(STREAMS)
    site.breaks("gate-3", "rtsp://10.0.0.7: Nothing listens at this address: check host and port.")
    tile = page.locator(".tile[data-id=gate-3]")
    expect(tile.get_by_text("Nothing listens at this address")).to_be_visible()
    expect(page.locator("#announce")).to_have_text("gate-3: Reconnecting")
    expect(page.locator("#count")).to_have_text("15 online, 1 reconnecting")
    site.run(site.streams.delete("gate-4", None))
    expect(page.locator(".tile")).to_have_count(STREAMS - 1)
    expect(page.locator(".tile[data-id=gate-0]")).to_contain_text("door: 0 to the right, 0 to the left")


# ---- one stream ---------------------------------------------------------------------------------------------------


def test_one_stream(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/gate-0")
    expect(page.get_by_role("img", name="Live video of gate-0")).to_be_visible()
    expect(page.locator(".view img")).to_have_js_property("naturalWidth", 640)
    latencies = page.get_by_role("region", name="Latency by stage")
    for stage in ("Decoded to detections", "Decode", "Infer"):
        expect(latencies.get_by_role("rowheader", name=stage, exact=True)).to_be_visible()
    until(lambda: page.locator("polyline.s0").evaluate("line => line.points.numberOfItems") > 2)
    expect(page.get_by_role("region", name="Dropped frames")).to_contain_text("A newer frame took its place")
    expect(page.locator(".seen")).to_have_text("1 person")
    site.happens(
        "gate-0", event="cross", zone="door", tracker_id=5_000_000_007, label="person", direction="left_to_right"
    )
    expect(page.get_by_role("log")).to_contain_text("person #7 crossed door to the right")
    counted = ZoneStatus(name="door", kind="line", since=0, crossed={"left_to_right": {"person": 3}})
    site.change("gate-0", zones=(counted,))
    expect(page.locator("[data-zone=door]")).to_contain_text("3 person")
    assert site.load.most <= CONNECTIONS
    error = SinkError(message="No broker listens.", at=1.0)
    site.change("gate-0", sinks=(SinkStatus(kind="mqtt", url="mqtt://broker", state="retrying", last_error=error),))
    expect(page.get_by_text("mqtt://broker: retrying (No broker listens.)")).to_be_visible()
    site.change("gate-0", reason="No detector answers.")  # while its video goes on
    expect(page.locator(".message.bad", has_text="No detector answers.")).to_be_visible()
    site.breaks("gate-0", "rtsp://10.0.0.7: Nothing listens at this address: check host and port.")
    expect(page.get_by_role("list", name="History")).to_contain_text("Nothing listens at this address")
    expect(page.get_by_role("list", name="History")).to_contain_text("3 times")
    expect(page.locator(".view")).to_contain_text("Nothing listens at this address")
    expect(page.locator("#announce")).to_have_text("gate-0: Reconnecting")
    pictured(page, "stream")


def test_a_view_that_is_left_holds_no_connection(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/gate-0")
    expect(page.locator(".seen")).to_have_text("1 person")
    expect(page.locator(".view img")).to_have_js_property("naturalWidth", 640)
    assert site.load.open >= 2
    page.get_by_role("link", name="Models").click()
    until(lambda: site.load.open == 0)


def test_pausing_and_deleting_by_keyboard(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/gate-1")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator(".badge")).to_have_text("Paused")
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    assert spec_of(site, "gate-1")["paused"] is True
    page.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator(".badge")).to_have_text("Online")
    page.get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert "gate-1" in site.streams.streams
    page.get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("heading", name="Streams")).to_be_focused()
    assert "gate-1" not in site.streams.streams


def test_a_stream_that_somebody_deletes_is_shown_as_gone(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/gate-1")
    expect(page.locator(".badge")).to_have_text("Online")
    site.run(site.streams.delete("gate-1", None))
    expect(page.locator(".badge")).to_be_hidden()
    expect(page.locator(".message.bad", has_text="There is no such stream")).to_be_visible()
    expect(page.locator(".view .veil")).to_have_text("")


@pytest.mark.parametrize("view", ["", "streams/gate-1"])
def test_nothing_is_called_online_while_the_server_is_away(page: Page, site: PageSite, view: str) -> None:
    page.goto(f"{site.url}/#/{view}")
    badge = page.locator(".badge").first
    expect(badge).to_have_text("Online")
    page.context.set_offline(True)
    expect(badge).to_have_text("Not known", timeout=15_000)
    expect(page.locator(".message.bad").first).to_contain_text("The server does not answer")
    page.context.set_offline(False)
    expect(badge).to_have_text("Online", timeout=15_000)


def test_a_stream_that_there_is_not(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/nobody")
    expect(page.get_by_text("There is no such stream")).to_be_visible()


# ---- adding and editing -------------------------------------------------------------------------------------------


def test_adding_looks_at_the_source_first(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/add")
    page.get_by_role("button", name="Add stream").click()
    expect(page.get_by_text("Give the address of a camera or file.")).to_be_visible()
    expect(page.get_by_label("Address")).to_be_focused()
    page.get_by_label("Name").fill("Front door")
    page.get_by_label("Address").fill("rtsp://10.0.0.9/ch1")
    page.get_by_label("User").fill("viewer")
    page.get_by_label("Password").fill("s3cr3t-Pa55")
    site.media.error = StreamError(StreamErrorCode.AUTH_FAILED, "rtsp://10.0.0.9: The camera wants another password.")
    page.get_by_role("button", name="Add stream").click()
    expect(page.locator("#found")).to_contain_text("The camera wants another password")
    expect(page.get_by_role("button", name="Add anyway")).to_be_visible()
    assert len(site.streams.streams) == STREAMS
    site.media.error = None
    page.get_by_role("button", name="Check the source").click()
    expect(page.locator("#found")).to_have_text(
        re.compile("Found h264, 1280 . 720, 25 fps. Room for 12 more at 25 fps.")
    )
    page.get_by_role("button", name="Add stream").click()
    expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("front-door")
    page.get_by_role("button", name="Add stream").click()
    expect(page.get_by_role("heading", name="front-door")).to_be_focused()
    spec = site.streams.streams["front-door"].view.spec
    assert spec.source.credentials is not None
    assert spec.source.credentials.password is not None
    assert spec.source.credentials.password.get_secret_value() == "s3cr3t-Pa55"
    assert len(site.media.probed) == 2  # what was found once is not looked at again


def test_adding_a_source_that_is_away(page: Page, site: PageSite) -> None:
    site.media.error = StreamError(StreamErrorCode.CONNECTION_REFUSED, "rtsp://10.0.0.9: Nothing listens there.")
    page.goto(f"{site.url}/#/add")
    page.get_by_label("Name").fill("later")
    page.get_by_label("Address").fill("rtsp://10.0.0.9/ch1")
    page.get_by_label("Address").press("Enter")
    page.get_by_role("button", name="Add anyway").click()
    expect(page.get_by_role("heading", name="later")).to_be_visible()


def test_editing_changes_what_was_changed(page: Page, site: PageSite) -> None:
    outputs, sinks = [{"url": "file:a.mp4", "gop_s": 4.0}], [{"url": "https://hooks.example/a", "classes": ["person"]}]
    site.add("cam", labels={"site": "north", "floor": "1"}, outputs=outputs, sinks=sinks, priority=3)
    before = spec_of(site, "cam")
    page.goto(f"{site.url}/#/streams/cam/edit")
    page.get_by_label("Least confidence").fill("0.5")
    page.get_by_label("Classes").fill("person, car")
    page.get_by_label("Outputs").fill("file:a.mp4\nfile:b.mp4")
    expect(page.get_by_label("Sinks")).to_have_value("https://hooks.example/a")
    page.get_by_label("Sinks").fill("smtp://hooks.example\nhttps://hooks.example/a")
    page.get_by_label("Labels").fill("site=south")
    pictured(page, "edit")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Sinks")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Sinks")).to_be_focused()
    page.get_by_label("Sinks").fill("file:{stream_id}.jsonl\nhttps://hooks.example/a")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="cam")).to_be_focused()
    after = spec_of(site, "cam")
    assert after["detect"] == {**before["detect"], "confidence": 0.5, "classes": ["person", "car"]}
    assert [(output["url"], output["gop_s"]) for output in after["outputs"]] == [
        ("file:a.mp4", 4.0),
        ("file:b.mp4", 2.0),
    ]
    assert [(sink["url"], sink["classes"]) for sink in after["sinks"]] == [
        ("file:{stream_id}.jsonl", None),
        ("https://hooks.example/a", ["person"]),
    ]
    assert after["labels"] == {"site": "south"}
    assert {name: after[name] for name in ("source", "track", "priority")} == {
        name: before[name] for name in ("source", "track", "priority")
    }
    assert site.media.probed == []  # nothing of the source changed


def test_what_is_no_number_is_not_saved_as_none(page: Page, site: PageSite) -> None:
    site.add("cam", detect={"confidence": 0.5}, track={}, zones=[YARD])
    before = spec_of(site, "cam")
    drawing_of(page, site, "cam")
    page.get_by_label("Tell who stays").press_sequentially("2e")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("mend what is marked")
    expect(page.get_by_label("Tell who stays")).to_have_accessible_description(re.compile("This is no number"))
    page.goto(f"{site.url}/#/streams/cam/edit")
    page.get_by_label("Least confidence").clear()
    page.get_by_label("Least confidence").press_sequentially("1e")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Least confidence")).to_be_focused()
    expect(page.get_by_label("Least confidence")).to_have_accessible_description(re.compile("This is no number"))
    assert spec_of(site, "cam") == before


def test_editing_what_somebody_else_has_changed(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/streams/gate-2/edit")
    page.get_by_label("Priority").fill("7")
    site.run(site.streams.patch("gate-2", {"priority": 1}, None))
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#form-message")).to_contain_text("Somebody else has changed the stream")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Stay").click()
    expect(page.get_by_label("Priority")).to_have_value("7")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="gate-2")).to_be_visible()


# ---- zones --------------------------------------------------------------------------------------------------------


def drawing_of(page: Page, site: PageSite, stream_id: str) -> Locator:
    page.goto(f"{site.url}/#/streams/{stream_id}/zones")
    expect(page.locator(".zone-stage img")).to_have_js_property("naturalWidth", 640)
    return page.locator(".zone-layer")


def at(layer: Locator, x: float, y: float) -> tuple[float, float]:
    box = layer.bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def close_to(points: list[list[float]], wanted: list[list[float]]) -> bool:
    """Whether points are those wanted, to within half a hundredth of the picture."""
    return len(points) == len(wanted) and bool(np.abs(np.array(points) - np.array(wanted)).max() < 0.005)


def test_zones_are_drawn_with_the_mouse(page: Page, site: PageSite) -> None:
    layer = drawing_of(page, site, "gate-5")
    mouse = page.mouse
    page.get_by_role("button", name="Draw a line").click()
    mouse.move(*at(layer, 0.72, 0.42))
    mouse.down()
    mouse.move(*at(layer, 0.72, 0.6), steps=3)
    mouse.move(*at(layer, 0.72, 0.72), steps=3)
    mouse.up()
    page.get_by_role("button", name="Draw an area").click()
    corners = [[0.1, 0.2], [0.4, 0.2], [0.4, 0.7], [0.1, 0.7]]
    for corner in [*corners, corners[0]]:
        mouse.click(*at(layer, *corner))
    expect(page.locator(".zone-list > li")).to_have_count(2)
    pictured(page, "zones")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    spec = spec_of(site, "gate-5")
    assert spec["track"] is not None  # which zones need
    line, area = spec["zones"]
    assert (line["name"], line["kind"], area["name"], area["kind"]) == ("line", "line", "area", "polygon")
    assert close_to(line["points"], [[0.72, 0.42], [0.72, 0.72]])
    assert close_to(area["points"], corners)


def test_zones_are_changed(page: Page, site: PageSite) -> None:
    layer = drawing_of(page, site, "gate-0")
    mouse = page.mouse

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse.move(*at(layer, *start))
        mouse.down()
        mouse.move(*at(layer, *end), steps=4)
        mouse.up()

    drag((0.6, 0.2), (0.7, 0.1))  # a point
    drag((0.25, 0.5), (0.35, 0.6))  # a whole area
    drag((0.5, 0.65), (0.55, 0.65))  # the middle of its right edge, which becomes a point
    yard = page.locator(".zone-list [data-zone=yard]")
    yard.get_by_label("Name").fill("court")
    yard.get_by_label("Tell who stays longer").fill("5")
    door = page.locator(".zone-list [data-zone=door]")
    expect(door).to_contain_text("towards the right side of the picture")
    door.get_by_role("button", name="Turn around").click()
    expect(door).to_contain_text("towards the left side of the picture")
    door.get_by_label("Classes").fill("person, fox")
    expect(door).to_contain_text("does not report “fox”")
    door.get_by_label("Classes").fill("person")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    line, area = spec_of(site, "gate-0")["zones"]
    assert close_to(line["points"], [[0.7, 0.1], [0.6, 0.8]])
    assert line["classes"] == ["person"]
    assert close_to(area["points"], [[0.2, 0.4], [0.5, 0.4], [0.55, 0.65], [0.5, 0.9], [0.2, 0.9]])
    assert (area["name"], area["dwell_s"]) == ("court", 5)
    door.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    assert [zone["name"] for zone in spec_of(site, "gate-0")["zones"]] == ["court"]


def test_zones_by_keyboard(page: Page, site: PageSite) -> None:
    drawing_of(page, site, "gate-6")
    page.get_by_role("button", name="Draw a line").press("Enter")
    expect(page.get_by_role("button", name=re.compile("line, point 1 of 2: 50 % from the left"))).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Draw an area").press("Enter")
    page.keyboard.press("Delete")  # its first corner
    page.get_by_role("button", name="Add a point").press("Enter")
    page.keyboard.press("ArrowDown")
    page.locator(".zone-list [data-zone=line] summary").press("Enter")
    expect(page.get_by_label("Point 1, % from the left").first).to_have_value("51.9")
    page.get_by_label("Point 2, % from the top").first.fill("12.5")
    page.get_by_role("button", name="Save zones").press("Enter")
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    line, area = spec_of(site, "gate-6")["zones"]
    assert close_to(line["points"], [[0.519, 0.74], [0.5, 0.125]])
    assert len(area["points"]) == 4


def test_what_is_wrong_with_a_zone_is_said_beside_it(page: Page, site: PageSite) -> None:
    layer = drawing_of(page, site, "gate-7")
    page.get_by_role("button", name="Draw an area").click()
    for corner in ((0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8)):
        page.mouse.click(*at(layer, *corner))
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator(".zone-list [data-zone=area]")).to_contain_text("the polygon crosses or touches itself")
    expect(page.locator("#zones-message")).to_contain_text("Not saved")
    page.get_by_role("link", name="Back to the stream").click()
    expect(page.get_by_role("dialog")).to_contain_text("Leave without saving")
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="gate-7")).to_be_focused()


def test_zones_that_somebody_else_has_changed(page: Page, site: PageSite) -> None:
    drawing_of(page, site, "gate-0")
    page.get_by_role("button", name="Turn around").click()
    site.run(site.streams.patch("gate-0", {"priority": 5}, None))  # which is no matter of zones
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Saved")
    site.run(site.streams.patch("gate-0", {"zones": [YARD]}, None))
    page.get_by_role("button", name="Turn around").click()
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#zones-message")).to_contain_text("Somebody else has changed the zones")
    assert [zone["name"] for zone in spec_of(site, "gate-0")["zones"]] == ["yard"]


def test_why_there_is_no_picture_to_draw_on_is_said(page: Page, site: PageSite) -> None:
    site.add("still")
    site.change("still", state=StreamState.PAUSED, online=False)
    site.streams.streams["still"].picture = None
    page.goto(f"{site.url}/#/streams/still/zones")
    expect(page.locator(".zone-stage .veil")).to_have_text("Waiting for a picture of the stream: Paused")


def test_drawing_is_given_up(page: Page, site: PageSite) -> None:
    layer = drawing_of(page, site, "gate-8")
    page.get_by_role("button", name="Draw an area").click()
    page.mouse.click(*at(layer, 0.2, 0.2))
    page.keyboard.press("Escape")
    page.mouse.click(*at(layer, 0.5, 0.5))
    expect(page.locator(".zone-list")).to_have_text("None yet.")
    expect(page.locator(".zone-layer *")).to_have_count(0)


# ---- models and capacity ------------------------------------------------------------------------------------------


def test_models_and_capacity(page: Page, site: PageSite) -> None:
    page.goto(f"{site.url}/#/models")
    expect(page.locator("#capacity")).to_have_text("room for 12 more at 25 fps")
    expect(page.locator(".big")).to_have_text("Room for 12 more at 25 fps")
    page.get_by_label("Frames a second of each stream").fill("50")
    expect(page.locator(".big")).to_have_text("Room for 6 more at 50 fps")
    expect(page.get_by_role("region", name="Models")).to_contain_text("/models/nanodet-g")
    page.get_by_label("Folder of the package").fill("street-2")
    page.get_by_role("button", name="Swap").click()
    expect(page.get_by_role("region", name="Models")).to_contain_text("/models/street-2")
    site.detector.available = False
    expect(page.locator("#notice")).to_contain_text("No detector answered")


# ---- what is worked out -------------------------------------------------------------------------------------------


def test_patches_make_what_the_form_holds(page: Page, site: PageSite) -> None:
    """Of any two documents the patch of the page's making, merged as RFC 7396 has it, gives the second."""
    random = Random(7)
    pairs = [(document(random), document(random)) for _ in range(200)]
    page.goto(site.url)
    patches = page.evaluate(
        "async (pairs) => { const { wholePatchOf } = await import('/web/spec.js');"
        " return pairs.map(([before, after]) => wholePatchOf(before, after)); }",
        pairs,
    )
    for (before, after), patch in zip(pairs, patches, strict=True):
        assert merged(before, patch) == after
        assert set(patch) <= {name for name in {*before, *after} if before.get(name) != after.get(name)}


def document(random: Random) -> dict[str, Any]:
    return {name: random.choice(["x", 1, [1, 2], ["x"], False]) for name in "abcde" if random.random() < 0.6}


def test_the_arrow_points_to_the_side_that_the_server_draws_it_on(page: Page, site: PageSite) -> None:
    page.goto(site.url)
    width, height, middle = 640, 360, (0.5, 0.5)
    for turn in range(7):
        end = (0.5 + 0.3 * math.cos(turn), 0.5 + 0.3 * math.sin(turn))
        first, second = ((x * width, y * height) for x, y in (middle, end))
        start, tip = page.evaluate("async (line) => (await import('/web/shapes.js')).arrow(line, 12)", [first, second])
        rows, columns = outline_of(ZoneMark("line", (middle, end), ""), width, height, 1)
        # Of the outline, what is farthest off the line is the server's arrow.
        drawn = max((aside(first, second, place) for place in zip(columns, rows, strict=True)), key=abs)
        shown = aside(first, second, tip)
        assert abs(shown) > abs(aside(first, second, start))
        assert math.copysign(1, shown) == math.copysign(1, drawn)


def aside(first: tuple[float, float], second: tuple[float, float], place: Sequence[float]) -> float:
    """On which side of a line a place is, and how far, times the line's length."""
    return (second[0] - first[0]) * (place[1] - first[1]) - (second[1] - first[1]) * (place[0] - first[0])


# ---- for everybody ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "rules"), [("light", RULES), ("dark", CONTRAST)])
def test_nothing_bars_anybody(browser: Browser, site: PageSite, scheme: Any, rules: dict[str, Any]) -> None:
    """WCAG 2.2 AA, as far as a program can tell: contrast, names, roles, order of headings."""
    site.add("away")
    site.breaks("away", "rtsp://10.0.0.7: Nothing listens at this address: check host and port.")
    window = {"width": 1200, "height": 900}
    with watched_page(browser, site.url, viewport=window, color_scheme=scheme, reduced_motion="reduce") as page:
        for view in VIEWS:
            page.goto(f"{site.url}/{view}")
            shown(page, view)
            found = Axe().run(page, options=rules)
            assert found.violations_count == 0, f"{view}: {found.generate_report()}"
            pictured(page, f"{scheme}-{re.sub('[^a-z0-9]+', '-', view)}")
        page.evaluate("document.documentElement.style.setProperty('--soft', 'var(--line)')")
        assert Axe().run(page, options=CONTRAST).violations_count == 1  # which shows that it looks
        page.goto(f"{site.url}/login")
        assert Axe().run(page, options=rules).violations_count == 0


def shown(page: Page, view: str) -> None:
    """Wait until a view has what it shows."""
    page.locator("h1").wait_for()
    if view.endswith("zones"):
        page.locator(".zone-list [data-zone]").first.wait_for()
    elif view.endswith(("edit", "add")):
        page.locator("form.panel").wait_for()
    elif view == "#/":
        page.locator(".tile canvas:visible").first.wait_for()
    elif view == "#/models":
        page.locator("tbody tr").first.wait_for()
    else:
        page.locator(".badge:not(:empty)").wait_for()


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser, site: PageSite) -> None:
    site.add("away")
    site.breaks("away", "rtsp://10.0.0.7: Nothing listens at this address: check host and port.")
    phone = {"width": 360, "height": 740}
    with watched_page(browser, site.url, viewport=phone, has_touch=True, is_mobile=True) as page:
        for view in VIEWS:
            page.goto(f"{site.url}/{view}")
            shown(page, view)
            assert page.evaluate("document.documentElement.scrollWidth") == 360, view
            pictured(page, f"phone-{re.sub('[^a-z0-9]+', '-', view)}")
        layer = drawing_of(page, site, "gate-9")
        page.get_by_role("button", name="Draw a line").tap()
        for end in ((0.3, 0.3), (0.3, 0.8)):
            page.touchscreen.tap(*at(layer, *end))
        page.get_by_role("button", name="Save zones").tap()
        expect(page.locator("#zones-message")).to_contain_text("Saved")
    assert close_to(spec_of(site, "gate-9")["zones"][0]["points"], [[0.3, 0.3], [0.3, 0.8]])


def test_the_keyboard_reaches_the_content_and_the_focus_follows_views(page: Page, site: PageSite) -> None:
    page.goto(site.url)
    expect(page.locator(".tile")).to_have_count(STREAMS)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Add a stream")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="gate-0", level=1)).to_be_focused()
    assert page.title() == "gate-0 · raysight"
    page.go_back()
    expect(page.get_by_role("heading", name="Streams", level=1)).to_be_focused()
