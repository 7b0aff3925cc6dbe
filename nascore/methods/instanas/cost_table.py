"""The cost of a policy: a time or a count of multiply-adds for each operation of each block.

    lat(policy) = sum over the operations that are computed of their entries

A block that must not be empty has the basic operation, as in the network. Source: InstaNAS (arXiv
1811.10201, released code `_profile`). Departures: an operation is measured inside networks and not
alone (`nascore.methods.instanas.cost_measurement`), with medians over many runs; stem, head and
policy network are measured too, since they are part of the latency (`LatencyTable.total`).

B images, L blocks, O operations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.errors import InputError
from nascore.latency.op_profiler import Profiler
from nascore.latency.operations import unit_key
from nascore.latency.table import MeasurementConditions, OperationTable, load, settings_sha256
from nascore.methods.instanas.supernet import MetaGraph
from nascore.spaces.base import ImageShape
from nascore.spaces.flops import count
from nascore.spaces.mobilenet.network import OPS, BlockPlan
from nascore.spaces.mobilenet.space import DEFAULT_OP, HEAD, STEM, effective, part_name

CONTROLLER = "controller"
_PHASE = "final"


@dataclass(frozen=True)
class LatencyTable:
    """The cost of each operation of each block, and of the parts that every image needs.

    `predict`, `baseline`, `baseline_max` and `baseline_min` are costs of the blocks alone, as the
    reward of InstaNAS uses them; `total` and `reachable` are whole costs of an image.

    Attributes:
        unit: `ms`, or `macs`: millions of multiply-adds.
        costs_LO: float64.
        fixed: cost of stem, head and the rest.
        controller: cost of the policy network; 0 where it was not measured.
        plans: the blocks.
    """

    unit: Literal["ms", "macs"]
    costs_LO: Tensor
    fixed: float
    controller: float
    plans: tuple[BlockPlan, ...]

    def predict(self, policy_BLO: Tensor) -> Tensor:
        """Return the cost of the computed operations, float64 (B,), on the device of the policy."""
        costs_LO = self.costs_LO.to(policy_BLO.device)
        return (effective(policy_BLO, self.plans) * costs_LO).sum(dim=(-2, -1))

    def total(self, policy_BLO: Tensor) -> Tensor:
        """Return the whole cost of each image, the controller included, (B,)."""
        return self.predict(policy_BLO) + self.fixed + self.controller

    @property
    def baseline(self) -> float:
        """Cost of the network that has the first operation everywhere, MobileNetV2."""
        return float(self.costs_LO[:, 0].sum())

    @property
    def baseline_max(self) -> float:
        """Cost of all operations."""
        return float(self.costs_LO.sum())

    @property
    def baseline_min(self) -> float:
        """Cost of the policy without operations: basic ones in blocks that need one."""
        return float(
            sum(self.costs_LO[plan.index, DEFAULT_OP] for plan in self.plans if plan.is_first)
        )

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest cost of an image.

        The smallest is below that of the empty policy if another operation than the basic one is
        the cheapest of a block that needs one.
        """
        least = sum(float(self.costs_LO[plan.index].min()) for plan in self.plans if plan.is_first)
        around = self.fixed + self.controller
        return around + least, around + self.baseline_max

    def check_target(self, target: float, *, key: str = "latency.target_ms") -> None:
        """Raise InputError if no policy can be as cheap as the target."""
        least, most = self.reachable
        if target < least:
            raise InputError.of(
                key,
                f"{target:g}",
                f"no policy can reach it: by the latency table an image costs {least:.4g} to "
                f"{most:.4g} {self.unit}, of which {self.fixed + self.controller:.4g} are fixed; "
                "raise the target, or make the network smaller",
            )


def macs_table(graph: MetaGraph, controller: nn.Module | None = None) -> LatencyTable:
    """Return a table of multiply-adds instead of time, the same on every machine."""
    costs_LO = [
        [
            _macs(graph.operation(plan.index, op), plan.in_channels, plan.in_size)
            for op in range(len(OPS))
        ]
        for plan in graph.plans
    ]
    shape, last = graph.shape, graph.plans[-1]
    around = _macs(graph.stem, shape.channels, shape.size)
    around += _macs(graph.head, last.out_channels, last.out_size)
    chosen = 0.0 if controller is None else _macs(controller, shape.channels, shape.size)
    return LatencyTable(
        "macs", torch.tensor(costs_LO, dtype=torch.float64), around, chosen, graph.plans
    )


def from_operations(
    graph: MetaGraph, table: OperationTable, controller: nn.Module | None = None
) -> LatencyTable:
    """Return the latencies of a graph's operations from a table of operations.

    Raises:
        InputError: an operation, or the policy network, is not in the table.
    """
    keys = _keys(graph, controller)
    absent = [name for name, key in keys.items() if key not in table.entries]
    if absent:
        raise InputError.of(
            "latency table",
            None,
            f"has no latency of {', '.join(absent)}; make one with this configuration: nas profile",
        )
    ms = {name: table.entries[key].ms for name, key in keys.items()}
    costs_LO = [
        [ms[part_name(block, op)] for op in range(len(OPS))] for block in range(len(graph.plans))
    ]
    return LatencyTable(
        unit="ms",
        costs_LO=torch.tensor(costs_LO, dtype=torch.float64),
        fixed=ms[STEM] + ms[HEAD] + table.rest.ms,
        controller=ms.get(CONTROLLER, 0.0),
        plans=graph.plans,
    )


def read(
    path: Path,
    graph: MetaGraph,
    config: LatencyConfig,
    *,
    controller: nn.Module | None = None,
    key: str = "latency table",
) -> LatencyTable:
    """Read a table that was measured before, of this graph on this machine.

    Raises:
        InputError: see `nascore.latency.table.load` and `from_operations`.
    """
    wanted = conditions_of(graph, Profiler({}, graph.shape, config))
    return from_operations(graph, load(path, wanted, key=key), controller)


def conditions_of(graph: MetaGraph, profiler: Profiler) -> MeasurementConditions:
    """Return the conditions of a table of this graph that a profiler measures."""
    space = graph.space
    return profiler.conditions(
        space.identifier, settings_sha256(space.config), phase=_PHASE, shape=graph.shape
    )


def _keys(graph: MetaGraph, controller: nn.Module | None) -> dict[str, str]:
    """Return the keys of all parts by name; batch 1."""
    shape, last = graph.shape, graph.plans[-1]
    image = (1, shape.channels, shape.size, shape.size)
    inputs = {STEM: image, HEAD: (1, last.out_channels, last.out_size, last.out_size)}
    for plan in graph.plans:
        given = (1, plan.in_channels, plan.in_size, plan.in_size)
        inputs |= {part_name(plan.index, op): given for op in range(len(OPS))}
    keys = {name: unit_key(graph.parts[name], given) for name, given in inputs.items()}
    return keys if controller is None else {**keys, CONTROLLER: unit_key(controller, image)}


def _macs(module: nn.Module, channels: int, size: int) -> float:
    return count(module, ImageShape(channels, size, num_classes=1)).macs / 1e6
