"""Names by which the parts of a running system find each other."""

from __future__ import annotations

NAMESPACE = "raysight"
"""Ray namespace of every named actor: never the one of whichever job happened to deploy."""

APPLICATION = "detector"
"""Serve application of the detector, as ``serve_config.yaml`` names it."""

DEPLOYMENT = "Detector"
"""Its one deployment."""
