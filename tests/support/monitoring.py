"""What k8s/monitoring says, as Prometheus takes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
DASHBOARD = MONITORING / "raysight-dashboard.json"


def rules() -> dict[str, Any]:
    """The content of a rule file: what the operator writes for Prometheus."""
    manifest: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus-rules.yaml").read_text())
    spec: dict[str, Any] = manifest["spec"]
    return spec


def alerts() -> list[dict[str, Any]]:
    """All alerting rules."""
    return [rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule]


def recorded() -> dict[str, str]:
    """Expressions of the recording rules by name."""
    return {rule["record"]: rule["expr"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something, in its order; rows are only headings."""
    content = json.loads(DASHBOARD.read_text())
    return [panel for panel in content["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str, bool]]:
    """Title, expression and whether it asks for one moment only, of each query of the dashboard."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$stream", ".+")
            yield panel["title"], expression, target.get("instant", False)
