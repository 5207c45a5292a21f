"""Enough of kustomize to render `k8s/` where there is no kubectl; `test_rendering.py` compares the two where there is.

It knows resources, components of images, namespace, images, configMapGenerator of files, and patches that are lists of
JSON 6902 operations, in a file or in place. Anything else is an error.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("local", "production", "multi-gpu")

Manifest = dict[str, Any]

_KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "configMapGenerator", "patches"}
_OF_COMPONENTS = {"apiVersion", "kind", "images"}
_CLUSTER_SCOPED = {"Namespace"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(text: str) -> list[Any]:
    """All documents of a YAML text that aren't empty."""
    return [document for document in yaml.load_all(text, Loader=_LOADER) if document is not None]


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would apply. Raises ValueError for what isn't known here."""
    return copy.deepcopy(_rendered(folder.resolve()))


@cache
def _rendered(folder: Path) -> list[Manifest]:
    wanted = _kustomization(folder, _KNOWN)
    found: list[Manifest] = []
    for name in wanted.get("resources", ()):
        path = folder / name
        found += render(path) if path.is_dir() else documents(path.read_text())
    images = [image for name in wanted.get("components", ()) for image in _component_images(folder / name)]
    for generator in wanted.get("configMapGenerator", ()):
        found.append(_config_map(folder, generator, found))
    for manifest in found:
        if "namespace" in wanted and manifest["kind"] not in _CLUSTER_SCOPED:
            manifest["metadata"]["namespace"] = wanted["namespace"]
        for image in (*images, *wanted.get("images", ())):
            _rename(manifest, image)
    for patch in wanted.get("patches", ()):
        patch_all(found, patch, folder)
    return found


def _kustomization(folder: Path, known: set[str]) -> Manifest:
    wanted: Manifest
    (wanted,) = documents((folder / "kustomization.yaml").read_text())
    if unknown := set(wanted) - known:
        raise ValueError(f"{folder}: {unknown} can't be rendered here")
    return wanted


def _component_images(folder: Path) -> list[Manifest]:
    images: list[Manifest] = _kustomization(folder, _OF_COMPONENTS)["images"]
    return images


def _config_map(folder: Path, generator: Manifest, users: list[Manifest]) -> Manifest:
    options = generator.get("options", {})
    if unknown := (set(generator) - {"name", "files", "options"}) | (
        set(options) - {"disableNameSuffixHash", "labels"}
    ):
        raise ValueError(f"{folder}: configMapGenerator with {unknown} can't be rendered here")
    data = {name: (folder / name).read_text() for name in generator["files"]}
    metadata = {"labels": options["labels"]} if "labels" in options else {}
    if options.get("disableNameSuffixHash"):
        metadata = {"name": generator["name"], **metadata}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    name = f"{generator['name']}-{_suffix(data)}"
    for manifest in users:
        if not manifest["apiVersion"].startswith("ray.io/"):  # nor does kustomize know names in those
            for node in walk(manifest):
                if isinstance(node.get("configMap"), dict) and node["configMap"].get("name") == generator["name"]:
                    node["configMap"]["name"] = name
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data}


def _suffix(data: dict[str, str]) -> str:
    """Kustomize's hash: of the ConfigMap as Go writes it in JSON, without its name; ten digits without look-alikes."""
    text = json.dumps(
        {"data": data, "kind": "ConfigMap", "name": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    digits = hashlib.sha256(text.encode()).hexdigest()[:10]
    return digits.translate(str.maketrans("013ae", "ghkmt"))


def _rename(manifest: Manifest, image: Manifest) -> None:
    for node in walk(manifest):
        for container in (*(node.get("containers") or ()), *(node.get("initContainers") or ())):
            if isinstance(container, dict) and re.split(r"[:@]", container["image"])[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"


def walk(node: Any) -> Iterator[Manifest]:
    """Every mapping in a manifest, itself included."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def patch_all(found: list[Manifest], patch: Manifest, folder: Path) -> None:
    """Apply a patch to its targets, in place. Raises ValueError without one, LookupError where it doesn't fit."""
    (operations,) = documents(patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text())
    target = patch["target"]
    if not isinstance(operations, list) or set(target) - {"kind", "name"}:
        raise ValueError(f"{folder}: patch {patch} can't be rendered here")
    chosen = [
        manifest
        for manifest in found
        if manifest["kind"] == target["kind"] and re.fullmatch(target.get("name", ".*"), manifest["metadata"]["name"])
    ]
    if not chosen:
        raise ValueError(f"{folder}: patch {patch} has no target")
    for manifest in chosen:
        for operation in operations:
            apply_operation(manifest, copy.deepcopy(operation))


def apply_operation(manifest: Manifest, operation: Manifest) -> None:
    """Apply a JSON 6902 operation, in place. Raises LookupError where it doesn't fit, ValueError as `render`."""
    *parents, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].removeprefix("/").split("/")
    ]
    place: Any = manifest
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key: Any = (len(place) if last == "-" else int(last)) if isinstance(place, list) else last
    match operation["op"]:
        case "add" if isinstance(place, list):
            place.insert(key, operation["value"])
        case "add":
            place[key] = operation["value"]
        case "replace":
            _ = place[key]  # has to be there
            place[key] = operation["value"]
        case "remove":
            del place[key]
        case "test":
            if place[key] != operation["value"]:
                raise LookupError(f"{operation['path']} is {place[key]!r}")
        case other:
            raise ValueError(f"operation {other} can't be rendered here")
