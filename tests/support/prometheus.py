"""A real Prometheus on loopback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.cluster import wait_until
from tests.support.monitoring import rules

SCRAPE_S = 5
"""Also how long a scrape may take: one that takes longer makes all series vanish until the next."""


class Prometheus:
    """What it answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now; fails where it can't be evaluated."""
        return self._ask("/api/v1/query", query=expression)["result"]

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health and the alerts that are pending or fire."""
        return [rule for group in self._ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        return self._ask("/api/v1/targets")["activeTargets"]

    def _ask(self, path: str, **params: str) -> Any:
        answer = self._client.get(path, params=params)
        content = answer.json()
        assert content["status"] == "success", f"{params}: {content}"
        return content["data"]


@contextmanager
def prometheus(folder: Path, discovery: Path, port: int) -> Iterator[Prometheus]:
    """One that scrapes what the file ``discovery`` lists, with the rules of k8s/monitoring; ends with the block."""
    program = shutil.which("prometheus")
    assert program is not None, "install Debian's package prometheus, as `make test` does"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [str(discovery)]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url, process), 30)
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus ended by itself: see prometheus.log"
    try:
        return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
