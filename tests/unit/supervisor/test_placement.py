"""Where a stream starts: beside its replica while there is room, never on a node that drains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.hardware import NOTHING
from deployments.streams.spec import StreamSpec
from deployments.supervisor.demand import Demand
from deployments.supervisor.placement import NodeRoom, NodeSeen, place, to_leave
from deployments.supervisor.reconcile import Observed, Restart, Wanted, reconcile
from deployments.supervisor.registry import Entry

NEED = {"CPU": 0.03, "memory": 200.0}
WANTED = Demand("default", 25.0, 0.4, True)

nodes = st.lists(
    st.builds(
        lambda name, cores, used, free, memory, engine, draining: NodeRoom(
            f"n{name}",
            cores,
            used,
            {"CPU": free, "memory": memory},
            {} if engine is None else {"default": engine},
            draining,
        ),
        st.integers(0, 10**6),
        st.floats(0, 16),
        st.floats(0, 16),
        st.floats(0, 4),
        st.sampled_from([0.0, 1000.0]),
        st.none() | st.floats(-100, 300),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda node: node.node,
)


@given(nodes)
def test_a_stream_goes_where_it_can_run_and_beside_its_replica_while_there_is_room(found: list[NodeRoom]) -> None:
    at = place(WANTED, NEED, found)
    able = [node for node in found if not node.draining and node.offers(NEED)]
    if at is None:
        assert not able
        return
    (chosen,) = (node for node in able if node.node == at)
    beside = [node for node in able if "default" in node.engines and node.cores_free >= WANTED.cores]
    if beside:
        assert chosen in beside
        most = max(node.engines["default"] for node in beside)
        alike = [node for node in beside if node.engines["default"] >= most - 0.2 * abs(most)]
        assert chosen in alike
        assert chosen.cores_free == max(node.cores_free for node in alike)
    else:
        assert chosen.cores_free == max(node.cores_free for node in able)


@given(st.integers(1, 30), st.integers(2, 5))
def test_without_replicas_streams_are_spread_evenly(streams: int, count: int) -> None:
    there = [NodeRoom(f"n{n}", 64.0, 0.0, {"CPU": 64.0, "memory": 1e9}) for n in range(count)]
    for _ in range(streams):
        at = place(WANTED, NEED, there)
        there = [node.taken(WANTED, NEED) if node.node == at else node for node in there]
    used = [round(node.used / WANTED.cores) for node in there]
    assert sum(used) == streams
    assert max(used) - min(used) <= 1


def test_of_like_engines_the_one_with_idle_cpus_gets_the_stream() -> None:
    busy = NodeRoom("busy", 4.0, 2.0, {"CPU": 4.0, "memory": 1e9}, {"default": 700.0})
    idle = NodeRoom("idle", 4.0, 0.0, {"CPU": 4.0, "memory": 1e9}, {"default": 650.0})
    slow = NodeRoom("slow", 16.0, 0.0, {"CPU": 16.0, "memory": 1e9}, {"default": 300.0})
    assert place(WANTED, NEED, [busy, idle, slow]) == "idle"


def test_a_full_replica_node_is_left_for_another() -> None:
    gpu = NodeRoom("gpu", 2.0, 1.6, {"CPU": 1.0, "memory": 1e9}, {"default": 900.0})
    cpu = NodeRoom("cpu", 8.0, 1.0, {"CPU": 8.0, "memory": 1e9})
    assert place(Demand("default", 25.0, 0.1, True), NEED, [gpu, cpu]) == "gpu"
    assert place(WANTED, NEED, [gpu, cpu]) == "cpu"


def test_nodes_are_left_only_for_others() -> None:
    draining, well = NodeSeen("a", {"CPU": 2.0}, {}, True), NodeSeen("b", {"CPU": 2.0}, {})
    assert to_leave([draining, well]) == {"a"}
    assert to_leave([draining]) == frozenset()
    assert to_leave([draining, NodeSeen("head", {"CPU": 0.0}, {})]) == frozenset()


def test_streams_leave_a_draining_node_a_few_at_a_time() -> None:
    entries = [Entry(StreamSpec.model_validate({"id": f"s{n}", "source": {"url": "testsrc://"}}), 1) for n in range(10)]
    seen = [Observed(f"actor-{n}", f"s{n}", 1, 1, grant=NOTHING, leaving=n != 9) for n in range(10)]
    actions = reconcile([Wanted(entry) for entry in entries], seen, 100.0)
    assert len(actions) == 4
    assert all(isinstance(action, Restart) and action.actor != "actor-9" for action in actions)
