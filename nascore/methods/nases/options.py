"""Settings of methods that propose children: NASES and the baselines. No torch here."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from nascore.config import Positive, Section, SpaceSection
from nascore.errors import Problem
from nascore.methods.common.method_options import MethodOptions


class CoderOptions(Section):
    """Encoder and decoder of NASES, and how they are trained (stage A)."""

    kind: Literal["categorical", "mse"] = "categorical"
    """`mse` is the release's: raw integers and squared error."""
    embedding_size: Positive | None = None
    """Dimensions; when not given, from the bits of the space (categorical) or length / 3 (mse)."""
    bits_per_dimension: Annotated[float, Field(gt=0)] = 1.5
    """Of the categorical coder; at 1.5 the round trip is exact."""
    hidden_size: Positive = 128
    """Units of the encoder and of the decoder."""
    noise: Annotated[float, Field(ge=0)] = 0.05
    """Deviation of the noise on embeddings in training; spreads the codes, so that neighbours in
    the embedding are neighbours in tokens."""
    steps: Positive = 1200
    """Updates of the autoencoder."""
    batch_size: Positive = 256
    """Architectures of one update."""
    lr: Annotated[float, Field(gt=0)] = 1e-2
    """Learning rate of Adam."""
    num_strings: Positive = 50_000
    """Unlabelled architectures to train on."""
    balanced_strings: bool = False
    """Draw strings as the release does: no value more than four times."""
    rounding: Literal["round", "ceil"] = "round"
    """Of the mse coder's output; `ceil` is the release's."""
    mse_wide_factor: Positive = 90
    """Widest hidden layer of the mse coder, in multiples of the length."""
    mse_narrow_factor: Positive = 30
    """Narrow hidden layers of the mse coder, in multiples of the length."""

    def unfit_for(self, cardinalities: Sequence[int]) -> list[Problem]:
        """What of these settings does not suit tokens of so many values."""
        problems = []
        one_vocabulary = len(set(cardinalities)) == 1
        if self.kind == "mse" and not one_vocabulary:
            message = (
                "needs a space whose tokens all have the same number of values; use categorical"
            )
            problems.append(Problem("search.options.coder.kind", self.kind, message))
        if self.balanced_strings and not (
            one_vocabulary and 4 * cardinalities[0] >= len(cardinalities)
        ):
            message = (
                "needs a space whose tokens have one number of values, at least a quarter of their "
                "count; use false"
            )
            problems.append(Problem("search.options.coder.balanced_strings", "true", message))
        return problems


class NasesOptions(MethodOptions):
    """Settings of NASES. Everything that goes beyond the paper can be switched off here."""

    coder: CoderOptions = CoderOptions()
    num_random: Positive = 5
    """Uniform architectures before the policy acts; the release explores for about 10 episodes."""
    cycle: Positive = 30
    """Children between re-initialisations of the controller from the encoder."""
    random_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of candidates whose state is a random architecture, as in the release."""
    num_elites: Positive = 10
    """Replay of good states: the policy starts from this many best architectures, the better the
    more often."""
    state_changes: Annotated[float, Field(ge=0)] = 2.0
    """Tokens that are redrawn in a replayed state, on average; 0 leaves it as it was trained. In
    the release, too, exploration comes from the choice of the state."""
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Deviation of the Gaussian policy on a coordinate that moves."""
    num_moves: Annotated[float, Field(ge=0)] = 1.0
    """Proximity moves: coordinates of the embedding that move in a candidate, on average."""
    controller_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of the controller."""
    controller_steps: Annotated[int, Field(ge=0)] = 2
    """Policy-gradient steps after a child; 0 leaves the controller as the encoder."""
    controller_batch: Positive = 16
    """Architectures of one update of the controller."""
    critic: bool = True
    """Score candidates by a critic in the embedding; off, the first new candidate is taken."""
    critic_metrics: Annotated[tuple[Literal["values", "order"], ...], Field(min_length=1)] = (
        "values",
        "order",
    )
    """How the critic tells tokens apart: unequal ones, or how far their values are from each other.
    Of those named and their mean, each has a say by the evidence of the children."""
    critic_relevance: bool = True
    """The critic learns how much each token matters; off, all matter the same."""
    num_surrounded: Annotated[int, Field(ge=0)] = 3
    """Best architectures of which the critic sees all that differ in one token, since the policy
    may not sample the neighbour that is missing; 0 leaves it the policy's samples."""
    num_steps: Annotated[int, Field(ge=0)] = 2
    """Single tokens by which the critic improves on the best candidate before it is trained, since
    in a large space no sample is the best it knows of."""
    patience: Annotated[int, Field(ge=0)] = 12
    """Children without improvement after which the search climbs from elsewhere; 0 never does. The
    critic is too sure of regions it has not seen, and the release, too, starts every cycle at
    random."""
    num_restart_random: Positive = 3
    """Uniform architectures at the start of every later climb."""
    num_candidates: Positive = 256
    """Architectures that the surrogate ranks for each proposal."""
    critic_memory: Annotated[int, Field(ge=10)] = 200
    """Children that the critic is fitted to: the best and the latest."""
    gap_penalty: bool = True
    """Reward (2 valid - train)^3; off, the validation accuracy itself."""
    no_repeats: bool = True
    """Never propose a network that was proposed before (isomorphic ones count as the same)."""

    def unfit_for(self, space: SpaceSection) -> list[Problem]:
        return self.coder.unfit_for(space.cardinalities)


class PaperCoderOptions(CoderOptions):
    """The released coder. The release trains it longer: 200,000 updates with batches of 64, then
    100,000 of 128 and 50,000 of 256."""

    kind: Literal["categorical", "mse"] = "mse"
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Learning rate of Adam."""
    num_strings: Positive = 300_000
    """Unlabelled architectures to train on."""
    steps: Positive = 20_000
    """Updates of the autoencoder."""
    batch_size: Positive = 64
    """Architectures of one update."""
    balanced_strings: bool = True
    rounding: Literal["round", "ceil"] = "ceil"


class NasesPaperOptions(MethodOptions):
    """NASES as released; each switch of a defect is named after it."""

    coder: PaperCoderOptions = PaperCoderOptions()
    cycle: Positive = 30
    controller_lr: Annotated[float, Field(gt=0)] = 1e-5
    """Learning rate of the controller."""
    controller_batch: Positive = 4
    """Architectures of one update of the controller."""
    l2: Annotated[float, Field(ge=0)] = 0.002
    """Weight decay of the controller's Adam."""
    random_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    best_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that an episode starts at the best state that was seen."""
    legacy_double_sigmoid: bool = True
    """Pass the controller's sigmoid output as a logit."""
    legacy_late_reward: bool = True
    """Pair the newest state and action with the previous episode's reward."""

    def unfit_for(self, space: SpaceSection) -> list[Problem]:
        return self.coder.unfit_for(space.cardinalities)
