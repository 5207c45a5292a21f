"""Who reaches whom: the policies, played through, and the services and ports that they are about."""

from __future__ import annotations

import json

import pytest
import yaml
from ray._private.ray_constants import DEFAULT_DASHBOARD_PORT
from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT
from ray.dashboard.consts import DASHBOARD_METRIC_PORT

from serve_app.api.media_server import FOLDER
from tests.contracts.test_openapi import SNAPSHOT
from tests.k8s.cluster import (
    Peer,
    Pod,
    may_enter,
    may_leave,
    of_kind,
    pods,
    policy_ports,
    selects,
    serve_config,
)
from tests.k8s.kustomize import K8S, OVERLAYS

GCS, CLIENT = 6379, 10001
METRICS = 8080
"""KubeRay's `metrics-export-port`."""
GRAFANA_PORT, PROMETHEUS_PORT = 3000, 9090
"""Of the pods of kube-prometheus-stack: policies are about these and not about the Services' ports."""

DANGEROUS = (GCS, DEFAULT_DASHBOARD_PORT, CLIENT)

OPERATOR = Peer({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay-system")
INGRESS = Peer({"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx")
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
GRAFANA = Peer({"app.kubernetes.io/name": "grafana"}, "monitoring")
CLEANUP = Peer({"ray.io/is-ray-node": "yes", "ray.io/node-type": "redis-cleanup"})
STRANGER = Peer({}, "default")
PRETENDER = Peer({"ray.io/is-ray-node": "yes", "app.kubernetes.io/name": "kuberay-operator"}, "default")
NEIGHBOUR = Peer({"app.kubernetes.io/name": "something"})
OUTSIDE = Peer({}, None)


def media() -> dict[str, object]:
    """MediaMTX' configuration."""
    loaded: dict[str, object] = yaml.safe_load((K8S / "base/mediamtx.yml").read_text())
    return loaded


def ray_peers(overlay: str) -> list[Peer]:
    return [Peer(pod.labels) for pod in pods(overlay).values() if "ray.io/is-ray-node" in pod.labels]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_runs_anything_is_closed(overlay: str) -> None:
    for pod in pods(overlay).values():
        if "ray.io/is-ray-node" not in pod.labels:
            continue
        for port in DANGEROUS:
            for peer in (INGRESS, PROMETHEUS, STRANGER, PRETENDER, NEIGHBOUR, OUTSIDE):
                assert not may_enter(overlay, peer, pod, port), (peer, port)
            operated = pod.owner == "head" and port == DEFAULT_DASHBOARD_PORT
            assert may_enter(overlay, OPERATOR, pod, port) == operated
            for peer in ray_peers(overlay):
                assert may_enter(overlay, peer, pod, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_needs_something_gets_there(overlay: str) -> None:
    here = pods(overlay)
    server = Peer(here["raysight-media"].labels)
    for pod in (pod for pod in here.values() if "ray.io/is-ray-node" in pod.labels):
        assert may_enter(overlay, INGRESS, pod, 8000)
        assert may_enter(overlay, server, pod, 8000)
        assert not may_enter(overlay, STRANGER, pod, 8000)
        assert may_enter(overlay, PROMETHEUS, pod, METRICS)
        assert may_leave(overlay, pod, Peer({}, None, "10.20.0.7"), 554), "a camera"
        assert not may_leave(overlay, pod, Peer({}, None, "169.254.169.254"), 80), "a cloud's credentials"
        assert may_enter(overlay, Peer(pod.labels), here["raysight-media"], 8554)
        assert may_enter(overlay, Peer(pod.labels), here["raysight-store"], 6379)
        assert may_enter(overlay, Peer(pod.labels), here["raysight-gcs"], 6379) == (pod.owner == "head")
    assert may_enter(overlay, CLEANUP, here["raysight-gcs"], 6379)
    assert may_leave(overlay, here["raysight-media"], Peer(here["head"].labels), 8000)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_is_let_out_to_what_it_needs_in_the_cluster(overlay: str) -> None:
    here = pods(overlay)
    for pod in (pod for pod in here.values() if "ray.io/is-ray-node" in pod.labels):
        for peer in ray_peers(overlay):
            assert may_leave(overlay, pod, peer, 40001)
        for name, port in (("raysight-store", 6379), ("raysight-gcs", 6379), ("raysight-media", 8554)):
            assert may_leave(overlay, pod, Peer(here[name].labels), port)
        asks = pod.owner == "head"
        assert may_leave(overlay, pod, GRAFANA, GRAFANA_PORT) == asks
        assert may_leave(overlay, pod, PROMETHEUS, PROMETHEUS_PORT) == asks
    assert may_leave(overlay, Pod("redis-cleanup", CLEANUP.labels, {}), Peer(here["raysight-gcs"].labels), 6379)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_players_reach_the_media_server(overlay: str) -> None:
    server = pods(overlay)["raysight-media"]
    for protocol in ("UDP", "TCP"):
        assert may_enter(overlay, OUTSIDE, server, 8189, protocol)
    assert may_leave(overlay, server, OUTSIDE, 50000, "UDP")
    assert may_enter(overlay, INGRESS, server, 8889)
    for port in (8554, 8889, 9998):
        assert not may_enter(overlay, OUTSIDE, server, port)
        assert not may_enter(overlay, STRANGER, server, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", ["raysight-store", "raysight-gcs", "raysight-media", "engine-build", "models"])
def test_the_rest_calls_nobody(overlay: str, name: str) -> None:
    pod = pods(overlay)[name]
    assert not may_leave(overlay, pod, OUTSIDE, 443)
    assert not may_leave(overlay, pod, Peer({}, None, "169.254.169.254"), 80)
    assert may_leave(overlay, pod, Peer({}, "kube-system"), 53, "UDP")
    assert may_leave(overlay, pod, Peer({}, None, "169.254.20.10"), 53, "UDP"), "NodeLocal DNSCache"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_port_that_is_opened_is_listened_on(overlay: str) -> None:
    settings = media()
    of_media = {int(str(settings[f"{name}Address"]).removeprefix(":")) for name in ("rtsp", "webrtc", "metrics")}
    of_media |= {int(str(settings[f"webrtcLocal{name}Address"]).removeprefix(":")) for name in ("UDP", "TCP")}
    listened = {
        "ray": {serve_config(overlay)["http_options"]["port"], METRICS, AUTOSCALER_METRIC_PORT, DASHBOARD_METRIC_PORT},
        "operator": {DEFAULT_DASHBOARD_PORT, serve_config(overlay)["http_options"]["port"]},
        "store": {6379},
        "gcs": {6379},
        "media": of_media,
    }
    opened: dict[str, set[int]] = {}
    for name, port in policy_ports(overlay):
        opened.setdefault(name, set()).add(port)
    assert opened == listened
    assert "port 6379" in (K8S / "base/redis.conf").read_text()


@pytest.mark.parametrize("overlay", ["production", "multi-gpu"])
def test_all_metrics_that_prometheus_may_reach_are_scraped(overlay: str) -> None:
    """8080 is called `metrics` by KubeRay; the autoscaler's and the dashboard's own ports are for who wants them."""
    for pod in pods(overlay).values():
        ports = [port["name"] for container in pod.containers for port in container.get("ports", ())]
        if "metrics" in ports or "ray.io/is-ray-node" in pod.labels:
            (monitor,) = (
                found
                for found in of_kind(overlay, "PodMonitor").values()
                if selects(found["spec"]["selector"], pod.labels)
            )
            assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_lead_to_ports_of_pods(overlay: str) -> None:
    for service in of_kind(overlay, "Service").values():
        chosen = [
            pod for pod in pods(overlay).values() if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
        ]
        assert chosen, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in chosen:
                known = [p for container in pod.containers for p in container.get("ports", ())]
                fits = [p for p in known if target in (p["name"], p["containerPort"])]
                assert fits or target == serve_config(overlay)["http_options"]["port"], (
                    service["metadata"]["name"],
                    target,
                )
                assert all(p.get("protocol", "TCP") == port.get("protocol", "TCP") for p in fits)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_is_asked_where_a_proxy_answers(overlay: str) -> None:
    """Pods of the GPU group are ready only with a proxy, as long as they have no probe of their own."""
    selector = {"matchLabels": of_kind(overlay, "Service")["raysight-api"]["spec"]["selector"]}
    chosen = {name: pod for name, pod in pods(overlay).items() if selects(selector, pod.labels)}
    assert "head" in chosen
    assert all("readinessProbe" not in pod.spec["containers"][0] for pod in chosen.values())
    assert "readinessProbe" in pods(overlay)["cpu"].spec["containers"][0]


@pytest.mark.parametrize("overlay", ["production", "multi-gpu"])
def test_the_ingress_leads_to_the_api_and_whep_and_not_to_the_dashboard(overlay: str) -> None:
    (ingress,) = of_kind(overlay, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    routes = {path["path"]: path["backend"]["service"] for path in rule["http"]["paths"]}
    assert routes == {
        "/whep": {"name": "raysight-media", "port": {"name": "whep"}},
        "/": {"name": "raysight-api", "port": {"name": "http"}},
    }
    assert routes.keys() >= {f"/{FOLDER}".rstrip("/")}
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_the_media_server_asks_the_api_about_everybody() -> None:
    settings = media()
    assert settings["authMethod"] == "http"
    assert settings["authHTTPExclude"] == [{"action": "metrics"}]
    host, _, path = str(settings["authHTTPAddress"]).removeprefix("http://").partition("/")
    assert host == "raysight-api:8000"
    assert "post" in json.loads(SNAPSHOT.read_text())["paths"][f"/{path}"]
    assert settings["paths"] == {f"~^{FOLDER}[a-z0-9-]+$": None}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_budgets_and_policies_are_about_pods_that_may_be(overlay: str) -> None:
    labels = [pod.labels for pod in pods(overlay).values()]
    for budget in of_kind(overlay, "PodDisruptionBudget").values():
        assert any(selects(budget["spec"]["selector"], some) for some in labels)
    for policy in of_kind(overlay, "NetworkPolicy").values():
        assert any(selects(policy["spec"]["podSelector"], some) for some in labels)
