"""Kubernetes' schemas, and those of custom resources in `crds/`: strict, so that a misspelt field is an error."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = "1.33"

Manifest = dict[str, Any]


def faults(manifest: Manifest) -> list[str]:
    """What of a manifest Kubernetes would refuse, or drop in silence. Raises KeyError for a kind without a schema."""
    group, _, _ = manifest["apiVersion"].rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        validator = _custom()[manifest["apiVersion"], manifest["kind"]]
        return [f"{_where(error)}: {error.message[:200]}" for error in validator.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'/'.join(map(str, error.path))}: {error.message}"]
    return []


def _where(error: jsonschema.ValidationError) -> str:
    return "/".join(map(str, error.absolute_path))


@cache
def _custom() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    found = {}
    for path in sorted((Path(__file__).parent / "crds").glob("*.json")):
        crd = json.loads(path.read_text())
        _make_strict(crd["schema"])
        crd["schema"]["properties"]["metadata"] = {"type": "object"}
        found[f"{crd['group']}/{crd['version']}", crd["kind"]] = jsonschema.Draft202012Validator(crd["schema"])
    return found


def _make_strict(schema: Any) -> None:
    """In place: no unknown fields; what has a default need not be there, as the API server fills it in first."""
    if isinstance(schema, list):
        for part in schema:
            _make_strict(part)
        return
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties", {})
    if isinstance(schema.get("required"), list):
        schema["required"] = [name for name in schema["required"] if "default" not in properties.get(name, {})]
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        schema["additionalProperties"] = False
    for part in schema.values():
        _make_strict(part)
