"""The manifests as the objects that a cluster would make of them: pods, who may connect to whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import yaml

from tests.k8s.kustomize import K8S, Manifest, render

NAMESPACE = "raysight"


@dataclass(frozen=True, eq=False)
class Pod:
    """One kind of pod.

    Attributes:
        owner: its workload, or the RayService's group.
        labels: with those that KubeRay 1.7 adds (ray-operator/controllers/ray/common/pod.go, labelPod).
        serves: whether Serve's proxy answers in it, by which the label of the head and the readiness of workers go.
    """

    owner: str
    labels: dict[str, str]
    spec: Manifest

    @property
    def containers(self) -> list[Manifest]:
        """All, those that run first included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    """What an overlay applies, the job that builds engines, and the pod through which models come."""
    return (*render(K8S / "overlays" / overlay), *render(K8S / "engine-build"), *render(K8S / "models"))


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    """By name."""
    return {manifest["metadata"]["name"]: manifest for manifest in manifests(overlay) if manifest["kind"] == kind}


def ray_cluster(overlay: str) -> Manifest:
    """`rayClusterConfig`."""
    config: Manifest = of_kind(overlay, "RayService")["raysight"]["spec"]["rayClusterConfig"]
    return config


def serve_config(overlay: str) -> Manifest:
    """`serveConfigV2`."""
    config: Manifest = yaml.safe_load(of_kind(overlay, "RayService")["raysight"]["spec"]["serveConfigV2"])
    return config


def application(overlay: str, name: str) -> Manifest:
    """One application of it."""
    return next(found for found in serve_config(overlay)["applications"] if found["name"] == name)


def groups(overlay: str) -> dict[str, Manifest]:
    """The worker groups by name."""
    return {group["groupName"]: group for group in ray_cluster(overlay)["workerGroupSpecs"]}


def pods(overlay: str) -> dict[str, Pod]:
    """All kinds of pods, by the name of what makes them; of a RayService: `head` and the groups."""
    found = {
        manifest["metadata"]["name"]: Pod(
            manifest["metadata"]["name"],
            manifest["spec"]["template"]["metadata"]["labels"],
            manifest["spec"]["template"]["spec"],
        )
        for manifest in manifests(overlay)
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job")
    }
    for name, manifest in of_kind(overlay, "Pod").items():
        found[name] = Pod(name, manifest["metadata"]["labels"], manifest["spec"])
    head = ray_cluster(overlay)["headGroupSpec"]["template"]
    found["head"] = _ray_pod("head", "head", "headgroup", head)
    for name, group in groups(overlay).items():
        found[name] = _ray_pod(name, "worker", name, group["template"])
    return found


def _ray_pod(owner: str, node_type: str, group: str, template: Manifest) -> Pod:
    labels = {
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": node_type,
        "ray.io/group": group,
        "ray.io/serve": "true",
        "app.kubernetes.io/name": "kuberay",
    }
    return Pod(owner, labels | template.get("metadata", {}).get("labels", {}), template["spec"])


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", ()):
        assert wanted["operator"] == "In", "another operator needs code here"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True


@dataclass(frozen=True)
class Peer:
    """Who connects, or is connected to: a pod here, one of another namespace, or an address outside."""

    labels: dict[str, str]
    namespace: str | None = NAMESPACE
    address: str = "203.0.113.7"


def may_enter(overlay: str, peer: Peer, pod: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let ``peer`` open a connection to a port of ``pod``."""
    return _allowed(overlay, "Ingress", pod, peer, port, protocol)


def may_leave(overlay: str, pod: Pod, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let ``pod`` open a connection to a port of ``peer``."""
    return _allowed(overlay, "Egress", pod, peer, port, protocol)


def _allowed(overlay: str, direction: str, pod: Pod, peer: Peer, port: int, protocol: str) -> bool:
    policies = [
        policy["spec"]
        for policy in of_kind(overlay, "NetworkPolicy").values()
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    end = "from" if direction == "Ingress" else "to"
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), ())]
    return not policies or any(
        _fits_peer(rule.get(end), peer) and _fits_port(rule.get("ports"), port, protocol) for rule in rules
    )


def _fits_peer(wanted: list[Manifest] | None, peer: Peer) -> bool:
    return wanted is None or any(_is_peer(one, peer) for one in wanted)


def _is_peer(wanted: Manifest, peer: Peer) -> bool:
    if "ipBlock" in wanted:
        if peer.namespace is not None:
            return False  # Cilium's reading, the narrowest: what is needed in the cluster has to be named as pods
        address, block = ipaddress.ip_address(peer.address), wanted["ipBlock"]
        return _within(address, block["cidr"]) and not any(_within(address, part) for part in block.get("except", ()))
    if peer.namespace is None:
        return False
    if "namespaceSelector" in wanted:
        if not selects(wanted["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != NAMESPACE:
        return False
    return selects(wanted.get("podSelector", {}), peer.labels)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    return address in ipaddress.ip_network(network)


def _fits_port(wanted: list[Manifest] | None, port: int, protocol: str) -> bool:
    return wanted is None or any(
        one.get("protocol", "TCP") == protocol and one["port"] <= port <= one.get("endPort", one["port"])
        for one in wanted
    )


def policy_ports(overlay: str) -> Iterator[tuple[str, int]]:
    """Name and port of each rule of each policy that lets somebody in."""
    for name, policy in of_kind(overlay, "NetworkPolicy").items():
        for rule in policy["spec"].get("ingress", ()):
            for port in rule.get("ports", ()):
                yield name, port["port"]
