"""What watches raysight fits it: alerts have runbooks, and metrics that are asked for are such as the code exports."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import DASHBOARD, MONITORING, alerts, panels, queries, recorded, rules

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
KINDS = {"Counter", "Gauge", "Histogram", "_Totals"}
FOREIGN = {"ALERTS", "ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"}
"""Prometheus's and Ray's own; that they are there, a real Prometheus shows in tests/integration/test_monitoring.py."""

_METRIC = re.compile(r"(?<![\w$\"{.])((?:ray_|raysight:|ALERTS)[\w:]*)")


def exported(source: str) -> dict[str, str]:
    """The metrics that a module makes, by the names that Prometheus sees, and their kinds."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                found[f"ray_{name.value}"] = node.func.id
    return found


def unknown(expression: str, known: dict[str, str], recordings: set[str]) -> set[str]:
    """Metrics in an expression that nobody exports or records."""
    series = set(FOREIGN) | recordings
    for name, kind in known.items():
        series |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "Histogram" else {name}
    return set(_METRIC.findall(expression)) - series


def _known() -> dict[str, str]:
    known = exported((ROOT / "deployments" / "telemetry.py").read_text())
    assert len(known) > 15
    return known


def test_rules_ask_for_metrics_that_there_are() -> None:
    known, names = _known(), set(recorded())
    for group in rules()["groups"]:
        for rule in group["rules"]:
            assert not unknown(rule["expr"], known, names), rule


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    known, names = _known(), set(recorded())
    for title, expression, _ in queries():
        assert not unknown(expression, known, names), title


def test_every_metric_is_described_in_the_readme_and_none_besides() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(ray_raysight_\w+)`", section)) == set(_known())


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    assert {alert["annotations"]["runbook_url"] for alert in alerts()} == {
        f"docs/runbooks/{alert['alert']}.md" for alert in alerts()
    }
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        assert {"summary", "description"} <= alert["annotations"].keys()
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert f"# {alert['alert']}\n" in (RUNBOOKS / f"{alert['alert']}.md").read_text()


def test_the_dashboard_answers_the_questions_in_their_order() -> None:
    content = json.loads(DASHBOARD.read_text())
    rows = [panel["title"] for panel in content["panels"] if panel["type"] == "row"]
    assert rows == ["Is anything broken?", "Which stream?", "Which stage?", "Is there room?"]
    assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])
    assert not overlapping(content["panels"])
    for panel in panels():
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]), panel["title"]


def overlapping(found: list[dict[str, Any]]) -> set[tuple[int, int]]:
    """Cells that two panels take."""
    taken: set[tuple[int, int]] = set()
    twice = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        twice |= cells & taken
        taken |= cells
    return twice


def test_the_sidecar_finds_the_dashboard() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    (made,) = kustomization["configMapGenerator"]
    assert made["options"]["labels"] == {"grafana_dashboard": "1"}
    assert made["files"] == [DASHBOARD.name]
    assert {path.name for path in MONITORING.glob("*.yaml")} == {"kustomization.yaml", *kustomization["resources"]}


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("sum(rate(ray_raysight_frame_total[5m]))", {"ray_raysight_frame_total"}),
        ("ray_raysight_streams > 1 or ray_gone", {"ray_gone"}),
        ("raysight:other:ratio5m", {"raysight:other:ratio5m"}),
        ("histogram_quantile(0.9, ray_raysight_batch_infer_milliseconds)", {"ray_raysight_batch_infer_milliseconds"}),
        ("histogram_quantile(0.9, rate(ray_raysight_batch_infer_milliseconds_bucket[1m]))", set()),
        ('count(ALERTS{alertname=~"Raysight.+"}) or max by (state) (ray_raysight_streams)', set()),
    ],
)
def test_a_metric_that_nobody_exports_is_found(expression: str, missing: set[str]) -> None:
    assert unknown(expression, _known(), set(recorded())) == missing


def test_panels_that_overlap_are_found() -> None:
    at = {"x": 0, "y": 0, "w": 4, "h": 2}
    assert overlapping([{"gridPos": at}, {"gridPos": {**at, "x": 3}}]) == {(3, 0), (3, 1)}
