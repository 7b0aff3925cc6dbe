"""What a policy costs: by measurement, and by count."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from nascore.config import LatencyConfig
from nascore.errors import InputError
from nascore.latency import op_profiler, space_profile
from nascore.latency.table import OperationTable
from nascore.methods.instanas.controller import make_policy_network
from nascore.methods.instanas.cost_measurement import measure, profile_policies
from nascore.methods.instanas.cost_table import LatencyTable, from_operations, macs_table, read
from nascore.methods.instanas.reward import WindowSchedule
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.flops import count
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import DEFAULT_OP, MobileSpace

SHAPE = ImageShape(channels=3, size=8, num_classes=10)
CONFIG = MobileSpaceConfig(stages=((8, 2, 1), (12, 2, 2)), stem_channels=8, head_channels=16)
QUICK = LatencyConfig(device="cpu", threads=1, warmup_runs=1, runs=20)


@pytest.fixture(scope="module", autouse=True)
def few_runs() -> Iterator[None]:
    """Of few networks, also where the machine is busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space_profile, "NUM_MEASURED", 4)
        patch.setattr(op_profiler, "_PATIENCE", 1)
        yield


@pytest.fixture(scope="module")
def graph() -> MetaGraph:
    return make_metagraph(MobileSpace(CONFIG), SHAPE, seed=0)


@pytest.fixture(scope="module")
def controller(graph: MetaGraph) -> nn.Module:
    return make_policy_network(3, graph.policy_shape, seed=0, channels=4)


@pytest.fixture(scope="module")
def measured(graph: MetaGraph, controller: nn.Module) -> OperationTable:
    table, check = measure(graph, QUICK, controller=controller)
    assert check is None
    return table


