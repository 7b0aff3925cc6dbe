"""What a trained network of this kind tells about itself, for `model.json` and the report."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nascore.data.batches import Split, Splits
from nascore.methods.instanas.cost_table import macs_table
from nascore.methods.instanas.decisions import explain
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import is_correct_by, judge
from nascore.seeding import Seeds

_SHUFFLES = 5  # the mean of several orders is told


def describe(
    network: Routed, splits: Splits, search: dict[str, Any], seeds: Seeds
) -> tuple[dict[str, Any], int]:
    """Policies on the validation split, and the accuracy with those of other images.

    Args:
        search: what the search has left, `points.json`.

    Returns:
        Details as JSON has them, and the mean of multiply-adds over the images.
    """
    table = macs_table(network.meta_graph, network.controller)
    judged = judge(network.meta_graph, network.controller, table, splits.valid)
    latency_N = network.latency(judged.policy_NLO.to(network.cost_LO.device)).cpu()
    shuffled = {
        f"{name}_accuracy": shuffled_accuracy(network, split, seeds.torch("shuffled", name))
        for name, split in (("valid", splits.valid), ("test", splits.test))
    }
    details = {
        "unit": search["unit"],
        "front": search["points"],
        "point": search["points"][search["chosen"]],
        "rule": search["rule"],
        "table": search["table"],
        "latency": float(latency_N.mean()),
        "valid_accuracy": judged.accuracy,
        "baseline": None,
        "policies": asdict(explain(judged.p_NLO, judged.policy_NLO, latency_N)),
        "shuffled": shuffled,
    }
    return details, round(1e6 * float(judged.latency_N.mean()))


def shuffled_accuracy(network: Routed, split: Split, generator: torch.Generator) -> float:
    """With the policies of other images of the split: the same policies, as often."""
    table = macs_table(network.meta_graph, network.controller)
    policy_NLO = judge(network.meta_graph, network.controller, table, split).policy_NLO

    def accuracy(order_N: Tensor) -> float:
        right_N = is_correct_by(network.meta_graph, policy_NLO[order_N], split)
        return float(right_N.double().mean())

    orders = [torch.randperm(len(policy_NLO), generator=generator) for _ in range(_SHUFFLES)]
    return sum(map(accuracy, orders)) / _SHUFFLES
