"""``serve_config.yaml`` means what it says: every key is known, and every value fits its schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.names import APPLICATION, DEPLOYMENT
from serve_app.config import AppArgs

CONFIG = Path(__file__).resolve().parents[2] / "serve_config.yaml"


def config() -> dict[str, Any]:
    """The file as it is."""
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return loaded


def application(name: str) -> dict[str, Any]:
    """One application of the file."""
    return next(application for application in config()["applications"] if application["name"] == name)


def unknown_keys(data: Any, schema: type[BaseModel], path: str = "") -> Iterator[str]:
    """Keys that Serve would drop in silence; free-form dictionaries, such as ``args``, are not looked into."""
    for key, value in data.items():
        if key not in schema.model_fields:
            yield f"{path}{key}"
            continue
        inner = next(_models(schema.model_fields[key].annotation), None)
        for item in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(item, dict):
                yield from unknown_keys(item, inner, f"{path}{key}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def test_serve_knows_every_key() -> None:
    ServeDeploySchema.model_validate(config())
    assert list(unknown_keys(config(), ServeDeploySchema)) == []


def test_the_api_is_on_the_loopback() -> None:
    assert config()["http_options"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(("name", "schema"), [(APPLICATION, DetectorConfig), ("raysight", AppArgs)])
def test_args_fit_what_the_builder_takes(name: str, schema: type[BaseModel]) -> None:
    given = application(name)
    module, _, builder = given["import_path"].partition(":")
    (parameter,) = inspect.signature(getattr(import_module(module), builder)).parameters.values()
    assert parameter.annotation is schema
    schema.model_validate(given["args"])
    with pytest.raises(ValidationError):
        schema.model_validate({**given["args"], "no_such_argument": 1})


def test_user_config_fits_the_detector() -> None:
    (deployment,) = application(APPLICATION)["deployments"]
    assert deployment["name"] == DEPLOYMENT
    DetectorSettings.model_validate(deployment["user_config"])
    with pytest.raises(ValidationError):
        DetectorSettings.model_validate({**deployment["user_config"], "no_such_setting": 1})


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"proxy_place": "HeadOnly"}, "proxy_place"),
        ({"http_options": {"hots": "127.0.0.1"}}, "http_options.hots"),
        ({"applications": [{"import_path": "a:b", "argz": {}}]}, "applications.argz"),
        ({"applications": [{"deployments": [{"name": "D", "replicas": 2}]}]}, "applications.deployments.replicas"),
        ({"logging_config": {"level": "INFO"}}, "logging_config.level"),
    ],
)
def test_an_unknown_key_is_found(change: dict[str, Any], unknown: str) -> None:
    assert list(unknown_keys(change, ServeDeploySchema)) == [unknown]
