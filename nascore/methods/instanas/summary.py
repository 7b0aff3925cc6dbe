"""Details of a trained routed network, for `model.json` and the report."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nascore.data.batches import Split, Splits
from nascore.methods.instanas.cost_table import macs_table
from nascore.methods.instanas.decisions import explain
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import evaluate, is_correct_by
from nascore.seeding import Seeds

_SHUFFLES = 5  # the mean over several orders is reported


def describe(
    network: Routed, splits: Splits, search: dict[str, Any], seeds: Seeds
) -> tuple[dict[str, Any], int]:
    """Describe the policies on the validation split, and the accuracy with those of other images.

    Args:
        search: content of `points.json`.

    Returns:
        Details as JSON, and the mean number of multiply-adds over the images.
    """
    table = macs_table(network.meta_graph, network.controller)
    evaluated = evaluate(network.meta_graph, network.controller, table, splits.valid)
    latency_N = network.latency(evaluated.policy_NLO.to(network.cost_LO.device)).cpu()
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
        "valid_accuracy": evaluated.accuracy,
        "baseline": None,
        "policies": asdict(explain(evaluated.p_NLO, evaluated.policy_NLO, latency_N)),
        "shuffled": shuffled,
    }
    return details, round(1e6 * float(evaluated.latency_N.mean()))


def shuffled_accuracy(network: Routed, split: Split, generator: torch.Generator) -> float:
    """Return the accuracy with the policies assigned to other images of the split."""
    table = macs_table(network.meta_graph, network.controller)
    policy_NLO = evaluate(network.meta_graph, network.controller, table, split).policy_NLO

    def accuracy(order_N: Tensor) -> float:
        right_N = is_correct_by(network.meta_graph, policy_NLO[order_N], split)
        return float(right_N.double().mean())

    orders = [torch.randperm(len(policy_NLO), generator=generator) for _ in range(_SHUFFLES)]
    return sum(map(accuracy, orders)) / _SHUFFLES
