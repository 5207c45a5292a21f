"""Who gets a place on NVDEC and NVENC: never more than there are, and nobody who did not want one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.hardware import NOTHING, Budget, Grant, device_of, fits, plan
from deployments.streams.spec import StreamSpec

OUTPUT = {"url": "file:a.mp4"}


def spec(hwaccel: str = "auto", url: str = "rtsp://camera/1", outputs: int = 0, **changes: Any) -> StreamSpec:
    source = {"url": url, "hwaccel": hwaccel}
    return StreamSpec.model_validate({"id": "gate", "source": source, "outputs": [OUTPUT] * outputs, **changes})


specs = st.builds(
    spec,
    st.sampled_from(["auto", "none", "cuda"]),
    st.sampled_from(["rtsp://camera/1", "file:clip.mp4", "testsrc://?fps=10"]),
    st.integers(0, 2),
)
counts = st.integers(0, 4)
budgets = st.builds(Budget, counts, counts, counts, counts)


@given(specs, budgets, st.booleans())
def test_a_plan_keeps_to_the_budget_and_to_the_spec(wanted: StreamSpec, budget: Budget, patient: bool) -> None:
    planned = plan(wanted, budget, patient=patient)
    grant = planned.grant
    free = budget.nvdec_taken < budget.nvdec
    encodable = budget.nvenc_taken < budget.nvenc
    if grant is None:
        assert wanted.source.hwaccel == "cuda"
        assert not free
        assert len(planned.notes) == 1
        return
    assert fits(wanted, grant), "or it would be stopped again at once"
    assert not grant.nvdec or free
    assert not grant.nvenc or (encodable and wanted.outputs)
    if patient and wanted.source.hwaccel == "auto" and wanted.source.decoded:
        assert grant.nvdec == free
    if patient:
        assert grant.nvenc == (encodable and bool(wanted.outputs))
    without = [word for word in ("decodes", "encodes") if any(note.startswith(word) for note in planned.notes)]
    wished = (wanted.source.hwaccel != "none" and wanted.source.decoded, bool(wanted.outputs))
    assert ("decodes" in without) == (wished[0] and not grant.nvdec), "who does without hears why"
    assert ("encodes" in without) == (wished[1] and not grant.nvenc)


@given(st.lists(specs, max_size=12), counts, counts)
def test_all_plans_together_keep_to_what_is_offered(wanted: list[StreamSpec], nvdec: int, nvenc: int) -> None:
    grants: list[Grant] = []
    for one in wanted:
        planned = plan(one, Budget.of({"nvdec": nvdec, "nvenc": nvenc, "CPU": 8.0}, grants))
        grants += [planned.grant] if planned.grant is not None else []
    assert sum(grant.nvdec for grant in grants) <= nvdec
    assert sum(grant.nvenc for grant in grants) <= nvenc
    for name, offered in (("nvdec", nvdec), ("nvenc", nvenc)):
        assert sum(grant.resources.get(name, 0.0) for grant in grants) <= offered


def test_by_default_nothing_is_offered_and_nothing_is_used() -> None:
    planned = plan(spec(outputs=1), Budget.of({"CPU": 4.0}, []))
    assert planned.grant == NOTHING
    assert planned.grant.resources == {}
    assert [note.partition(":")[0] for note in planned.notes] == ["decodes in software", "encodes in software"]


@pytest.mark.parametrize(
    ("hwaccel", "url", "grant", "stays"),
    [
        ("auto", "rtsp://a/1", Grant(nvdec=True), True),
        ("auto", "rtsp://a/1", NOTHING, True),
        ("cuda", "rtsp://a/1", Grant(nvdec=True), True),
        ("cuda", "rtsp://a/1", Grant(nvenc=True), False),
        ("none", "rtsp://a/1", Grant(nvdec=True), False),
        ("none", "rtsp://a/1", Grant(nvenc=True), True),
        ("cuda", "testsrc://", NOTHING, True),
        ("auto", "testsrc://", Grant(nvdec=True), False),
    ],
)
def test_which_process_can_follow_a_changed_spec(hwaccel: str, url: str, grant: Grant, stays: bool) -> None:
    assert fits(spec(hwaccel, url), grant) == stays


def test_streams_are_spread_over_the_gpus_that_a_process_sees() -> None:
    nodes = ["null", "nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps"]
    ids = [f"gate-{number}" for number in range(300)]
    taken = [device_of(stream_id, nodes, None) for stream_id in ids]
    assert all(taken.count(device) > 60 for device in range(3))
    assert set(taken) == {0, 1, 2}
    assert {device_of(stream_id, nodes, "GPU-1,GPU-2") for stream_id in ids} == {0, 1}
    assert {device_of(stream_id, ["null"], None) for stream_id in ids} == {0}
    assert [device_of(stream_id, nodes, None) for stream_id in ids] == taken
