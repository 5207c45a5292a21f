"""What README and docs/operations.md tell people to type fits the manifests, and says whether it was tried."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from ray._private.ray_constants import DEFAULT_DASHBOARD_PORT

from deployments.store.protocol import StoreAway
from deployments.store.sealed import KEY_VARIABLE, SealedStore, keys_from
from deployments.store.sqlite import SqliteStore
from serve_app.auth.config import SECRET_VARIABLE, session_secret
from serve_app.fleet.file import read_fleet, read_secrets
from tests.contracts.test_readme import blocks
from tests.k8s.cluster import groups, manifests, of_kind, pods, ray_cluster
from tests.k8s.kustomize import K8S, OVERLAYS, ROOT, apply_operation, patch_all, render
from tests.k8s.schemas import faults
from tests.k8s.test_pods import environment, secrets
from tests.k8s.test_rendering import by_name, kubectl_renders

README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECTION = re.split(r"^## ", README.partition("\n## On Kubernetes\n")[2], maxsplit=1, flags=re.MULTILINE)[0]

_KINDS = {"svc": "Service", "job": "Job", "rayservice": "RayService", "pod": "Pod"}
_BY_HAND = {"raysight-tls"}


def kubectl(text: str) -> Iterator[list[str]]:
    """The words of every kubectl command, without what it runs in a pod."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r" && | \| ", re.sub(r" -- (?:bash|sh) -c .*", "", line)):
                if command.startswith("kubectl "):
                    yield shlex.split(command, comments=True)


def test_every_block_says_whether_it_was_tried() -> None:
    for block in blocks(OPERATIONS, "sh"):
        assert re.match(r"# (not tried here|tried)\b", block), block


def test_the_readme_takes_five_commands() -> None:
    (block,) = blocks(SECTION, "sh")
    assert len(block.strip().splitlines()) == 5


@pytest.mark.parametrize("text", [SECTION, OPERATIONS], ids=["README", "operations"])
def test_what_kubectl_is_asked_for_is_there(text: str) -> None:
    known = {(m["kind"], m["metadata"]["name"]) for overlay in OVERLAYS for m in manifests(overlay)}
    seen = 0
    for words in kubectl(text):
        for path in (word for word in words if word.startswith("k8s/")):
            assert (ROOT / path).exists(), path
        for word in words[1:]:
            kind, slash, name = word.partition("/")
            if slash and kind in _KINDS:
                assert (_KINDS[kind], name) in known, word
                seen += 1
        for pod in (word for word in words if re.fullmatch(r"raysight-\w+-0", word)):
            assert ("StatefulSet", pod.removesuffix("-0")) in known
        if "secret" in words:
            assert {word for word in words if word.startswith("raysight-")} <= set(secrets()) | _BY_HAND
        if "-n" in words:
            assert words[words.index("-n") + 1] == "raysight"
    assert seen >= 2


def test_the_head_is_found_before_anything_runs_on_it() -> None:
    """KubeRay makes a RayService's own Services once its applications are ready: who looks into failures has none."""
    assert "svc/raysight-head-svc" not in OPERATIONS
    used = re.findall(r"kubectl [^`]*?-l (ray\.io/node-type)=(head)", OPERATIONS)
    assert len(used) >= 3
    for overlay in OVERLAYS:
        assert [name for name, pod in pods(overlay).items() if used[0] in pod.labels.items()] == ["head"]


def test_the_first_stream_is_one() -> None:
    (told,) = re.findall(r'echo "(\{streams:.*?\})" >', SECTION)
    assert set(read_fleet(told, read_secrets("", {}))) == {"gate-3"}


def test_the_operator_goes_where_policies_expect_it() -> None:
    script = (ROOT / "scripts/k8s-local").read_text()
    for text in (SECTION, script):
        assert "kuberay-system" in text
        assert "--version 1.7.0" in text


def placeholders() -> dict[str, set[Path]]:
    """Names of the manifests that are to be replaced, with the files that have them."""
    found: dict[str, set[Path]] = {}
    for path in K8S.rglob("*"):
        if path.is_file():
            for name in re.findall(r"[\w.-]+\.example\b", path.read_text()):
                found.setdefault(name, set()).add(path)
    return found


