"""What Serve is told in a cluster: `serve_config.yaml`, but for what is changed here on purpose, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.store.opening import is_local
from serve_app.auth.listening import require_closed_or_local
from serve_app.config import AppArgs
from tests.contracts.test_config import config, unknown_keys
from tests.k8s.cluster import application, of_kind, serve_config
from tests.k8s.kustomize import OVERLAYS, ROOT

GONE = object()

EVERYWHERE = {
    # Who watches goes on watching while the head restarts: proxies are where replicas are.
    "proxy_location": "EveryNode",
    "http_options.host": "0.0.0.0",
    "applications.raysight.args.auth": "keys",
    # Who installs makes it in the store; one that the API made would stay valid beside it.
    "applications.raysight.args.first_key": False,
    "applications.raysight.args.store": "redis://raysight-store:6379?prefix=raysight",
    "applications.raysight.args.output_root": "/recordings",
}
ON_GPUS = {
    "applications.detector.args.engine": "auto",
    "applications.detector.args.device": "cuda",
    "applications.detector.args.num_gpus": 1,
    "applications.detector.args.package": "/models/nanodet-g-416-fp16",
    "applications.detector.deployments.Detector.user_config.max_batch_size": 16,
    "applications.raysight.args.models_root": "/models",
    "applications.raysight.args.allowed_hosts": ["localhost", "127.0.0.1", "raysight-api", "cameras.example"],
    "applications.raysight.args.webrtc.media_server": "https://cameras.example",
    "applications.raysight.args.num_replicas": 2,
    # Ray asks for a pod when what streams set aside is gone; with `admission: pending` it never would.
    "applications.raysight.args.streams.stream_num_cpus": 0.2,
}
CHANGED: dict[str, dict[str, Any]] = {
    "local": EVERYWHERE | {"applications.raysight.args.allowed_hosts": ["localhost", "127.0.0.1", "raysight-api"]},
    "production": EVERYWHERE
    | ON_GPUS
    | {"applications.detector.args.num_replicas": 2, "applications.detector.args.max_replicas": 8},
    "multi-gpu": EVERYWHERE
    | ON_GPUS
    | {"applications.detector.args.num_replicas": 4, "applications.detector.args.max_replicas": 16},
}


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path; items of lists that have names go by these."""
    if isinstance(node, list) and node and isinstance(node[0], dict):
        node = {item["name"]: item for item in node}
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_differs_where_it_is_meant_to(overlay: str) -> None:
    plain, here = dict(flat(config())), dict(flat(serve_config(overlay)))
    changed = {path: here.get(path, GONE) for path in plain | here if plain.get(path, GONE) != here.get(path, GONE)}
    assert changed == CHANGED[overlay]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_serve_and_raysight_take_it(overlay: str) -> None:
    given = serve_config(overlay)
    ServeDeploySchema.model_validate(given)
    assert list(unknown_keys(given, ServeDeploySchema)) == []
    DetectorConfig.model_validate(application(overlay, "detector")["args"])
    (deployment,) = application(overlay, "detector")["deployments"]
    DetectorSettings.model_validate(deployment["user_config"])
    args = AppArgs.model_validate(application(overlay, "raysight")["args"])
    require_closed_or_local(args.auth, given["http_options"]["host"], args.grpc_from)
    assert not is_local(args.store_url)
    if overlay != "local":
        assert args.streams.admission == "off"


def test_a_stream_sets_aside_what_one_was_measured_to_take() -> None:
    measured = [
        step["cpu_cores_per_stream"]
        for path in (ROOT / "benchmarks/results").glob("h100-fleet-*.json")
        for step in json.loads(path.read_text())["steps"]
    ]
    assert len(measured) > 20
    given = AppArgs.model_validate(application("production", "raysight")["args"]).streams.stream_num_cpus
    assert min(measured) < given < max(measured)
    assert given == pytest.approx(median(measured), rel=0.15)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_knows_the_names_by_which_it_is_called(overlay: str) -> None:
    hosts = AppArgs.model_validate(application(overlay, "raysight")["args"]).allowed_hosts
    assert "raysight-api" in hosts  # the media server calls it so
    for ingress in of_kind(overlay, "Ingress").values():
        assert {rule["host"] for rule in ingress["spec"]["rules"]} <= set(hosts)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_it_names_is_mounted(overlay: str) -> None:
    args = application(overlay, "raysight")["args"]
    assert args["output_root"] == "/recordings"
    assert args.get("models_root", "/models") == "/models"
    package = application(overlay, "detector")["args"].get("package", "/models/")
    assert Path(package).is_relative_to("/models")
