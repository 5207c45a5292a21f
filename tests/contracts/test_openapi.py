"""The description of the API is what was agreed on: a change of it shows as a change of `openapi.json`.

After a change that is meant, write it anew:  python -m tests.contracts.test_openapi
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve_app.api.application import create_api
from tests.support.api_ports import MemoryDetector, MemoryMedia, MemoryStreams

SNAPSHOT = Path(__file__).with_name("openapi.json")


def described() -> dict[str, Any]:
    """The description that the server gives, apart from the version."""
    document: dict[str, Any] = create_api(MemoryStreams(), MemoryDetector(), MemoryMedia(), version="0").openapi()
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def _calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for methods in document["paths"].values() for call in methods.values()]


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in part.values()))
    return set().union(*(_references(value) for value in part)) if isinstance(part, list) else set()


def test_the_description_is_the_agreed_one() -> None:
    assert described() == json.loads(SNAPSHOT.read_text()), "if it is meant: python -m tests.contracts.test_openapi"


def test_every_call_is_described() -> None:
    calls = _calls(described())
    assert all(call["summary"] and call["description"] and call["tags"] for call in calls)
    assert len({call["operationId"] for call in calls}) == len(calls)


def test_every_error_is_a_problem_or_as_its_protocol_has_it() -> None:
    for path, methods in described()["paths"].items():
        of_errors = "application/json" if path.startswith("/v2") else "application/problem+json"
        for call in methods.values():
            for status, response in call["responses"].items():
                assert int(status) < 400 or list(response["content"]) == [of_errors], call["operationId"]


def test_every_reference_leads_somewhere() -> None:
    document = described()
    assert _references(document) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1, sort_keys=True) + "\n")
