"""Names by which the parts of a running system find each other."""

from __future__ import annotations

import re

NAMESPACE = "raysight"
"""Ray namespace of every named actor: never the one of whichever job happened to deploy."""

APPLICATION = "detector"
"""Serve application of the model `DEFAULT_MODEL`, as ``serve_config.yaml`` names it."""

DEPLOYMENT = "Detector"
"""The one deployment of each detector application."""

SUPERVISOR = "supervisor"
"""The actor that knows which streams and models there should be."""

DEFAULT_MODEL = "default"
"""What streams name that name no model."""

MODEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"


def application_of(model: str) -> str:
    """The Serve application whose replicas run a model."""
    return APPLICATION if model == DEFAULT_MODEL else f"{APPLICATION}-{model}"


def model_of(application: str) -> str | None:
    """The model that the replicas of an application run; None where it is no detector's name."""
    if application == APPLICATION:
        return DEFAULT_MODEL
    model = application.removeprefix(f"{APPLICATION}-")
    named = model not in (application, DEFAULT_MODEL) and re.fullmatch(MODEL_PATTERN, model)
    return model if named else None
