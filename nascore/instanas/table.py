"""What a policy costs an image: a time or a count for each operation of each block.

    lat(policy) = sum over the operations that are computed of their entries

A block that must not be empty has the basic operation, as in the network. Source: InstaNAS (arXiv
1811.10201, released code `_profile`). Departures: an operation is timed inside the networks that
run it and not alone, by the protocol of `nascore.profiling`, with medians over many runs; stem,
head and policy network are timed, too, since an image pays for them (`LatencyTable.total`).

B images, L blocks, O operations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nascore import space_profile
from nascore.config import LatencyConfig, MobileSpaceConfig
from nascore.counting import count
from nascore.errors import InputError
from nascore.instanas.controller import make_policy_network
from nascore.instanas.export import folded
from nascore.instanas.metagraph import MetaGraph, make_metagraph
from nascore.instanas.routing import run_one
from nascore.methods.options import PolicyOptions
from nascore.operation_table import OperationTable, load, settings_sha256
from nascore.ops import evaluation_mode
from nascore.profiling import Call, Profiler, circumstances, unit_key
from nascore.space_profile import Check, held_against
from nascore.spaces import ImageShape
from nascore.spaces.mobile import (
    DEFAULT_OP,
    HEAD,
    OPS,
    STEM,
    BlockPlan,
    MobileSpace,
    effective,
    part_name,
)

CONTROLLER = "controller"
_PHASE = "final"
_SPARSEST, _DENSEST = 0.1, 0.9


@dataclass(frozen=True)
class LatencyTable:
    """The cost of each operation of each block, and of what every image goes through.

    `predict`, `baseline`, `baseline_max` and `baseline_min` are of the blocks alone, as the reward
    of InstaNAS has them; `total` and `reachable` are all that an image takes.

    Attributes:
        unit: `ms`, or `macs`: millions of multiply-adds.
        costs_LO: float64.
        fixed: of stem and head, and what comes after.
        controller: of the policy network; 0 where it was not measured.
        plans: the blocks.
    """

    unit: Literal["ms", "macs"]
    costs_LO: Tensor
    fixed: float
    controller: float
    plans: tuple[BlockPlan, ...]

    def predict(self, policy_BLO: Tensor) -> Tensor:
        """Cost of the operations that are computed, float64 (B,), on the device of the policy."""
        costs_LO = self.costs_LO.to(policy_BLO.device)
        return (effective(policy_BLO, self.plans) * costs_LO).sum(dim=(-2, -1))

    def total(self, policy_BLO: Tensor) -> Tensor:
        """All that an image takes, the choice of its policy included, (B,)."""
        return self.predict(policy_BLO) + self.fixed + self.controller

    @property
    def baseline(self) -> float:
        """Of the network that has the first operation everywhere, MobileNetV2's."""
        return float(self.costs_LO[:, 0].sum())

    @property
    def baseline_max(self) -> float:
        """Of all operations."""
        return float(self.costs_LO.sum())

    @property
    def baseline_min(self) -> float:
        """Of the policy without an operation: basic ones where there must be one."""
        return float(
            sum(self.costs_LO[plan.index, DEFAULT_OP] for plan in self.plans if plan.is_first)
        )

    @property
    def reachable(self) -> tuple[float, float]:
        """The least and the most that a policy can cost an image, in all.

        The least is below that of the empty policy where another operation than the basic one is
        the cheapest of a block that must have one.
        """
        least = sum(float(self.costs_LO[plan.index].min()) for plan in self.plans if plan.is_first)
        around = self.fixed + self.controller
        return around + least, around + self.baseline_max

    def check_target(self, target: float, *, key: str = "latency.target_ms") -> None:
        """Raises InputError when no policy can be as cheap as that."""
        least, most = self.reachable
        if target < least:
            raise InputError.of(
                key,
                f"{target:g}",
                f"no policy can reach it: by the latency table an image costs {least:.4g} to "
                f"{most:.4g} {self.unit}, {self.fixed + self.controller:.4g} of it in any case; "
                "raise the target, or make the network smaller",
            )


