"""The file: specs by id, credentials as references that are looked up elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from deployments.errors import said
from deployments.streams.spec import StreamSpec
from deployments.streams.urls import redact
from serve_app.fleet.errors import FleetError

VARIABLE = "RAYSIGHT_CREDENTIALS_"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream of the file.

    Attributes:
        spec: as `GET /v1/export` shows it: without id, defaults and credentials.
        body: what to send; credentials that could be looked up are in it.
        unknown: references that could not be.
    """

    spec: dict[str, Any]
    body: dict[str, Any]
    unknown: tuple[str, ...]


class Secrets:
    """What references stand for."""

    def __init__(self, by_name: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._by_name = by_name
        self._environment = environment

    def find(self, name: str) -> Any | None:
        """Credentials as the API takes them; None where nobody knows them."""
        found = self._by_name.get(name)
        if found is None:
            found = self._environment.get(variable_of(name))
        return _credentials(name, found) if found is not None else None


def variable_of(name: str) -> str:
    """The environment's variable for a reference."""
    return VARIABLE + "".join(letter if letter.isalnum() else "_" for letter in name.upper())


def read_secrets(text: str, environment: Mapping[str, str]) -> Secrets:
    """From a YAML file's text: by name, each ``user:password`` or a mapping. Raises FleetError."""
    return Secrets(_mapping(text, "the file of secrets"), environment)


def read_fleet(text: str, secrets: Secrets) -> dict[str, Wanted]:
    """From a YAML file's text, checked as the server would. Raises FleetError, which quotes no secret."""
    found = _mapping(text, "the file")
    fleet = found.get("streams")
    if not isinstance(fleet, dict) or set(found) != {"streams"}:
        raise FleetError("the file must hold `streams:` and below it each stream's spec by its id")
    return {str(stream_id): _wanted(str(stream_id), spec, secrets) for stream_id, spec in fleet.items()}


class _Loader(yaml.SafeLoader):
    """Refuses a name that a mapping has twice, of which YAML's last would win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            if name.value in seen:
                raise FleetError(f"line {name.start_mark.line + 1}: {name.value!r} is there twice: leave one out")
            seen.add(name.value)
        return node


def _mapping(text: str, what: str) -> dict[str, Any]:
    try:
        found = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise FleetError(f"{what} is no YAML" + (f": see line {place.line + 1}" if place else "")) from None
    if found is not None and not isinstance(found, dict):
        raise FleetError(f"{what} must be a mapping")
    return found or {}


def _wanted(stream_id: str, spec: Any, secrets: Secrets) -> Wanted:
    if not isinstance(spec, dict):
        raise FleetError(f"stream {stream_id}: its spec must be a mapping")
    try:
        body: dict[str, Any] = json.loads(json.dumps(spec, default=str))
    except (TypeError, ValueError):
        raise FleetError(f"stream {stream_id}: its names must be texts, and it can't hold itself") from None
    if body.get("id", stream_id) != stream_id:
        raise FleetError(f"stream {stream_id}: `id` says {body['id']!r}: leave it out")
    unknown = []
    for part in _addressed(body):
        given = part.get("credentials")
        if isinstance(given, dict) and set(given) == {"ref"}:
            del part["credentials"]
            known = secrets.find(str(given["ref"]))
            if known is None:
                unknown.append(str(given["ref"]))
            else:
                part["credentials"] = known
    try:
        checked = StreamSpec.model_validate({**body, "id": stream_id})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FleetError(f"stream {stream_id}: {place}: {redact(said(first))}") from None
    shown: dict[str, Any] = checked.model_dump(mode="json", exclude={"id"}, exclude_defaults=True)
    return Wanted(shown, body, tuple(unknown))


def _addressed(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lists = (body.get("outputs"), body.get("sinks"))
    parts = [body.get("source"), *(part for parts in lists if isinstance(parts, list) for part in parts)]
    return (part for part in parts if isinstance(part, dict))


def _credentials(name: str, found: Any) -> dict[str, Any]:
    if isinstance(found, str) and found.lstrip().startswith("{"):
        try:
            found = json.loads(found)
        except ValueError:
            raise FleetError(f"what {name} stands for is neither user:password nor JSON") from None
    if isinstance(found, str):
        username, colon, password = found.partition(":")
        return {"username": username, **({"password": password} if colon else {})}
    if not isinstance(found, dict):
        raise FleetError(f"what {name} stands for must be user:password, or have username, password, query, path")
    return found
