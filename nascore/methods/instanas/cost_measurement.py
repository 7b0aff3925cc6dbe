"""Measurement of the operations of a meta-graph inside networks, one image at a time.

The protocol is that of `nascore.latency.op_profiler`; the networks are random policies, computed by
`run_one`. `nascore.methods.instanas.cost_table` reads the file that results.

C channels, L blocks, O operations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.errors import InputError
from nascore.latency import space_profile
from nascore.latency.op_profiler import Call, Profiler
from nascore.latency.space_profile import Check, check_table
from nascore.latency.table import OperationTable
from nascore.methods.instanas.controller import make_policy_network
from nascore.methods.instanas.cost_table import (
    CONTROLLER,
    LatencyTable,
    conditions_of,
    from_operations,
)
from nascore.methods.instanas.export import folded
from nascore.methods.instanas.options import PolicyOptions
from nascore.methods.instanas.routing import run_one
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.network import OPS
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.spaces.ops import evaluation_mode

_SPARSEST, _DENSEST = 0.1, 0.9


def measure(
    graph: MetaGraph,
    config: LatencyConfig,
    *,
    controller: nn.Module | None = None,
    num_checked: int = 0,
    seed: int = 0,
) -> tuple[OperationTable, Check | None]:
    """Measure the operations of a graph, one image at a time, as `run_one` computes them.

    Each random policy has a random fraction, 0.1 to 0.9, of all operations; one has them all.

    Args:
        controller: runs before each image, as in use.
        num_checked: further random policies, for which the prediction of the table is compared with
            the measured latency; with 0 there is no check.

    Returns:
        The table, which `from_operations` reads, and its check.

    Raises:
        InputError: the device does not exist, or `latency.batch_size` is not 1.
    """
    if config.batch_size != 1:
        raise InputError.of(
            "latency.batch_size",
            config.batch_size,
            "each image has its own network and is computed alone; set it to 1",
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
        made_for = conditions_of(graph, profiler)
    table = profiler.table(timings, made_for)
    if not timed:
        return table, None
    names = [_describe(policy) for policy in policies[num_measured + 1 :]]
    return table, check_table(table, names, timed, timings.whole, timings.disturbed)


def profile_policies(
    section: MobileSpaceConfig,
    shape: ImageShape,
    config: LatencyConfig,
    *,
    num_checked: int,
    seed: int = 0,
    policy: PolicyOptions | None = None,
) -> tuple[OperationTable, Check, LatencyTable]:
    """Run `measure` for a space, on an untrained meta-graph.

    Args:
        policy: settings of the controller of a search, which is measured too, and everything as it
            is deployed, with batch normalisation folded.
    """
    graph, controller = make_metagraph(MobileSpace(section), shape, seed=seed), None
    if policy is not None:
        controller = make_policy_network(
            shape.channels,
            graph.policy_shape,
            seed=seed,
            **policy.widths,
        )
        graph, controller = folded(graph), folded(controller)
    table, check = measure(graph, config, controller=controller, num_checked=num_checked, seed=seed)
    if check is None:
        raise ValueError(f"num_checked must be 1 or more, got {num_checked}")
    return table, check, from_operations(graph, table, controller)


def by_block(table: LatencyTable) -> list[str]:
    """Return lines with the latency of each operation in each block, in ms."""
    lines = ["", "ms, block " + "".join(f"{name:>9}" for name in OPS) + "   map"]
    for plan in table.plans:
        costs = "".join(f"{cost:9.4f}" for cost in table.costs_LO[plan.index].tolist())
        channels = f"{plan.in_channels}->{plan.out_channels}"
        lines.append(f"{plan.index:9d} {costs}   {plan.in_size}->{plan.out_size}, {channels}")
    least, most = table.reachable
    lines.append(
        f"around the blocks {table.fixed:.4f} ms; an image takes {least:.3f} to {most:.3f}"
    )
    return lines


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
    """Return the bits of each block, `01000 11010 ...`."""
    return " ".join("".join(str(int(bit)) for bit in block) for block in policy_LO)


@contextmanager
def _ready(network: nn.Module | None) -> Iterator[None]:
    """Set evaluation mode; restore mode and device at the end."""
    if network is None:
        yield
        return
    home = next(network.parameters()).device
    with evaluation_mode(network):
        try:
            yield
        finally:
            network.to(home)
