"""What `kubectl apply -k` would apply: as kubectl renders it, and as Kubernetes and KubeRay take it."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.kustomize import K8S, OVERLAYS, documents, render
from tests.k8s.schemas import faults

FOLDERS = [
    K8S / "engine-build",
    K8S / "models",
    K8S / "overlays/production/foundation",
    *(K8S / "overlays" / name for name in OVERLAYS),
]


def every_manifest() -> dict[str, dict[str, Any]]:
    """All manifests of all overlays, each once."""
    secrets = documents(
        subprocess.run([K8S.parent / "scripts/k8s-secrets"], check=True, capture_output=True, text=True).stdout
    )
    return {json.dumps(manifest): manifest for folder in FOLDERS for manifest in render(folder)} | {
        secret["metadata"]["name"]: secret for secret in secrets
    }


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def kubectl_renders(folder: Path) -> list[dict[str, Any]]:
    """What kubectl makes of a folder."""
    command = ["kubectl", "kustomize", str(folder)]
    return documents(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to compare with")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kubectl_renders_the_same(folder: Path) -> None:
    assert by_name(kubectl_renders(folder)) == by_name(render(folder))


def test_every_manifest_fits_its_schema() -> None:
    manifests = every_manifest()
    assert len(manifests) > 35
    found = [
        f"{manifest['kind']} {manifest['metadata']['name']}: {fault}"
        for manifest in manifests.values()
        for fault in faults(manifest)
    ]
    assert not found, "\n".join(found)


def test_a_misspelt_field_is_found() -> None:
    known = by_name(render(K8S / "overlays" / "production"))
    ray = copy.deepcopy(known["RayService", "raysight"])
    ray["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["envv"] = []
    assert any("envv" in fault for fault in faults(ray))
    service = copy.deepcopy(known["Service", "raysight-api"])
    service["spec"]["selectors"] = {}
    assert any("selectors" in fault for fault in faults(service))


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_two_have_one_name(name: str) -> None:
    manifests = render(K8S / "overlays" / name)
    assert len(by_name(manifests)) == len(manifests)
    assert {manifest["metadata"].get("namespace") for manifest in manifests if manifest["kind"] != "Namespace"} == {
        "raysight"
    }