def macs_table(graph: MetaGraph, controller: nn.Module | None = None) -> LatencyTable:
    """Multiply-adds instead of time: the same on every machine."""
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
    """The times of a graph's operations, from a table that holds them.

    Raises:
        InputError: it does not hold one of them, such as the policy network.
    """
    keys = _keys(graph, controller)
    absent = [name for name, key in keys.items() if key not in table.entries]
    if absent:
        raise InputError.of(
            "latency table",
            None,
            f"holds no time for {', '.join(absent)}; make one with this configuration: nas profile",
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


def measure(
    graph: MetaGraph,
    config: LatencyConfig,
    *,
    controller: nn.Module | None = None,
    num_checked: int = 0,
    seed: int = 0,
) -> tuple[OperationTable, Check | None]:
    """Times the operations of a graph, one image at a time, as `run_one` computes them.

    Random policies have from a tenth to nine tenths of all operations, each its own share; one has
    them all.

    Args:
        controller: is run before each image, as in use.
        num_checked: further random policies, on which the table is held against the clock; with 0
            there is no check.

    Returns:
        The table, to be saved and to be read by `from_operations`; and its check.

    Raises:
        InputError: the device is not there, or `latency.batch_size` is not 1.
    """
    if config.batch_size != 1:
        raise InputError.of(
            "latency.batch_size",
            config.batch_size,
            "images have networks of their own and are computed one at a time; set it to 1",
        )
    rng = np.random.default_rng(seed)
    num_measured = space_profile.NUM_MEASURED
    policies = [torch.ones(graph.policy_shape, dtype=torch.bool)]
    policies += [_random_policy(graph, rng) for _ in range(num_measured + num_checked)]
    parts = dict(graph.parts.items()) | ({} if controller is None else {CONTROLLER: controller})
    with _ready(graph), _ready(controller):
        profiler = Profiler(parts, graph.shape, config)
        runners = [profiler.runner(_of_policy(graph, controller, one)) for one in policies]
        measured, timed = runners[: num_measured + 1], runners[num_measured + 1 :]
        timings = profiler.run(measured, timed, rng=rng)
        made_for = circumstances(
            graph.space.identifier,
            settings_sha256(graph.space.config),
            _PHASE,
            graph.shape,
            profiler,
        )
    table = profiler.table(timings, made_for)
    if not timed:
        return table, None
    names = [_describe(policy) for policy in policies[num_measured + 1 :]]
    return table, held_against(table, names, timed, timings.whole, timings.disturbed)


def profile_policies(
    section: MobileSpaceConfig,
    shape: ImageShape,
    config: LatencyConfig,
    *,
    num_checked: int,
    seed: int = 0,
    policy: PolicyOptions | None = None,
) -> tuple[OperationTable, Check, LatencyTable]:
    """`measure` for a space, on a meta-graph that nobody has trained; see there.

    Args:
        policy: of the search that the table is for; then its controller is timed, too, and all of
            it as it is deployed, with batch normalisation folded.
    """
    graph, controller = make_metagraph(MobileSpace(section), shape, seed=seed), None
    if policy is not None:
        controller = make_policy_network(
            shape.channels,
            graph.policy_shape,
            seed=seed,
            channels=policy.channels,
            num_stages=policy.num_stages,
            pooling=policy.pooling,
        )
        graph, controller = folded(graph), folded(controller)
    table, check = measure(graph, config, controller=controller, num_checked=num_checked, seed=seed)
    if check is None:
        raise ValueError(f"num_checked must be 1 or more, got {num_checked}")
    return table, check, from_operations(graph, table, controller)


def read(
    path: Path,
    graph: MetaGraph,
    config: LatencyConfig,
    *,
    controller: nn.Module | None = None,
    key: str = "latency table",
) -> LatencyTable:
    """A table that was measured before, if it is of this graph on this machine.

    Raises:
        InputError: see `nascore.operation_table.load` and `from_operations`.
    """
    profiler = Profiler({}, graph.shape, config)
    wanted = circumstances(
        graph.space.identifier, settings_sha256(graph.space.config), _PHASE, graph.shape, profiler
    )
    return from_operations(graph, load(path, wanted, key=key), controller)


def _keys(graph: MetaGraph, controller: nn.Module | None) -> dict[str, str]:
    """Of all parts, by their names; batch 1."""
    shape, last = graph.shape, graph.plans[-1]
    image = (1, shape.channels, shape.size, shape.size)
    inputs = {STEM: image, HEAD: (1, last.out_channels, last.out_size, last.out_size)}
    for plan in graph.plans:
        given = (1, plan.in_channels, plan.in_size, plan.in_size)
        inputs |= {part_name(plan.index, op): given for op in range(len(OPS))}
    keys = {name: unit_key(graph.parts[name], given) for name, given in inputs.items()}
    return keys if controller is None else {**keys, CONTROLLER: unit_key(controller, image)}


def _of_policy(graph: MetaGraph, controller: nn.Module | None, policy_LO: Tensor) -> Call:
    def call(x_1CHW: Tensor) -> Tensor:
        if controller is not None:
            controller(x_1CHW)
        return run_one(graph, x_1CHW, policy_LO)

    return call


def _random_policy(graph: MetaGraph, rng: np.random.Generator) -> Tensor:
    share = rng.uniform(_SPARSEST, _DENSEST)
    return torch.from_numpy(rng.random(graph.policy_shape) < share)


def _describe(policy_LO: Tensor) -> str:
    """Bits of each block, `01000 11010 ...`."""
    return " ".join("".join(str(int(bit)) for bit in block) for block in policy_LO)


@contextmanager
def _ready(network: nn.Module | None) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards mode and device are what they were."""
    if network is None:
        yield
        return
    home = next(network.parameters()).device
    with evaluation_mode(network):
        try:
            yield
        finally:
            network.to(home)


def _macs(module: nn.Module, channels: int, size: int) -> float:
    return count(module, ImageShape(channels, size, num_classes=1)).macs / 1e6
