"""Asks a running API what its OpenAPI document allows, and some of what it does not."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

schemathesis.serializer.alias("application/sdp", "text/plain")

ENDLESS = ("/v1/streams/{id}/detections", "/v1/streams/{id}/live.mjpeg")
"""Answers that end with the stream only: asked for streams that do not exist."""

MAKERS = ("/v1/streams", "/v1/streams/{id}")
"""Where streams come from, which are deleted again at once."""

CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
AWAY = (502, 503)
"""Documented answers that tell of something else than the API: a source, a model or a stream that is not there."""


def ask(api: httpx.Client, examples: int) -> None:
    """Every operation ``examples`` times; fails with all undocumented answers and all failures of the server."""
    document = api.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = str(api.base_url)
    failures: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        try:
            _ask(api, operation, document, examples)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all are tried, then all failures told
            failures.append(f"{operation.label}: {error!s:.1500}")
    assert not failures, "\n\n".join(failures)


def _ask(api: httpx.Client, operation: Any, document: dict[str, Any], examples: int) -> None:
    documented = document["paths"][operation.path][operation.method]["responses"]

    @seed(5)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy())
    def each(case: Any) -> None:
        if operation.path in ENDLESS:
            case.path_parameters["id"] = "nobody"
        response = case.call(timeout=30)
        tolerated = response.status_code in AWAY and str(response.status_code) in documented
        case.validate_response(response, checks=CHECKS[1:] if tolerated else CHECKS)
        if operation.path in MAKERS and operation.method in ("post", "put") and response.status_code in (200, 201):
            api.delete(f"/v1/streams/{response.json()['spec']['id']}")

    each()
