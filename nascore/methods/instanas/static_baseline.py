"""The control: random networks that are the same for all images.

L blocks, O operations.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nascore.data.batches import Split
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.search_points import is_correct
from nascore.methods.instanas.supernet import MetaGraph

_SPARSEST, _DENSEST = 0.05, 0.8
_DRAWS = 200  # for each that is wanted: few may be fast enough


@dataclass(frozen=True, slots=True)
class Static:
    """A network for all images, on the weights of a meta-graph.

    Attributes:
        latency: in the unit of the table; without a controller, which it does not need.
        is_correct_N: which validation images it classifies correctly.
    """

    policy_LO: Tensor
    network: nn.Module
    latency: float
    is_correct_N: Tensor


def best_static(
    graph: MetaGraph,
    table: LatencyTable,
    valid: Split,
    rng: np.random.Generator,
    *,
    number: int,
    at_most: float,
) -> Static | None:
    """Return the most accurate of random networks; None if none is fast enough.

    Args:
        number: of networks.
        at_most: largest latency, in the unit of the table.
    """
    found = []
    for policy_LO in random_within(table, rng, number=number, at_most=at_most):
        network = graph.static(policy_LO)
        right_N = is_correct(network, valid)
        found.append(Static(policy_LO, network, static_latency(table, policy_LO), right_N))
    return max(found, key=lambda one: int(one.is_correct_N.sum()), default=None)


def random_within(
    table: LatencyTable, rng: np.random.Generator, *, number: int, at_most: float
) -> list[Tensor]:
    """Sample up to `number` distinct policies (L, O), each with a random fraction of operations."""
    kept: dict[bytes, Tensor] = {}
    for _ in range(_DRAWS * number):
        policy = rng.random(tuple(table.costs_LO.shape)) < rng.uniform(_SPARSEST, _DENSEST)
        policy_LO = torch.from_numpy(policy)
        if static_latency(table, policy_LO) <= at_most:
            kept.setdefault(policy.tobytes(), policy_LO)
        if len(kept) == number:
            break
    return list(kept.values())


def static_latency(table: LatencyTable, policy_LO: Tensor) -> float:
    return float(table.predict(policy_LO[None])) + table.fixed