def policies(graph: MetaGraph, number: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((number, *graph.policy_shape), generator=generator) < 0.4


# --- by count -------------------------------------------------------------------------------


def test_a_count_is_what_the_network_of_the_policy_has(graph: MetaGraph) -> None:
    table, policy_BLO = macs_table(graph), policies(graph)
    expected = [count(graph.static(one), SHAPE).macs / 1e6 for one in policy_BLO]
    assert table.total(policy_BLO).tolist() == pytest.approx(expected)
    assert torch.equal(macs_table(graph).costs_LO, table.costs_LO)


def test_the_policy_network_is_paid_for(graph: MetaGraph, controller: nn.Module) -> None:
    alone, chosen = macs_table(graph), macs_table(graph, controller)
    assert alone.controller == 0
    assert chosen.controller == pytest.approx(count(controller, SHAPE).macs / 1e6)
    policy_BLO = policies(graph)
    difference = chosen.total(policy_BLO) - alone.total(policy_BLO)
    assert difference.tolist() == pytest.approx([chosen.controller] * len(policy_BLO))
    assert torch.equal(chosen.predict(policy_BLO), alone.predict(policy_BLO))


def test_nothing_costs_the_minimum_and_everything_the_maximum(graph: MetaGraph) -> None:
    table = macs_table(graph)
    shape = (1, *graph.policy_shape)
    none, everything = torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    assert table.predict(none).item() == pytest.approx(table.baseline_min)
    assert table.predict(everything).item() == pytest.approx(table.baseline_max)
    first = torch.zeros(shape, dtype=torch.bool)
    first[..., 0] = True
    assert table.predict(first).item() == pytest.approx(table.baseline)
    assert table.baseline_min == pytest.approx(
        float(table.costs_LO[0, DEFAULT_OP] + table.costs_LO[2, DEFAULT_OP])
    )


def test_a_policy_costs_the_same_whatever_stands_beside_it(graph: MetaGraph) -> None:
    table, policy_BLO = macs_table(graph), policies(graph)
    policy_BLO[0] = False
    alone = torch.cat([table.predict(one[None]) for one in policy_BLO])
    assert torch.equal(alone, table.predict(policy_BLO))
    assert table.predict(policy_BLO).dtype == torch.float64


def test_what_can_be_reached(graph: MetaGraph) -> None:
    """No policy is cheaper than the least or dearer than the most, and both are reached."""
    table = macs_table(graph)
    least, most = table.reachable
    policy_BLO = policies(graph, 500)
    totals = table.total(policy_BLO)
    assert least <= totals.min()
    assert totals.max() <= most
    cheapest = torch.zeros(graph.policy_shape, dtype=torch.bool)
    for plan in graph.plans:
        if plan.is_first:
            cheapest[plan.index, table.costs_LO[plan.index].argmin()] = True
    assert table.total(cheapest[None]).item() == pytest.approx(least)


def test_a_target_that_no_policy_reaches_is_refused_with_the_range(graph: MetaGraph) -> None:
    table = macs_table(graph)
    least, most = table.reachable
    table.check_target(least * 1.01)
    table.check_target(most * 2)
    with pytest.raises(InputError) as caught:
        table.check_target(least * 0.99)
    assert "latency.target_ms" in str(caught.value)
    assert f"{least:.4g} to {most:.4g} macs" in str(caught.value)


def test_a_window_can_be_made_of_a_table(graph: MetaGraph) -> None:
    table = macs_table(graph)
    schedule = WindowSchedule(
        minimum=0.2 * table.baseline, baseline=table.baseline, maximum=table.baseline_max
    )
    assert schedule.at(1.0).upper == pytest.approx(0.5 * table.baseline)


# --- by measurement -------------------------------------------------------------------------


def test_a_measured_table_has_every_operation(
    graph: MetaGraph, controller: nn.Module, measured: OperationTable
) -> None:
    table = from_operations(graph, measured, controller)
    assert table.unit == "ms"
    assert table.costs_LO.shape == graph.policy_shape
    assert (table.costs_LO > 0).all()
    assert table.fixed > 0
    assert table.controller > 0
    assert measured.made_for.batch_size == 1
    assert all(entry.runs >= 5 for entry in measured.entries.values())


def test_the_graph_is_left_as_it_was(graph: MetaGraph) -> None:
    graph.train()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    measure(graph, QUICK)
    assert all(module.training for module in graph.modules())
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert not any(module._forward_hooks for module in graph.modules())


def test_a_table_is_read_where_it_was_made_and_refused_elsewhere(
    graph: MetaGraph, controller: nn.Module, measured: OperationTable, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    measured.save(path)
    found = read(path, graph, QUICK, controller=controller)
    made = from_operations(graph, measured, controller)
    assert torch.equal(found.costs_LO, made.costs_LO)
    assert (found.fixed, found.controller) == (made.fixed, made.controller)
    other = ImageShape(3, 16, 10)
    larger = make_metagraph(MobileSpace(CONFIG), other, seed=0)
    with pytest.raises(InputError, match=r"image size = 8: here it is 16.*nas profile"):
        read(path, larger, QUICK)
    with pytest.raises(InputError, match="threads = 1: here it is 2"):
        read(path, graph, QUICK.model_copy(update={"threads": 2}))
    wider = make_metagraph(
        MobileSpace(CONFIG.model_copy(update={"head_channels": 32})), SHAPE, seed=0
    )
    with pytest.raises(InputError, match="settings of the space"):
        read(path, wider, QUICK)
    foreign = dataclasses.replace(measured.made_for, device="Abacus")
    dataclasses.replace(measured, made_for=foreign).save(path)
    with pytest.raises(InputError, match="device = Abacus: here it is"):
        read(path, graph, QUICK)


def test_a_table_without_the_policy_network_is_refused_where_one_is_used(
    graph: MetaGraph, controller: nn.Module, measured: OperationTable
) -> None:
    own = dataclasses.replace(
        measured,
        entries={k: v for k, v in measured.entries.items() if not k.startswith("PolicyNetwork")},
    )
    assert from_operations(graph, own).controller == 0
    with pytest.raises(InputError, match="has no latency of controller; make one"):
        from_operations(graph, own, controller)


def test_several_images_at_a_time_are_refused(graph: MetaGraph) -> None:
    with pytest.raises(InputError, match=r"latency\.batch_size = 4: .*is computed alone"):
        measure(graph, QUICK.model_copy(update={"batch_size": 4}))


def test_the_table_orders_policies_as_the_clock_does() -> None:
    """Loosely: the networks are tiny, the runs few, and the machine may be busy."""
    _, check, table = profile_policies(CONFIG, SHAPE, QUICK, num_checked=20)
    assert isinstance(table, LatencyTable)
    assert len(set(check.names)) == 20
    assert check.spearman is not None
    assert check.spearman > 0.6


@pytest.mark.timing
def test_the_table_holds_against_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The space as it is by default, on 50 random policies."""
    monkeypatch.setattr(space_profile, "NUM_MEASURED", 16)
    _, check, _ = profile_policies(
        MobileSpaceConfig(), ImageShape(3, 32, 10), QUICK, num_checked=50
    )
    if check.disturbed > 0.25:
        pytest.skip(f"{check.disturbed:.0%} of the runs were interrupted by other processes")
    assert check.spearman is not None
    assert check.spearman >= 0.95
    assert check.mean_absolute_error <= 0.1
