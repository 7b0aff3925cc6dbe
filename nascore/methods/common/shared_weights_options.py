"""Settings of the shared weights of a supernet."""

from typing import Annotated

from pydantic import Field

from nascore.config import Section


class SharedWeightsOptions(Section):
    """How the shared weights are trained: SGD along one sampled path a step, cosine rate."""

    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of one update."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Highest learning rate."""
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    """Learning rate at the end of the cosine schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of SGD."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0
    """Gradients are scaled down to this norm; not clipped when null."""
    crop_padding: Annotated[int, Field(ge=0)] = 1
    """Pixels of padding before a random crop; 0 does not crop."""
    flip: bool = False
    """Random horizontal flips."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of the square that is erased; 0 erases none."""
