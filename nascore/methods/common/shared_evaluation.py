"""Evaluation of architectures with shared weights, which batch statistics normalise."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from nascore.config import Objective
from nascore.data.batches import Split
from nascore.evaluation.scoring import score_on
from nascore.genotype import Genotype
from nascore.methods.common.one_shot_loop import Batches
from nascore.training import distributed


def even_batches(split: Split, batch_size: int) -> Batches:
    """Return a split in batches of nearly equal size, since their statistics count equally."""
    count = max(1, round(split.num_images / batch_size))
    return split.eval_batches(math.ceil(split.num_images / count))


@torch.no_grad()
def scores(
    genotypes: Sequence[Genotype],
    network_of: Callable[[Genotype], nn.Module],
    split: Split,
    objective: Objective,
    *,
    batch_size: int,
    hasty: bool = False,
) -> list[float]:
    """Return the score of each architecture in an objective that is no mean over batches.

    Args:
        network_of: returns the network of an architecture on the shared weights.
        hasty: evaluate on the first batch alone.
    """
    score_N = torch.zeros(len(genotypes), dtype=torch.float64, device=split.device)
    for i in range(distributed.rank(), len(genotypes), distributed.size()):
        batches = itertools.islice(even_batches(split, batch_size), 1 if hasty else None)
        score_N[i] = score_on(objective, network_of(genotypes[i]), batches)
    distributed.sum_([score_N])
    values: list[float] = score_N.tolist()
    return values
