"""Settings of trainings: those that all trainings share, and those of one kind of training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nascore.config.transfer import TransferConfig
from nascore.section import Positive, Section


class BalanceConfig(Section):
    """Weight of rare classes."""

    class_weights: Literal["auto", "none", "balanced"] = "auto"
    """Weights of the classes in the loss: `balanced` gives each class the same total weight, `auto`
    is balanced where `search.objective` is balanced_accuracy or macro_f1 and images are drawn
    uniformly, else none."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """`uniform` draws each image once an epoch; `balanced` draws a class at random, then one of its
    images, with replacement, as often as there are images."""

    def for_objective(self, objective: str) -> Self:
        """Return these settings with `auto` replaced where the loss follows the objective.

        The cross-entropy with balanced weights is the surrogate of an accuracy in which all classes
        count the same; without weights it is that of the accuracy over images.
        """
        follows = objective in ("balanced_accuracy", "macro_f1") and self.sampling == "uniform"
        if self.class_weights != "auto" or not follows:
            return self
        return self.model_copy(update={"class_weights": "balanced"})


class CommonTrainingConfig(TransferConfig, BalanceConfig):
    """Section `training`: settings that are the same in every training of a run.

    The trainings of a run are those of the children, of shared weights and of the final network.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the search and of the final training; `auto` takes a GPU when there is one."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs of one machine that train one network together, a child or the final network; processes
    where there is no GPU. They divide each batch among them, so results are those of one device
    within rounding (docs/throughput.md)."""
    flip: bool = False
    """Mirror half of the images; wrong for digits and letters."""
    crop_padding: Annotated[int, Field(ge=0)] = 1
    """Zero padding in pixels on each side before a random crop; 4 for 32x32 images."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of a square that is blanked out; 0 turns it off. Children and final network
    only: shared weights are trained without it, as in ENAS and DARTS."""
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    """Learning rate at the end of the cosine schedule of children and final network."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of SGD, for children and final network."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this norm, for children and final network; null does not
    clip."""

    def resolve(self, own: "OwnTrainingConfig") -> "TrainingConfig":
        """Return all settings of one training: these and its own."""
        values = {name: getattr(own, name) for name in OwnTrainingConfig.model_fields}
        return TrainingConfig(**self._common(), **values)

    def resolve_shared(
        self, *, epochs: int = 1, batch_size: int, lr: float, cutout: int = 0, **optimiser: float
    ) -> "TrainingConfig":
        """Return all settings of a training of shared weights, whose optimiser is the method's.

        Args:
            optimiser: `min_lr`, `momentum`, `weight_decay` and, where gradients are clipped,
                `max_grad_norm`.
        """
        common = {**self._common(), "max_grad_norm": None, "cutout": cutout, **optimiser}
        return TrainingConfig(epochs=epochs, batch_size=batch_size, lr=lr, **common)

    def _common(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CommonTrainingConfig.model_fields}


class OwnTrainingConfig(Section):
    """Sections `train` and `search.child`: length, batch size and rate of one kind of training."""

    epochs: Positive = 8
    """Passes over the training images."""
    max_steps: Positive | None = None
    """At most this many weight updates, whatever the epochs: bounds the cost on larger data."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of one weight update; batch normalisation needs at least two."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Highest learning rate."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the steps in which the rate rises linearly to `lr`; 0 as in the release of
    NASES."""


class TrainingConfig(OwnTrainingConfig, CommonTrainingConfig):
    """All settings of one training: SGD with Nesterov momentum and one cosine cycle.

    `CommonTrainingConfig.resolve` makes it; training code reads nothing else.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of SGD; only methods change it."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr must be <= lr, got min_lr={self.min_lr} and lr={self.lr}; "
                "lower min_lr or raise lr"
            )
        return self
