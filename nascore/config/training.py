"""Settings of the training of one network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.section import Positive, Section


class TrainingConfig(Section):
    """SGD with Nesterov momentum and one cosine cycle, as NASES trains children and winner."""

    epochs: Positive = 8
    """Passes over the training images."""
    max_steps: Positive | None = None
    """At most this many weight updates, whatever the epochs: bounds the cost on larger data."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Batch normalisation needs at least two images."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Highest learning rate."""
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    """Learning rate at the end of the cosine schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of SGD."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps in which the rate rises linearly to `lr`; 0 as in the release."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this norm; not clipped when null."""
    crop_padding: Annotated[int, Field(ge=0)] = 1
    """Zero padding in pixels on each side before a random crop; 4 for 32x32 images."""
    flip: bool = False
    """Mirror half of the images; wrong for digits and letters."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of a square that is blanked out; 0 turns it off."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU when there is one."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr must be <= lr, got min_lr={self.min_lr} and lr={self.lr}; "
                "lower min_lr or raise lr"
            )
        return self


class BalanceConfig(Section):
    """What rare classes count for, in the training of children, shared weights and winner alike."""

    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss; `balanced`: each class weighs the same in all."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """How images are drawn: each once an epoch, or `balanced`: a class at random, then an image of
    it, with replacement, as many as there are images."""