def test_every_name_to_replace_is_listed() -> None:
    (section,) = re.findall(r"^### Your names\n(.*?)^\*\*Images", OPERATIONS, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([\w.-]+)` \|[^|]*\|([^|]*)\|$", section, re.MULTILINE)
    listed = {name: {ROOT / file for file in re.findall(r"\]\(\.\./(\S+)\)", where)} for name, where in rows}
    assert listed == placeholders()
    lines = [line for path in K8S.rglob("*") if path.is_file() for line in path.read_text().splitlines()]
    assert sum(".example" in line for line in lines) == 10
    for text in (SECTION, section):
        assert "`grep -rnF .example k8s`" in text
    assert "ten lines" in SECTION


def test_images_have_their_names_from_one_place() -> None:
    assert placeholders()["registry.example"] == {K8S / "images/kustomization.yaml"}
    used = {
        container["image"]
        for folder in ("engine-build", "models", "overlays/production", "overlays/multi-gpu")
        for container in re.findall(r'"image": "([^"]*raysight-[^"]*)"', json.dumps(render(K8S / folder)))
        for container in [{"image": container}]
    }
    assert {image.partition(":")[0] for image in used} == {
        "registry.example/raysight-cpu",
        "registry.example/raysight-gpu",
    }


@pytest.mark.parametrize("block", blocks(OPERATIONS, "yaml"), ids=lambda block: block.splitlines()[0])
def test_patches_fit_what_they_are_for(block: str, tmp_path: Path) -> None:
    folder = ROOT / block.splitlines()[0].removeprefix("# ")
    patches = yaml.safe_load(block)
    for overlay in (folder, K8S / "overlays/multi-gpu"):
        after = render(overlay)
        for patch in patches:
            patch_all(after, patch, folder)
        assert after != render(overlay)
        assert [fault for manifest in after for fault in faults(manifest)] == []
        if shutil.which("kubectl") is not None:
            wanted = {"resources": [os.path.relpath(overlay, tmp_path.resolve())], "patches": patches}
            (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
            assert by_name(kubectl_renders(tmp_path)) == by_name(after)


def test_the_ingress_controller_is_let_in_by_its_nodes_as_well() -> None:
    (block,) = (block for block in blocks(OPERATIONS, "yaml") if "ipBlock" in block)
    found = render(K8S / "overlays/production/foundation")
    for patch in yaml.safe_load(block):
        patch_all(found, patch, ROOT)
    for manifest in found:
        for rule in manifest["spec"].get("ingress", ()) if manifest["kind"] == "NetworkPolicy" else ():
            peers = json.dumps(rule.get("from", ()))
            assert ("ingress-nginx" in peers) == ("10.0.0.0/24" in peers)


def test_the_size_of_a_running_group_is_patched() -> None:
    (operations,) = re.findall(
        r"^kubectl patch raycluster \$\(kubectl get rayservice raysight -n raysight -o "
        r"jsonpath='\{\.status\.activeServiceStatus\.rayClusterName\}'\) -n raysight --type=json -p '(\[.*\])'$",
        OPERATIONS,
        re.MULTILINE,
    )
    for overlay in ("production", "multi-gpu"):
        cluster = {"spec": copy.deepcopy(ray_cluster(overlay))}
        for operation in json.loads(operations):
            apply_operation(cluster, operation)
        group = cluster["spec"]["workerGroupSpecs"][0]
        assert (group["groupName"], group["minReplicas"], group["maxReplicas"]) == ("gpu", 3, 12)
    in_place = OPERATIONS.partition("\nTaken in place")[2].partition("\n\n")[0]
    assert "eplicas`" not in in_place.replace("without new replicas", "")


KUBECTL = r"""#!/bin/sh
# Answers as kubectl would for the Secrets in the folder $SECRETS, and keeps what it is asked to patch.
case "$*" in
"get secret -n raysight raysight-api -o jsonpath={.data.store-keys}") base64 < "$SECRETS/store-keys" ;;
"get secret -n raysight "*" -o yaml") cat "$SECRETS/printed.yaml" ;;
"patch secret -n raysight "*" -p "*) printf '%s' "$7" > "$SECRETS/$5.$(ls "$SECRETS" | wc -l).patch" ;;
*) exit 1 ;;
esac
"""


def typed(command: str, folder: Path) -> None:
    """Run what an operator types, with a kubectl whose Secrets are in ``folder``."""
    stub = folder / "bin/kubectl"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(KUBECTL)
    stub.chmod(0o755)
    known = {"PATH": f"{stub.parent}:/usr/bin:/bin", "SECRETS": str(folder)}
    subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", command], cwd=folder, env=known, check=True, timeout=30)


def test_secrets_that_were_kept_can_be_made_elsewhere(tmp_path: Path) -> None:
    """Kubernetes refuses to create what has a `resourceVersion`."""
    (command,) = re.findall(r"^kubectl get secret .* > secrets\.yaml$", OPERATIONS, re.MULTILINE)
    named = [word for word in command.split() if word.startswith("raysight-")]
    assert set(named) == set(secrets()) | _BY_HAND
    cluster = {"creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "4711", "uid": "0f-1"}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secrets()["raysight-api"].items()}
    kept = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data, "metadata": {"name": "raysight-api"}}
    there = kept | {"metadata": {"name": "raysight-api", "namespace": "raysight", **cluster}}
    printed = {"apiVersion": "v1", "kind": "List", "items": [there], "metadata": {"resourceVersion": ""}}
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(printed))
    typed(command, tmp_path)
    found = yaml.safe_load((tmp_path / "secrets.yaml").read_text())
    assert found["items"] == [kept | {"metadata": {"name": "raysight-api", "namespace": "raysight"}}]


