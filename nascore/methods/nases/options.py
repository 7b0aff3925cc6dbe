"""Settings of NASES and of its published release. No torch here."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from nascore.config import Positive, Section, SpaceSection
from nascore.errors import Problem
from nascore.methods.common.method_options import MethodOptions


class AutoencoderOptions(Section):
    """Training of the encoder and the decoder (stage A)."""

    steps: Positive = 1200
    """Weight updates of the autoencoder."""
    batch_size: Positive = 256
    """Token strings in one update."""
    lr: Annotated[float, Field(gt=0)] = 1e-2
    """Highest learning rate of Adam."""
    num_strings: Positive = 50_000
    """Simulated token strings in the training set."""
    hidden_size: Positive = 128
    """Hidden units of the encoder and of the decoder."""

    def unfit_for(self, cardinalities: Sequence[int]) -> list[Problem]:
        """Return no problem: tokens with any numbers of values can be encoded."""
        return []


class NasesOptions(MethodOptions):
    """Settings of NASES."""

    autoencoder: AutoencoderOptions = AutoencoderOptions()
    num_random: Positive = 5
    """Uniform random architectures before the policy acts; about 10 in the release."""
    cycle: Positive = 30
    """Number of children after which the controller starts again from the weights of the trained
    encoder, each time."""
    num_elites: Positive = 10
    """States of the policy are drawn from this many best architectures, better ones more often."""
    expected_state_mutations: Annotated[float, Field(ge=0)] = 2.0
    """Tokens that are resampled in a state, on average; 0 leaves states unchanged."""
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Standard deviation of the Gaussian policy in each coordinate that moves."""
    expected_coordinate_moves: Annotated[float, Field(ge=0)] = 1.0
    """Coordinates of the embedding that move in a candidate, on average."""
    controller_lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of the controller."""
    controller_steps: Annotated[int, Field(ge=0)] = 2
    """Policy-gradient updates after each child; 0 leaves the controller equal to the encoder."""
    controller_batch: Positive = 16
    """Architectures in one update of the controller."""
    num_candidates: Positive = 256
    """Policy samples that the surrogate ranks for each proposal."""
    patience: Annotated[int, Field(ge=0)] = 12
    """Children without improvement after which the search restarts elsewhere; 0 never restarts."""
    num_restart_random: Positive = 3
    """Uniform random architectures after each restart."""


class PaperAutoencoderOptions(Section):
    """Training of the released autoencoder.

    The release trains it longer: 200,000 updates with batches of 64, then 100,000 of 128 and 50,000
    of 256.
    """

    steps: Positive = 20_000
    """Weight updates of the autoencoder."""
    batch_size: Positive = 64
    """Token strings in one update."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Learning rate of Adam."""
    num_strings: Positive = 300_000
    """Simulated token strings in the training set."""

    def unfit_for(self, cardinalities: Sequence[int]) -> list[Problem]:
        """Return why tokens with these numbers of values cannot be encoded; empty if they can."""
        sizes = sorted(set(cardinalities))
        message = ""
        if len(sizes) > 1:
            message = "needs a space whose tokens all have the same number of values"
        elif 4 * sizes[0] < len(cardinalities):
            message = "needs a space with at most four tokens for each value of a token"
        if not message:
            return []
        found = f"{len(cardinalities)} tokens of {', '.join(map(str, sizes))} values"
        return [Problem("search.space", found, f"{message}, for nases-paper; use nases")]


class NasesPaperOptions(MethodOptions):
    """Settings of NASES as released, with the release's defaults."""

    autoencoder: PaperAutoencoderOptions = PaperAutoencoderOptions()
    cycle: Positive = 30
    """Number of children after which the controller starts again from the weights of the trained
    encoder, each time."""
    controller_lr: Annotated[float, Field(gt=0)] = 1e-5
    """Learning rate of the controller."""
    controller_batch: Positive = 4
    """Architectures in one update of the controller."""
    controller_weight_decay: Annotated[float, Field(ge=0)] = 0.002
    """Weight decay of the controller's Adam."""
    random_state_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that an episode starts at a random architecture."""
    best_state_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that an episode starts at the best architecture so far."""

    def unfit_for(self, space: SpaceSection) -> list[Problem]:
        return self.autoencoder.unfit_for(space.cardinalities)
