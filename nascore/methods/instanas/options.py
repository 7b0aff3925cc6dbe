"""Settings of InstaNAS, which chooses an architecture for each image. No torch here."""

from typing import Annotated

from pydantic import Field

from nascore.config import CommonTrainingConfig, Fraction, Positive, Section, TrainingConfig
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import MAX_GRAD_NORM, MOMENTUM, CosineOptions

_WEIGHT_DECAY = 1e-4  # as in the release, before the search and in it


class PretrainingOptions(Section):
    """Pre-training of the meta-graph: SGD with the momentum and the weight decay of the release.

    Device, flip and crop are those of the section `training`.
    """

    epochs: Positive = 12
    """Passes over the training images; 164 in the release."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of one weight update."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Highest learning rate; it falls to a hundredth along a cosine."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of a square that is blanked out; 16 in the release, 0 turns it off."""

    def resolve(self, training: CommonTrainingConfig) -> TrainingConfig:
        """Return all settings of this training: these and those that all trainings share."""
        return training.resolve_shared(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            min_lr=self.lr / 100,
            cutout=self.cutout,
            momentum=MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
        )


class MetaGraphOptions(CosineOptions):
    """Training of the weights of the meta-graph in the search."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Nesterov momentum of SGD; 0 in the release."""

    def resolve(self, training: CommonTrainingConfig) -> TrainingConfig:
        """Return all settings of this training: these and those that all trainings share."""
        return training.resolve_shared(
            batch_size=self.batch_size,
            lr=self.lr,
            min_lr=self.min_lr,
            momentum=self.momentum,
            weight_decay=_WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
        )


class PolicyOptions(Section):
    """The controller of InstaNAS, which chooses operations for each image, and its training."""

    channels: Positive = 8
    """Channels of the first stage; 16 in the release, whose controller costs a third of the scaled
    network."""
    num_stages: Annotated[int, Field(ge=1, le=6)] = 3
    """Residual stages, each after the first with half the map and twice the channels; 4 in the
    release for large images."""
    pooling: Annotated[int, Field(ge=1, le=8)] = 2
    """Side in pixels of the squares over which images are averaged first; 1 in the release for
    32x32 images."""
    alpha: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Bound of the probabilities from which policies are sampled, [1 - alpha, alpha], so that
    exploration never ends."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Learning rate of Adam."""
    lr_decay_every: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the search after which, each time, the rate falls to a tenth; 0.2 in the
    release."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.8
    """Weight in the objective of the entropy of an image's policy, in nats."""

    @property
    def widths(self) -> dict[str, int]:
        """Arguments of `nascore.methods.instanas.controller.make_policy_network`."""
        return {
            "channels": self.channels,
            "num_stages": self.num_stages,
            "pooling": self.pooling,
        }


class RewardOptions(Section):
    """The window of rewarded latencies, whose upper end falls during the search."""

    start: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Largest rewarded latency at the start of the search, as a fraction of the latency of the
    meta-graph with all its operations."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest rewarded latency at the end of the search, as a fraction of the latency of
    MobileNetV2 with the stages and channels of `search.space`."""


class AccuracyOptions(Section):
    """The accuracy that a faster network may lose."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Largest loss of validation accuracy, a fraction, against the best point of a search: the
    fastest point within it is chosen. With `latency.target_ms`, the most accurate point within the
    target is chosen instead."""


class InstanasOptions(MethodOptions):
    """InstaNAS (arXiv 1811.10201): an architecture for each image."""

    pretraining: PretrainingOptions = PretrainingOptions()
    """Pre-training of the meta-graph, before the search."""
    final_keep_prob: Fraction = 0.5
    """Probability at the end of the pre-training that an operation is not dropped."""
    drop_start: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of the pre-training after which operations are dropped, linearly more often."""
    controller: PolicyOptions = PolicyOptions()
    reward: RewardOptions = RewardOptions()
    accuracy: AccuracyOptions = AccuracyOptions()
    weights: MetaGraphOptions = MetaGraphOptions(lr=0.01)
    """Training of the meta-graph in the search."""
    turn_steps: Positive | None = None
    """Updates in a turn of the controller, and in the following turn of the meta-graph; null is one
    epoch each, as in the release."""
    num_points: Annotated[int, Field(ge=1, le=26)] = 5
    """Points A, B, ... of a search, from slow to fast, that are saved with their weights."""
    points_start: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Fraction of the search after which the first point is saved; before, the largest rewarded
    latency (`search.options.reward`) is above that of MobileNetV2."""
    table: str = "measure"
    """Latency table: `measure` measures one before the search, `macs` counts multiply-adds instead
    of time, and any other value is a file of `nas profile`."""
    baseline: bool = False
    """Whether the final training also trains MobileNetV2, with the stages and channels of
    `search.space`, for comparison, for as many epochs as pre-training, search and final training
    together."""
