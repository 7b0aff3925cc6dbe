"""Settings of trainings: those that all trainings share, and those of one kind of training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nascore.config.recipes import (
    MAX_LR_OF_ADAPTIVE,
    NOT_FOR_CHILDREN,
    PAPER,
    SWITCHES,
    RecipeName,
    resolve_switches,
)
from nascore.config.transfer import TransferConfig
from nascore.section import Positive, Section

OptimizerName = Literal["sgd", "adamw", "muon"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
AutoAugment = Literal["none", "trivial", "rand"]
_Share = Annotated[float, Field(ge=0, lt=1)]


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
    min_lr: Annotated[float, Field(ge=0)] | None = None
    """Learning rate at the end of the cosine schedule of children and final network."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay of kernels, for children and final network."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this norm, for children and final network; null does not
    clip."""
    recipe: RecipeName = "paper"
    """Values of the settings of children and final network that are null (docs/training.md):
    `paper` is SGD with one cosine, `quick` adds what pays in minutes, `strong` what pays in
    long trainings."""
    label_smoothing: _Share | None = None
    """Share of the target that is spread over all classes."""
    ema: Annotated[float, Field(ge=0, le=0.5)] | None = None
    """Weights are averaged exponentially over this share of the training, and the average is
    evaluated and kept; 0 turns it off."""
    test_time_flip: bool | None = None
    """The final network averages its logits over an image and its mirror image, where `flip` is
    on; doubles its latency."""
    auto_augment: AutoAugment | None = None
    """Random operations on each image: TrivialAugment, or RandAugment with two operations."""
    mixup: Annotated[float, Field(ge=0)] | None = None
    """Mix pairs of images with shares from Beta(a, a); 0 turns it off."""
    cutmix: Annotated[float, Field(ge=0)] | None = None
    """Replace a rectangle by that of another image, its area from Beta(a, a); 0 turns it off. With
    `mixup`, each batch has one of the two."""
    optimizer: OptimizerName | None = None
    """SGD with Nesterov momentum, AdamW, or Muon with AdamW for what is no kernel; the last two
    need a learning rate of at most 0.02."""
    channels_last: bool | None = None
    """Store tensors with channels last, which is faster on GPUs with tensor cores."""
    precision: Precision | None = None
    """Precision of the forward pass; `auto` is bf16 or fp16 where a GPU computes with it, else
    fp32."""
    compile: bool | None = None
    """Compile the final training by `torch.compile`; costs up to minutes at the start."""

    def switch(self, name: str) -> Any:
        """Return the value of a switch: that of the recipe where it is null."""
        return resolve_switches(self._common())[name]

    def resolve(self, own: "OwnTrainingConfig") -> "TrainingConfig":
        """Return all settings of one training, none of them null: these and its own."""
        values = {name: getattr(own, name) for name in OwnTrainingConfig.model_fields}
        return TrainingConfig(**self._common(), **values)

    def resolve_child(self, own: "OwnTrainingConfig") -> "TrainingConfig":
        """Return all settings of the training of a child: the same, without those for long ones."""
        return self.resolve(own).model_copy(update=dict(NOT_FOR_CHILDREN))

    def resolve_shared(
        self, *, epochs: int = 1, batch_size: int, lr: float, cutout: int = 0, **optimiser: float
    ) -> "TrainingConfig":
        """Return all settings of a training of shared weights, whose optimiser is the method's.

        No recipe changes it.

        Args:
            optimiser: `min_lr`, `momentum`, `weight_decay` and, where gradients are clipped,
                `max_grad_norm`.
        """
        own = {"recipe": "paper", "max_grad_norm": None, "cutout": cutout, **optimiser}
        common = {**self._common(), **dict.fromkeys(SWITCHES), **own}
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
    warmup_fraction: _Share | None = None
    """Fraction of the steps in which the rate rises linearly to `lr`; null takes that of
    `training.recipe`, 0 in `paper` as in the release of NASES."""


class TrainingConfig(OwnTrainingConfig, CommonTrainingConfig):
    """All settings of one training, with the values of its recipe; null switches take them here.

    `CommonTrainingConfig.resolve` makes it; training code reads nothing else.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum of SGD; only methods change it."""

    warmup_fraction: _Share = PAPER["warmup_fraction"]
    min_lr: float = PAPER["min_lr"]
    weight_decay: float = PAPER["weight_decay"]
    label_smoothing: float = PAPER["label_smoothing"]
    ema: float = PAPER["ema"]
    test_time_flip: bool = PAPER["test_time_flip"]
    auto_augment: AutoAugment = PAPER["auto_augment"]
    mixup: float = PAPER["mixup"]
    cutmix: float = PAPER["cutmix"]
    optimizer: OptimizerName = PAPER["optimizer"]
    channels_last: bool = PAPER["channels_last"]
    precision: Precision = PAPER["precision"]
    compile: bool = PAPER["compile"]

    @model_validator(mode="before")
    @classmethod
    def _take_recipe(cls, data: Any) -> Any:
        return {**data, **resolve_switches(data)}

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr must be <= lr, got min_lr={self.min_lr} and lr={self.lr}; "
                "lower min_lr or raise lr"
            )
        if self.optimizer != "sgd" and self.lr > MAX_LR_OF_ADAPTIVE:
            raise ValueError(
                f"{self.optimizer} needs lr <= {MAX_LR_OF_ADAPTIVE}, got {self.lr}; try 0.002"
            )
        return self
