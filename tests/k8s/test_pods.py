"""What runs in the cluster: closed, pinned, with room for what it holds, and everything that it refers to is there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray

from deployments.detector.config import DetectorConfig
from deployments.link.attachments import WINDOW
from deployments.store.opening import PASSWORD_VARIABLE
from deployments.store.redis import DURABLE
from deployments.store.sealed import KEY_FILE_VARIABLE, keys_from
from deployments.streams.hardware import NVDEC, NVENC
from serve_app.auth.config import SECRET_VARIABLE, session_secret
from serve_app.config import AppArgs
from serve_app.local import HEALTH_CHECKS
from tests.k8s.cluster import Pod, application, groups, manifests, of_kind, pods, ray_cluster, serve_config
from tests.k8s.kustomize import K8S, OVERLAYS, ROOT, documents, render, walk

FRAME_BYTES = 640 * 640 * 3
"""The largest input of the models that raysight is measured with."""

PROXY_CPUS = 0.0
"""Serve's proxies and controller ask Ray for no CPU (ray/serve/_private/proxy_state.py)."""

AGENT = "dashboard/modules/reporter/healthz_agent.py"
"""Of Ray: where the health route of each node's agent is."""

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3, "": 1}


def quantity(text: Any) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def every_pod() -> list[Any]:
    return [
        pytest.param(overlay, pod, id=f"{overlay}-{name}")
        for overlay in OVERLAYS
        for name, pod in pods(overlay).items()
    ]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Variables by name: a value, or the reference to one."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@cache
def secrets() -> dict[str, dict[str, str]]:
    """What `scripts/k8s-secrets` made once, by name."""
    return new_secrets()


def new_secrets() -> dict[str, dict[str, str]]:
    """What it makes."""
    printed = subprocess.run([ROOT / "scripts/k8s-secrets"], check=True, capture_output=True, text=True).stdout
    return {secret["metadata"]["name"]: secret["stringData"] for secret in documents(printed)}


@pytest.mark.parametrize(("overlay", "pod"), every_pod())
def test_every_pod_is_closed(overlay: str, pod: Pod) -> None:
    context = pod.spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
    assert not any("hostPath" in volume for volume in pod.spec.get("volumes", ()))
    contexts = [container["securityContext"] for container in pod.containers]
    if pod.owner == "head":
        contexts.append(ray_cluster(overlay)["autoscalerOptions"]["securityContext"])
    for container in contexts:
        assert container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize(("overlay", "pod"), every_pod())
def test_images_are_pinned(overlay: str, pod: Pod) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for container in pod.containers:
        name, _, tag = container["image"].rpartition(":")
        assert re.match(r"\d+\.\d+\.\d+", tag), container["image"]
        assert "raysight" not in name or tag == version


