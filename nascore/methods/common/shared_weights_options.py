"""Settings of the training of shared weights: SGD along sampled paths with a cosine rate.

Device, flip and crop are those of the section `training`. No torch here.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nascore.config import CommonTrainingConfig, Section, TrainingConfig

MOMENTUM = 0.9
"""Nesterov momentum, as in the released code of ENAS and DARTS."""
MAX_GRAD_NORM = 5.0
"""Gradients of shared weights are scaled down to this norm, as in the same releases."""


class CosineOptions(Section):
    """Batch size and learning rate of shared weights."""

    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of one weight update."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Highest learning rate."""
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    """Learning rate at the end of the cosine schedule."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr must be <= lr, got min_lr={self.min_lr} and lr={self.lr}; "
                "lower min_lr or raise lr"
            )
        return self


class SharedWeightsOptions(CosineOptions):
    """Training of the shared weights of a supernet."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of SGD."""

    def resolve(self, training: CommonTrainingConfig) -> TrainingConfig:
        """Return all settings of this training: these and those that all trainings share."""
        return training.resolve_shared(
            batch_size=self.batch_size,
            lr=self.lr,
            min_lr=self.min_lr,
            momentum=MOMENTUM,
            weight_decay=self.weight_decay,
            max_grad_norm=MAX_GRAD_NORM,
        )
