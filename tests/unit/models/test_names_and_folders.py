"""Which application runs which model, which folders are packages, and what streams ask of which node."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import ForbiddenPackage
from deployments.models.folders import package_folder
from deployments.models.versions import ModelState, ReplicaState
from deployments.names import MODEL_PATTERN, application_of, model_of
from deployments.streams.spec import DetectSpec, SourceSpec, StreamSpec, StreamStatus, StreamView
from serve_app.api.ports import NodeLoad
from serve_app.loads import node_loads
from tests.unit.models.test_board import INFO


@given(st.from_regex(MODEL_PATTERN, fullmatch=True))
def test_a_model_is_known_by_its_application(model: str) -> None:
    assert model_of(application_of(model)) == model


@pytest.mark.parametrize("name", ["raysight", "detector-", "detector-default", "detector-A", "detectors", "x-detector"])
def test_other_applications_are_no_models(name: str) -> None:
    assert model_of(name) is None


def test_packages_lie_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "models" / "street").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (tmp_path / "models" / "out").symlink_to(tmp_path / "private")
    root = tmp_path / "models"
    assert package_folder(root, "street") == root / "street"
    assert package_folder(root, "later/on") == root / "later" / "on"
    for outside in ("../private", "street/../../private", "out", str(tmp_path / "private"), ".", "", "a\0b"):
        with pytest.raises(ForbiddenPackage):
            package_folder(root, outside)
    with pytest.raises(ForbiddenPackage, match="models_root"):
        package_folder(None, "street")


def view(name: str, node: str, fps: float, model: str = "default", max_fps: float | None = None) -> StreamView:
    return StreamView(
        spec=StreamSpec(id=name, source=SourceSpec(url="rtsp://h"), detect=DetectSpec(model=model, max_fps=max_fps)),
        status=StreamStatus(online=True, node=node, fps={"decoded": fps}),
    )


def test_streams_count_at_their_node_or_where_there_is_room() -> None:
    replicas = (ReplicaState("a", 100.0), ReplicaState("a", 50.0), ReplicaState("b", 60.0))
    streams = [
        view("here", "b", 30.0),
        view("capped", "a", 30.0, max_fps=5.0),
        view("far", "c", 20.0),
        view("other", "a", 99.0, model="fast"),
    ]
    loads = node_loads(ModelState("default", None, INFO, replicas), streams)
    assert loads == (NodeLoad("a", 150.0, 25.0, 2), NodeLoad("b", 60.0, 30.0, 1))
    unmeasured = ModelState("default", None, INFO, (*replicas, ReplicaState("b", 0.0)))
    assert [load.engine_fps for load in node_loads(unmeasured, [])] == [150.0, None]
