"""Settings of InstaNAS, which chooses an architecture for each image. No torch here."""

from typing import Annotated

from pydantic import Field

from nascore.config import Fraction, Positive, Section, TrainingConfig
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import SharedWeightsOptions


class PolicyOptions(Section):
    """The controller of InstaNAS, which chooses operations for each image, and its learning."""

    channels: Positive = 8
    """Of its first stage; 16 in the release, whose controller costs a third of the scaled
    network."""
    num_stages: Annotated[int, Field(ge=1, le=6)] = 3
    """Each further one halves the map and doubles the channels; 4 in the release where images are
    large."""
    pooling: Annotated[int, Field(ge=1, le=8)] = 2
    """Images are averaged over squares of this side first; 1 in the release for 32x32."""
    alpha: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Samples have probabilities within [1 - alpha, alpha], so that exploration never ends."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Of Adam."""
    decay_after: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the search after which, each time, the rate falls to a tenth; a fifth in the
    release."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.8
    full_entropy: bool = True
    """Of the Bernoulli variables; off, without the term of the operations that are not taken, as
    in the release, which prefers inactive ones a little."""


class RewardOptions(Section):
    """What a policy earns for an image: by its answer, and by its latency in a moving window."""

    positive: Annotated[float, Field(gt=0)] = 30.0
    """At the middle of the window, for a right answer."""
    negative: Annotated[float, Field(le=0)] = 0.0
    """For a wrong answer. Below 0, a weak meta-graph drives the policy into one constant answer."""
    exponent: Annotated[float, Field(gt=0)] = 1.0
    """Exponent of the reward's quality, which falls to 0 at the ends of the window."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Upper end of the window at the start, as a share of the latency of all operations."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Upper end at the end, as a share of the latency of MobileNetV2 of that size."""


class AccuracyOptions(Section):
    """What a faster network may lose."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Of the points of a search, each trained on as a child is, the fastest is chosen whose
    validation accuracy is at most this below the best one's; where `latency.target_ms` is given,
    the most accurate within it."""


class InstanasOptions(MethodOptions):
    """InstaNAS (arXiv 1811.10201): an architecture for each image."""

    pretraining: TrainingConfig = TrainingConfig(epochs=12, batch_size=64, lr=0.05)
    """Of the meta-graph, before the search; 164 epochs in the release."""
    keep: Fraction = 0.5
    """Share of the operations that is kept at the end of the pre-training, ..."""
    drop_from: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """... falling from all of them at this share of it."""
    controller: PolicyOptions = PolicyOptions()
    reward: RewardOptions = RewardOptions()
    accuracy: AccuracyOptions = AccuracyOptions()
    weights: SharedWeightsOptions = SharedWeightsOptions(lr=0.01, momentum=0.0)
    """Of the meta-graph in the search; no momentum, as in the release."""
    turn_steps: Positive | None = None
    """Updates of the controller, then of the meta-graph, before it is the other's turn again; one
    epoch each when not given, as in the release."""
    num_points: Annotated[int, Field(ge=1, le=26)] = 5
    """Points A, B, ... of a search, from slow to fast, that are kept with their weights."""
    points_from: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the search at which the first is kept; before, the window is above the latency of
    MobileNetV2."""
    num_static: Positive = 50
    """Random networks of the control, the same for all images, the best of which is taken."""
    table: str = "measure"
    """Latency table: `measure` makes one before the search, `macs` counts multiply-adds instead of
    time, and anything else is a file of `nas profile`."""
    baseline: bool = False
    """Whether the final training trains MobileNetV2 of that size as well, to compare with. It takes
    as many epochs as pre-training, search and final training together, of the cheaper network."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""