def test_ray_has_ended_before_its_stores_are_exchanged() -> None:
    """`kubectl delete rayservice` returns while pods still write and KubeRay's job has not logged in yet."""
    _, _, after = OPERATIONS.partition("\nkubectl delete rayservice -n raysight raysight\nkubectl wait")
    clusters, waited, *_ = after.splitlines()
    assert clusters.startswith(" -n raysight raycluster --all --for=delete ")
    (key, value), *others = re.findall(r"^kubectl wait -n raysight pod -l (\S+)=(\S+) --for=delete ", waited)
    assert others == []
    for overlay in OVERLAYS:
        ended = {name for name, pod in pods(overlay).items() if pod.labels.get(key) == value}
        assert ended == {"head", *groups(overlay)}
    assert "kubectl exec -n raysight raysight-store-0 -- mv /data/appendonlydir" in after


def test_rotated_values_are_written_as_what_reads_them_takes_them(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(OPERATIONS, "sh") if "kubectl patch secret" in block)
    old = secrets()["raysight-api"]["store-keys"]
    (tmp_path / "store-keys").write_text(old)
    typed(block, tmp_path)
    patched: dict[str, dict[str, str]] = {}
    for path in tmp_path.glob("*.patch"):
        change = json.loads(path.read_text())
        decoded = {key: base64.b64decode(value).decode() for key, value in change.get("data", {}).items()}
        patched.setdefault(path.name.partition(".")[0], {}).update(change.get("stringData", {}) | decoded)
    assert set(patched["raysight-api"]) == set(secrets()["raysight-api"])
    assert set(patched["raysight-ray-token"]) == set(secrets()["raysight-ray-token"])
    redis = patched["raysight-store"]
    assert redis == {"password": redis["password"], "auth.conf": f"requirepass {redis['password']}"}
    session_secret({SECRET_VARIABLE: patched["raysight-api"]["session-secret"]}, replicas=2)
    keys = keys_from({KEY_VARIABLE: patched["raysight-api"]["store-keys"]})
    assert keys[1:] == (old,)

    def store(*known: str) -> SealedStore:
        return SealedStore(SqliteStore(tmp_path / "store.db"), known)

    store(old).put("key", "k1", b"a key of the API", 0)
    record = store(*keys).get("key", "k1")
    assert record is not None
    assert record.value == b"a key of the API"
    with pytest.raises(StoreAway):  # so the old one stays at first
        store(keys[0]).get("key", "k1")
    store(*keys).renew()
    assert store(keys[0]).get("key", "k1") == record


