"""Balance of classes in training: weights in the loss, and sampling of images by class.

N images, K classes.
"""

import torch
from torch import Tensor

from nascore.config import BalanceConfig


def class_weights(labels_N: Tensor, num_classes: int) -> Tensor:
    """Return weights N / (K * images of the class), float (K,); their mean over the images is 1."""
    counts_K = torch.bincount(labels_N, minlength=num_classes)
    return len(labels_N) / (num_classes * counts_K).float()


def random_order(labels_N: Tensor, config: BalanceConfig, generator: torch.Generator) -> Tensor:
    """Return the places of the images of one epoch, int64 (N,).

    Args:
        labels_N: int64 (N,).
        config: whether classes are balanced.
        generator: on the CPU.
    """
    count = len(labels_N)
    if config.sampling == "uniform":
        return torch.randperm(count, generator=generator)
    sorted_labels_N, places_N = labels_N.cpu().sort(stable=True)
    counts_P = sorted_labels_N.unique_consecutive(return_counts=True)[1]
    starts_P = counts_P.cumsum(0) - counts_P
    class_N = torch.randint(len(counts_P), (count,), generator=generator)
    within_N = (
        torch.rand(count, generator=generator, dtype=torch.float64) * counts_P[class_N]
    ).long()
    return places_N[starts_P[class_N] + within_N]
