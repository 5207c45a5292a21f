"""A real Prometheus watches a running system: every query of the dashboard and every alert works on what it finds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.local import free_port
from tests.support.browser import browsing
from tests.support.cluster import Raysight, run_raysight, wait_until
from tests.support.grafana import PAGE, grafana
from tests.support.monitoring import DASHBOARD, alerts, panels, queries
from tests.support.otlp import Collector, collecting
from tests.support.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DETECTOR = {"engine": "fake", "fake": {"width": 320, "height": 320, "fixed_ms": 15.0}}

PATIENCE_S = 180.0
"""Ray exports what it counts every 10 s, and a rate takes two of them; the machine may be busy."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where traces go."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def prometheus_port() -> int:
    """Where Prometheus is going to be: Ray's dashboard wants to know when it starts, Prometheus what to scrape."""
    return free_port()


@pytest.fixture(scope="module")
def raysight(
    tmp_path_factory: pytest.TempPathFactory, street_clip: Path, collector: Collector, prometheus_port: int
) -> Iterator[Raysight]:
    """A system with a stream that is well and has an output, a pattern, and one whose camera is not there."""
    prometheus_url = f"http://127.0.0.1:{prometheus_port}"
    with grafana(prometheus_url) as grafana_url:
        variables = {
            "RAY_LOGGING_CONFIG_ENCODING": "JSON",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "RAY_GRAFANA_HOST": grafana_url,
            "RAY_PROMETHEUS_HOST": prometheus_url,
        }
        yield from _with(variables, tmp_path_factory.mktemp("raysight"), street_clip)


def _with(variables: dict[str, str], folder: Path, clip: Path) -> Iterator[Raysight]:
    api_args = {"streams": {"trace_one_in": 5}}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield from _watched(run_raysight(folder, clip, DETECTOR, api_args=api_args))


def _watched(systems: Iterator[Raysight]) -> Iterator[Raysight]:
    for system in systems:
        system.put(
            "street",
            {
                "source": {"url": "file:street.mp4", "loop": True},
                "outputs": [{"url": "file:street.mp4"}],
                "detect": {"max_fps": 5},
            },
        )
        system.put("pattern", {"source": {"url": "testsrc://?fps=10&size=320x240"}, "detect": {"max_fps": 2}})
        system.put("away", {"source": {"url": f"rtsp://127.0.0.1:{free_port()}/gone"}})
        system.wait("street", lambda status: status["frames"]["inferred"] > 0)
        yield system


@pytest.fixture(scope="module")
def watching(
    raysight: Raysight, tmp_path_factory: pytest.TempPathFactory, prometheus_port: int
) -> Iterator[Prometheus]:
    """A Prometheus that finds the system by Ray's own file."""
    discovery = raysight.cluster.logs.parent / "prom_metrics_service_discovery.json"
    with prometheus(tmp_path_factory.mktemp("prometheus"), discovery, prometheus_port) as watching:
        yield watching


def test_the_dashboard_and_the_alerts_work_on_live_data(
    raysight: Raysight, watching: Prometheus, tmp_path: Path
) -> None:
    wait_until(lambda: bool(watching.query('ray_raysight_frames_total{stream="pattern"}')), PATIENCE_S)
    actor = next(process for process in raysight.processes("ray::StreamActor") if process.is_running())
    actor.kill()  # which is counted

    # The dashboard -------------------------------------------------------------------------------------------------
    missing = dict.fromkeys(expression for _, expression, _ in queries())
    assert len(missing) > 20

    def all_have_data() -> bool:
        for expression in list(missing):
            # A part of nothing is "NaN", as long as all counters are as Ray first exported them.
            if any(math.isfinite(float(series["value"][1])) for series in watching.query(expression)):
                del missing[expression]
        return not missing

    try:
        wait_until(all_have_data, PATIENCE_S)
    finally:
        assert not missing, f"no data: {list(missing)}"

    # The alerts ----------------------------------------------------------------------------------------------------
    for alert in alerts():
        watching.query(alert["expr"])
    wait_until(lambda: all(rule["health"] == "ok" for rule in watching.rules()), PATIENCE_S)

    def streams_down() -> set[str]:
        found = {rule["name"]: rule.get("alerts", []) for rule in watching.rules()}
        assert not found["RaysightStoreUnreachable"]
        return {alert["labels"]["stream"] for alert in found["RaysightStreamDown"]}

    wait_until(lambda: "away" in streams_down(), PATIENCE_S)  # pending at first

    # And a look at it ----------------------------------------------------------------------------------------------
    with browsing(width=1600) as page:
        page.goto(PAGE.as_uri())
        empty = page.evaluate(f"draw({DASHBOARD.read_text()}, {json.dumps(watching.url)})")
        page.screenshot(path=pictures(tmp_path) / "dashboard.png", full_page=True)
    assert empty == []
    assert len(panels()) > 15


def test_rays_dashboard_shows_the_same(raysight: Raysight, watching: Prometheus, tmp_path: Path) -> None:
    online = 'ray_raysight_stream_online{stream="street"} == 1'
    wait_until(lambda: bool(watching.query(online)), PATIENCE_S)
    with browsing(width=1660, height=1100) as page:
        page.goto(f"{raysight.cluster.dashboard_url}/#/metrics")
        page.get_by_placeholder("Enter your authentication token").fill(raysight.cluster.token)
        page.keyboard.press("Enter")
        page.get_by_role("tab", name="Ray Data").click()
        shown = page.frame_locator('iframe[title="Ray Data Dashboard"]')
        shown.get_by_role("row", name="street").wait_for()
        shown.get_by_text("Memory by node").wait_for()  # the last one
        page.screenshot(path=pictures(tmp_path) / "ray-dashboard.png")


def pictures(folder: Path) -> Path:
    """Where pictures to look at go: ``RAYSIGHT_TEST_PICTURES``, else ``folder``."""
    chosen = Path(os.environ.get("RAYSIGHT_TEST_PICTURES", folder))
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def test_frames_of_real_actors_are_traced(raysight: Raysight, collector: Collector) -> None:
    wait_until(lambda: {"infer", "draw", "publish"} <= {span.name for span in collector.spans}, PATIENCE_S)
    assert {each["raysight.node"] for each in collector.resources} == {raysight.status("street")["node"]}


def test_logs_are_json_lines_that_name_their_stream(raysight: Raysight) -> None:
    node = raysight.status("street")["node"]

    def told() -> list[dict[str, Any]]:
        files = raysight.cluster.logs.glob("worker-*.err")
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"asctime"')]

    wait_until(lambda: any(line.get("error_code") == "connection_refused" for line in told()), PATIENCE_S)
    line = next(line for line in told() if line.get("error_code") == "connection_refused")
    assert (line["stream"], line["generation"], line["node"]) == ("away", 1, node)
    assert (line["state"], line["levelname"]) == ("reconnecting", "WARNING")
    assert {"online"} <= {line.get("state") for line in told() if line.get("stream") == "street"}


def test_a_stream_that_is_deleted_is_soon_no_longer_reported(raysight: Raysight, watching: Prometheus) -> None:
    online = 'ray_raysight_stream_online{stream="away"}'
    wait_until(lambda: bool(watching.query(online)), PATIENCE_S)
    assert raysight.api.delete("/v1/streams/away").status_code == 204
    wait_until(lambda: not watching.query(online), PATIENCE_S)
