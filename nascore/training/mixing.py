"""Mixup and CutMix: batches in which each image is mixed with another one.

B images, C channels, H = W pixels.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nascore.config import TrainingConfig
from nascore.training.losses import Targets


def is_mixed(config: TrainingConfig) -> bool:
    """Return whether a training mixes images."""
    return config.mixup > 0 or config.cutmix > 0


def mix(
    x_BCHW: Tensor, y_B: Tensor, config: TrainingConfig, rng: np.random.Generator
) -> tuple[Tensor, Targets]:
    """Return a batch in which each image is mixed with another of the same batch.

    Mixup (arXiv 1710.09412) adds a share of the other image; CutMix (arXiv 1905.04899) replaces a
    rectangle by that of the other. With both, a batch has one of the two with equal probability.
    The label of an image has at least half of its target, so that the accuracy of training means
    the same as without mixing.

    Args:
        x_BCHW: normalised images; they are not changed.
        y_B: labels.
        config: `mixup` and `cutmix` are the parameters of the Beta distributions.
        rng: random numbers of this batch.
    """
    cuts = config.cutmix > 0 and (config.mixup == 0 or rng.random() < 0.5)
    alpha = config.cutmix if cuts else config.mixup
    share = rng.beta(alpha, alpha)
    share = max(share, 1 - share)
    other = torch.from_numpy(rng.permutation(len(x_BCHW))).to(x_BCHW.device)
    if not cuts:
        mixed = torch.lerp(x_BCHW[other], x_BCHW, share)
        return mixed, Targets(y_B, y_B[other], share)
    rows, columns = _rectangle(x_BCHW.shape[2], x_BCHW.shape[3], 1 - share, rng)
    mixed = x_BCHW.clone()
    mixed[:, :, rows, columns] = x_BCHW[other][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, Targets(y_B, y_B[other], 1 - area / (x_BCHW.shape[2] * x_BCHW.shape[3]))


def _rectangle(
    height: int, width: int, area: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Return rows and columns of a rectangle with a share of the area, clipped at the border."""
    side = math.sqrt(area)
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        slice(max(0, y - half_y), min(height, y + half_y)),
        slice(max(0, x - half_x), min(width, x + half_x)),
    )
