"""Settings of the shared weights of a supernet."""

from typing import Annotated

from pydantic import Field

from nascore.config import Section


class SharedWeightsOptions(Section):
    """How the shared weights are trained: SGD along one sampled path a step, cosine rate."""

    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Annotated[float, Field(gt=0)] = 0.05
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0
    crop_padding: Annotated[int, Field(ge=0)] = 1
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0