@pytest.mark.parametrize(("overlay", "pod"), every_pod())
def test_what_a_pod_refers_to_is_there(overlay: str, pod: Pod) -> None:
    made = secrets()
    assert pod.spec["serviceAccountName"] in of_kind(overlay, "ServiceAccount")
    for node in walk(pod.spec):
        if (wanted := node.get("secretKeyRef")) is not None:
            assert wanted["key"] in made[wanted["name"]]
        if isinstance(wanted := node.get("secret"), dict):
            assert {item["key"] for item in wanted["items"]} <= set(made[wanted["secretName"]])
        if isinstance(wanted := node.get("persistentVolumeClaim"), dict):
            assert wanted["claimName"] in of_kind(overlay, "PersistentVolumeClaim")
        if isinstance(wanted := node.get("configMap"), dict) and wanted["name"] != "kube-root-ca.crt":
            assert wanted["name"] in of_kind(overlay, "ConfigMap")
    claimed = {
        template["metadata"]["name"]
        for m in manifests(overlay)
        for template in m.get("spec", {}).get("volumeClaimTemplates", ())
    }
    volumes = {volume["name"] for volume in pod.spec.get("volumes", ())} | claimed
    assert {mount["name"] for container in pod.containers for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize(("overlay", "pod"), every_pod())
def test_probes_lead_to_something(overlay: str, pod: Pod) -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

    for container in pod.containers:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for probe in (container.get(f"{kind}Probe") for kind in ("readiness", "liveness", "startup")):
            if probe is None:
                continue
            if "tcpSocket" in probe:
                assert probe["tcpSocket"]["port"] in ports
            elif "httpGet" in probe:
                assert probe["httpGet"] == {"path": "/api/healthz", "port": DEFAULT_DASHBOARD_AGENT_LISTEN_PORT}
                assert '@routes.get("/api/healthz")' in (Path(ray.__file__).parent / AGENT).read_text()
            else:
                assert probe["exec"]["command"][-1].startswith("redis-cli ping")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_autoscaler_may_ask_kubernetes(overlay: str) -> None:
    cluster = ray_cluster(overlay)
    token = next(v["name"] for v in cluster["headGroupSpec"]["template"]["spec"]["volumes"] if "projected" in v)
    assert token in {mount["name"] for mount in cluster["autoscalerOptions"]["volumeMounts"]}
    for pod in pods(overlay).values():
        mounted = {mount["name"] for container in pod.containers for mount in container["volumeMounts"]}
        assert token not in mounted
    assert not [m for m in manifests(overlay) if m["kind"].endswith(("Role", "RoleBinding"))]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_is_the_one_that_is_locked(overlay: str) -> None:
    assert ray_cluster(overlay)["rayVersion"] == ray.__version__
    froms = re.findall(r"^FROM rayproject/ray:(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert froms
    assert all(tag.startswith(f"{ray.__version__}-py311-") for tag in froms)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_cluster_is_closed_lasting_and_scaled(overlay: str) -> None:
    cluster = ray_cluster(overlay)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "raysight-ray-token"}
    assert "auth_token" in secrets()["raysight-ray-token"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"] == "redis://raysight-gcs:6379"
    assert of_kind(overlay, "RayService")["raysight"]["spec"]["upgradeStrategy"] == {"type": "None"}
    assert serve_config(overlay)["applications"][1]["args"]["store"].startswith("redis://raysight-store:6379")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_ray_pod_gets_what_raysight_reads(overlay: str) -> None:
    made = secrets()
    for name in ("head", *groups(overlay)):
        pod = pods(overlay)[name]
        given = environment(pod.spec["containers"][0])
        assert given[PASSWORD_VARIABLE] == {"secretKeyRef": {"name": "raysight-store", "key": "password"}}
        assert given[SECRET_VARIABLE] == {"secretKeyRef": {"name": "raysight-api", "key": "session-secret"}}
        assert given[KEY_FILE_VARIABLE] == "/etc/raysight/store-keys"
        mounts = {mount["mountPath"]: mount["name"] for mount in pod.spec["containers"][0]["volumeMounts"]}
        assert mounts["/etc/raysight"] == "store-keys"
        assert {"/tmp", "/dev/shm", "/recordings", "/models"} <= set(mounts)
    head = environment(pods(overlay)["head"].spec["containers"][0])
    assert head.items() >= HEALTH_CHECKS.items()
    session_secret({SECRET_VARIABLE: made["raysight-api"]["session-secret"]}, replicas=2)


def test_the_key_of_the_store_is_one() -> None:
    from cryptography.fernet import Fernet

    (key,) = keys_from({"RAYSIGHT_STORE_KEY": secrets()["raysight-api"]["store-keys"]})
    Fernet(key)


def test_secrets_are_new_each_time() -> None:
    first, second = new_secrets(), new_secrets()
    values = [value for made in (first, second) for secret in made.values() for value in secret.values()]
    assert len(set(values)) == len(values)
    for name in ("raysight-store", "raysight-gcs"):
        assert first[name]["auth.conf"] == f"requirepass {first[name]['password']}"


def test_the_stores_redis_loses_nothing_that_was_answered() -> None:
    lines = (K8S / "base/redis.conf").read_text().splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert settings.items() >= DURABLE.items()
    assert settings["maxmemory"] == "512mb"
    for name in ("raysight-store", "raysight-gcs"):
        limit = pods("production")[name].spec["containers"][0]["resources"]["limits"]["memory"]
        assert quantity(limit) == 2 * 512 * 2**20, "a rewrite may take as much again"
    args = pods("production")["raysight-store"].spec["containers"][0]["args"]
    assert args == ["redis-server", "/etc/redis/redis.conf"]
    for service in ("raysight-store", "raysight-gcs"):
        spec = of_kind("production", "Service")[service]["spec"]
        assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)


@pytest.mark.parametrize("overlay", ["production", "multi-gpu"])
def test_engines_are_built_where_they_run(overlay: str) -> None:
    group, job = pods(overlay)["gpu"], pods(overlay)["engine-build"]
    first, built = group.spec["initContainers"][0], job.spec["containers"][0]
    assert built["command"] == first["command"]
    assert built["command"][0] == "provide-engine"
    assert built["command"][2] == application(overlay, "detector")["args"]["package"]
    assert built["image"] == first["image"]
    assert first["image"] == group.spec["containers"][0]["image"]
    assert {key: job.spec[key] for key in ("nodeSelector", "tolerations")} == {
        key: group.spec[key] for key in ("nodeSelector", "tolerations")
    }
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in (group, job)
        for volume in pod.spec["volumes"]
        if volume["name"] == "models"
    }
    assert claims == {"raysight-models"}


