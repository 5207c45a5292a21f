"""Each alert fires when it should, and not when it shouldn't, by Prometheus's own tool."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.support.monitoring import alerts, rules

CASES = Path(__file__).with_name("alerts.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the rules lie as Prometheus reads them."""
    if shutil.which("promtool") is None:
        pytest.fail("promtool is missing: install Debian's package prometheus, as `make test` does")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    return tmp_path


def promtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules(folder: Path) -> None:
    done = promtool(folder, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_only_then(folder: Path) -> None:
    (folder / "alerts.yaml").write_text(CASES.read_text())
    done = promtool(folder, "test", "rules", "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_is_noticed(folder: Path) -> None:
    text = (folder / "rules.yaml").read_text()
    (folder / "rules.yaml").write_text(
        text.replace("ray_raysight_stream_online) == 0", "ray_raysight_stream_online) == 1")
    )
    (folder / "alerts.yaml").write_text(CASES.read_text())
    done = promtool(folder, "test", "rules", "alerts.yaml")
    assert done.returncode != 0
    assert "RaysightStreamDown" in done.stdout + done.stderr


def test_each_alert_has_a_case_of_both_kinds() -> None:
    kinds: defaultdict[str, set[bool]] = defaultdict(set)
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            kinds[case["alertname"]].add(bool(case["exp_alerts"]))
    assert kinds == {alert["alert"]: {True, False} for alert in alerts()}