def test_runbooks_can_be_links(tmp_path: Path) -> None:
    (command,) = re.findall(r"^sed -i '(.*runbook_url.*)' (k8s/\S+)$", OPERATIONS, re.MULTILINE)
    rules = tmp_path / "rules.yaml"
    rules.write_text((ROOT / command[1]).read_text())
    subprocess.run(["sed", "-i", command[0], rules], check=True, timeout=10)
    (manifest,) = yaml.safe_load_all(rules.read_text())
    alerts = [rule for group in manifest["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        base, _, path = alert["annotations"]["runbook_url"].partition("/main/")
        assert base.startswith("https://")
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "docs/runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_calls_of_runbooks_carry_a_key(path: Path) -> None:
    for call in re.findall(r"`(curl .*?)`", path.read_text()):
        assert "/readyz" in call or '-H "Authorization: Bearer $RAYSIGHT_KEY"' in call


def test_what_is_watched_is_looked_for_by_the_prometheus_that_rays_dashboard_asks() -> None:
    """One Helm release of kube-prometheus-stack: its name is a label of what it takes, and begins its Services'."""
    head = pods("production")["head"].spec["containers"][0]
    addresses = {name: urlsplit(value) for name, value in environment(head).items() if str(value).startswith("http")}
    release, _, namespace = str(addresses["RAY_GRAFANA_HOST"].hostname).partition("-grafana.")
    assert addresses["RAY_PROMETHEUS_HOST"].hostname == f"{release}-kube-prometheus-prometheus.{namespace}"
    assert addresses["RAY_PROMETHEUS_HOST"].port == 9090
    for kind in ("PodMonitor", "PrometheusRule"):
        for watched in of_kind("production", kind).values():
            assert watched["metadata"]["labels"] == {"release": release}
            assert "namespaceSelector" not in watched["spec"]
    (policy,) = (rule for rule in of_kind("production", "NetworkPolicy")["dashboard"]["spec"]["egress"])
    assert policy["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]
    assert f"kubectl port-forward -n {namespace} svc/{release}-grafana 3000:80" in OPERATIONS
    assert f"`release: {release}`" in OPERATIONS
    assert release == namespace
    assert f"kube-prometheus-stack (release and namespace `{release}`)" in SECTION


def test_grafana_is_framed_by_a_page_of_the_same_host() -> None:
    """Else browsers keep its cookie (SameSite=Lax) from the frame, and it asks everybody to log in, in vain."""
    framed = environment(pods("production")["head"].spec["containers"][0])["RAY_GRAFANA_IFRAME_HOST"]
    addresses = re.findall(r"<(http://[^:>]+:\d+)/>", OPERATIONS)
    assert framed in addresses
    (dashboard,) = (urlsplit(address) for address in addresses if urlsplit(address).port == DEFAULT_DASHBOARD_PORT)
    assert urlsplit(framed).hostname == dashboard.hostname
    (values,) = re.findall(r"`(grafana.*allow_embedding.*)` among the values of kube-prometheus-stack", OPERATIONS)
    # Grafana is a chart within that chart.
    assert yaml.safe_load(values) == {"grafana": {"grafana.ini": {"security": {"allow_embedding": True}}}}


@pytest.mark.parametrize("script", ["k8s-local", "build-images"])
def test_scripts_name_what_is_there(script: str) -> None:
    for path in re.findall(r"\bk8s/[\w./-]+", (ROOT / "scripts" / script).read_text()):
        assert (ROOT / path).exists(), path


def test_a_second_local_start_brings_the_image_that_was_built() -> None:
    script = (ROOT / "scripts/k8s-local").read_text()
    assert script.index("kind load") < script.index("delete rayservice") < script.index("apply -k k8s/overlays/local")