STREAMS_A_REPLICA = 16
"""That pods are sized for; more find a place elsewhere."""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_room_for_what_runs(overlay: str) -> None:
    detector = DetectorConfig.model_validate(application(overlay, "detector")["args"])
    api = AppArgs.model_validate(application(overlay, "raysight")["args"])
    for name, group in groups(overlay).items():
        container = group["template"]["spec"]["containers"][0]
        limits = container["resources"]["limits"]
        assert container["resources"]["requests"] == limits, "Ray hands out what the limits say"
        gpus = int(limits.get("nvidia.com/gpu", 0))
        replicas = int(gpus / detector.num_gpus) if detector.num_gpus else int(name == "cpu")
        streams = replicas * STREAMS_A_REPLICA
        cpus = (
            replicas * detector.num_cpus + api.num_replicas * 0.1 + PROXY_CPUS + streams * api.streams.stream_num_cpus
        )
        assert cpus <= quantity(limits["cpu"])
        shm = quantity(
            next(v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm")["emptyDir"]["sizeLimit"]
        )
        objects = int(group["rayStartParams"]["object-store-memory"])
        assert objects <= 0.9 * shm, "Ray would put its objects on the disk"
        if overlay != "local":  # where Ray's CPUs are taken another pod comes: this one has memory for as many
            beside = replicas * detector.num_cpus + api.num_replicas * 0.1 + PROXY_CPUS
            streams = int((quantity(limits["cpu"]) - beside) / api.streams.stream_num_cpus)
            assert streams >= 2 * replicas * STREAMS_A_REPLICA
        slots = streams * WINDOW * FRAME_BYTES
        assert shm + slots + streams * api.streams.stream_memory_mb * 2**20 <= quantity(limits["memory"])
        assert set(group.get("resources", ())) <= {NVDEC, NVENC}


@pytest.mark.parametrize("overlay", ["production", "multi-gpu"])
def test_serve_asks_for_no_more_gpus_than_there_may_be(overlay: str) -> None:
    detector = DetectorConfig.model_validate(application(overlay, "detector")["args"])
    group = groups(overlay)["gpu"]
    each = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert detector.num_replicas * detector.num_gpus <= group["minReplicas"] * each
    assert detector.most_replicas * detector.num_gpus == group["maxReplicas"] * each
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_claims_can_have_a_class_and_are_the_same_before_and_after() -> None:
    first = {
        manifest["metadata"]["name"]: manifest
        for manifest in render(K8S / "overlays/production/foundation")
        if manifest["kind"] == "PersistentVolumeClaim"
    }
    assert {claim["spec"]["storageClassName"] for claim in first.values()} == {"shared.example"}
    for overlay in ("production", "multi-gpu"):
        assert of_kind(overlay, "PersistentVolumeClaim") == first
    for claim in of_kind("local", "PersistentVolumeClaim").values():
        assert "storageClassName" not in claim["spec"], "kind's default class is the only one there"


@pytest.mark.parametrize("name", ["engine-build", "models"])
def test_what_comes_before_ray_needs_the_foundation_alone(name: str) -> None:
    there = {(m["kind"], m["metadata"]["name"]) for m in render(K8S / "overlays/production/foundation")}
    pod = pods("production")[name]
    assert ("Namespace", "raysight") in there
    assert ("ServiceAccount", pod.spec["serviceAccountName"]) in there
    assert not [node for node in walk(pod.spec) if {"secretKeyRef", "secret", "configMap"} & set(node)]
    (claim,) = (volume["persistentVolumeClaim"] for volume in pod.spec["volumes"] if "persistentVolumeClaim" in volume)
    assert ("PersistentVolumeClaim", claim["claimName"]) in there
    (container,) = pod.containers
    assert {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}["/models"] is False
    users = {key: pod.spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert users == {"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 100}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_disruption_budgets_are_of_the_kind_that_ray_pods_take(overlay: str) -> None:
    for budget in of_kind(overlay, "PodDisruptionBudget").values():
        assert isinstance(budget["spec"]["minAvailable"], int)
        assert set(budget["spec"]) == {"minAvailable", "selector"}
