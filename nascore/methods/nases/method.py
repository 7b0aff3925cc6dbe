"""NASES: neural architecture search in embedding space (arXiv 1909.03615 and its released code).

Stage A trains an encoder and a decoder on simulated, unlabelled architectures. Stage B searches:
a controller, which starts as a copy of the encoder, maps a state (an architecture) to a point of
the embedding, the frozen decoder maps the point to a new architecture, which is trained from
scratch for a few epochs, and its reward (2 acc_valid - acc_train)^3, standardised over all so far,
updates the controller by policy gradient. Every 30 episodes the controller is reset to the encoder.

The release of the authors is `nascore.methods.nases.paper_release`. This method departs from it:

- categorical autoencoder instead of squared error on raw integers;
- replay of good states: the policy starts from the best architectures so far (`num_elites`), with
  a few tokens resampled (`expected_state_mutations`), not from the last architecture;
- a Gaussian policy around the controller's output with REINFORCE, instead of a deterministic
  action with a Bernoulli-style loss; only some coordinates move (`expected_coordinate_moves`,
  `sigma`), since decoding is local;
- a surrogate selects the candidate of the largest expected improvement: Gaussian processes over
  the decoded tokens, on the ranks of the rewards, with a weight for each token;
- the candidates are policy samples and all single-token neighbours of the best architectures;
  the selected one is improved by single tokens;
- random states only at the start of a climb, not of every cycle; the search restarts when there was
  no improvement for `patience` children;
- no network is proposed twice.

benchmarks/nases_ablation.py measures the effect of each part of the surrogate.

A proposer's state follows from the children alone (`update`), and randomness from the seed and the
child's number: one that is rebuilt from a study's history makes the same proposals. Shapes: B
states, M candidates, L tokens, E embedding dimensions.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.proposing import ProposingSteps
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.autoencoder import EmbeddingController
from nascore.methods.nases.dedup import Deduplicator, random_unseen
from nascore.methods.nases.embedding_proposer import EmbeddingProposer
from nascore.methods.nases.mutations import resample_tokens, single_token_neighbours
from nascore.methods.nases.observations import Observations
from nascore.methods.nases.options import NasesOptions
from nascore.methods.nases.pretraining import (
    autoencoder_seconds,
    load_autoencoder,
    pretrain_autoencoder,
)
from nascore.methods.nases.surrogate import Surrogate
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending, Proposer
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace
from nascore.threads import thread_limit

_ROUNDS = 3  # rounds of candidates before the neighbourhood counts as exhausted
_RANDOM_STATE_SHARE = 0.1  # of candidates, whose state is a random architecture, as in the release


@dataclass(eq=False)
class NasesProposer(EmbeddingProposer[NasesOptions]):
    """NASES with its departures; see the module.

    Attributes:
        num_neighbourhoods: best architectures of which all single-token neighbours are candidates,
            since the policy may not sample the neighbour that is missing.
        num_token_steps: single tokens by which the selected candidate is improved, since in a large
            space no sample is the best by the surrogate's own estimate.
        surrogate_class: selects among the candidates.
    """

    num_neighbourhoods: ClassVar[int] = 3
    num_token_steps: ClassVar[int] = 2
    surrogate_class: ClassVar[type[Surrogate]] = Surrogate

    def __post_init__(self) -> None:
        self._observations = Observations(self.space, self.options)
        self._surrogate = self.surrogate_class(self._observations, self.space.cardinalities)
        self.deduplicator = Deduplicator(self.space)
        self._controller = self._new_controller()
        self._num_learned = 0
        self._is_exhausted = False

    @classmethod
    def load(
        cls,
        folder: Path,
        options: NasesOptions,
        space: SearchSpace,
        seeds: Seeds,
        stream: str = "method",
    ) -> Self:
        """Make a proposer with the autoencoder in `folder`.

        Raises:
            CheckpointError: the autoencoder is of another space or was trained with other options.
        """
        autoencoder = load_autoencoder(folder, options.autoencoder, space)
        return cls(autoencoder, options, space, seeds, stream)

    def update(self, child: Child) -> None:
        self._observations.add(child)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """Return the architecture of child `number`, which differs from all in `pending`.

        When all candidates were proposed before, it is a random architecture that was not; when
        the space is exhausted, a random one: a search with a larger budget repeats itself.
        """
        with thread_limit(1):
            genotype = None if self._is_exhausted else self._propose(number, pending)
        if genotype is None:
            # Without pending children nothing becomes new later: no need to search again.
            self._is_exhausted = not pending
            genotype = base.sample(self.space, self.rng("repeat", number))
        return genotype

    def _propose(self, number: int, pending: Pending) -> Genotype | None:
        """Return None when no network is left."""
        rng = self.rng("suggest", number)
        under_way = list(pending.values())
        seen = self._observations.seen | {self.space.canonical(genotype) for genotype in under_way}
        if len(self._observations) < self._observations.random_until():
            return random_unseen(self.space, seen, rng)
        self._learn()
        for _ in range(_ROUNDS):
            genotype = self.select(self.candidates(rng), seen, under_way)
            if genotype is not None:
                return genotype
        return random_unseen(self.space, seen, rng)

    # The policy and its learning.

    def _learn(self) -> None:
        """Update the controller for the children since the last time; reset it every cycle.

        The controller depends on the children of its own cycle alone, so a rebuilt proposer replays
        at most `cycle` of them.
        """
        count, cycle = len(self._observations), self.options.cycle
        start = count // cycle * cycle
        if self._num_learned < start or self._num_learned == 0:
            self._controller = self._new_controller()
            self._num_learned = start
        if self.options.controller_steps == 0:
            return
        rewards = self._observations.rewards
        while self._num_learned < count:
            self._num_learned += 1
            self._controller_steps(rewards[: self._num_learned])

    def _controller_steps(self, rewards: Floats) -> None:
        """Take REINFORCE steps on replayed batches.

        The state of a child is the best architecture before it, its action the embedding of its own
        tokens.
        """
        count = len(rewards)
        advantages = reinforce.standardise(rewards)
        rng = self.rng("replay", count)
        for _ in range(self.options.controller_steps):
            size = min(self.options.controller_batch, count)
            picked = rng.choice(count, size=size, replace=False)
            states = np.array([int(np.argmax(rewards[: max(1, i)])) for i in picked])
            action_BE = self.autoencoder.encode(self._observations.tokens(picked))
            mean_BE = self._controller(self._observations.tokens(states))
            loss = reinforce.reinforce_loss(
                reinforce.gaussian_log_prob(action_BE, mean_BE, self.options.sigma),
                torch.from_numpy(advantages[picked]).float(),
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()

    def _new_controller(self) -> EmbeddingController:
        controller = self.autoencoder.new_controller()
        self._optimizer = torch.optim.Adam(
            controller.body.parameters(), lr=self.options.controller_lr, fused=True
        )
        return controller

    def candidates(self, rng: np.random.Generator) -> Tensor:
        """Return decoded policy samples and neighbours of the best children, (M, L)."""
        count = self.options.num_candidates
        decoded_BL = self.policy_samples(count, rng)
        best_BL = self._observations.tokens(self._observations.elites(self.num_neighbourhoods))
        neighbours_ML = single_token_neighbours(best_BL, self.space.cardinalities)
        # A long string has many neighbours: at most half as many as policy samples are taken.
        chosen = rng.permutation(len(neighbours_ML))[: count // 2]
        return torch.cat([decoded_BL, neighbours_ML[torch.from_numpy(np.sort(chosen))]])

    def policy_samples(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return decoded samples of the policy, (count, L)."""
        with torch.no_grad():
            mean_BE = self._controller(self._states(count, rng))
        share = self.options.expected_coordinate_moves / mean_BE.shape[1]
        moves = rng.random(mean_BE.shape) < share
        noise = rng.standard_normal(mean_BE.shape) * self.options.sigma * moves
        return self.autoencoder.decode((mean_BE + torch.from_numpy(noise).float()).clamp(0, 1))

    def _states(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return good architectures with some tokens resampled, and random ones, (count, L)."""
        num_elites = self.options.num_elites
        elites = self._observations.elites(num_elites)
        # The best third of the elites is drawn two times out of three.
        ranks = rng.exponential(num_elites / 3, size=count).astype(np.int64)
        return resample_tokens(
            self._observations.tokens(elites[ranks % len(elites)]),
            self.space.cardinalities,
            rng,
            expected_changes=self.options.expected_state_mutations,
            random_share=_RANDOM_STATE_SHARE,
        )

    # The surrogate.

    def select(
        self, candidates_ML: Tensor, seen: Container[str], pending: list[Genotype]
    ) -> Genotype | None:
        """Return the network of the largest expected improvement that is not in `seen`.

        The best candidate is then improved by single tokens while the surrogate expects more; None
        when no candidate is new.
        """
        candidates_ML = candidates_ML[self.deduplicator.new_indices(candidates_ML, seen)]
        if not len(candidates_ML):
            return None
        expects = self._surrogate.expected_improvement(pending)
        gain_M = expects(candidates_ML)
        gain, chosen_L = gain_M.max(), candidates_ML[gain_M.argmax()]
        for _ in range(self.num_token_steps):
            nearby_ML = single_token_neighbours(chosen_L[None], self.space.cardinalities)
            gain_M = expects(nearby_ML)
            nearby_ML, gain_M = nearby_ML[gain_M > gain], gain_M[gain_M > gain]
            new = self.deduplicator.new_indices(nearby_ML, seen)
            if not len(new):
                break
            gain_M = gain_M[new]
            gain, chosen_L = gain_M.max(), nearby_ML[new[gain_M.argmax()]]
        return self.genotype(chosen_L)

    def genotype(self, tokens_L: Tensor) -> Genotype:
        """Return the genotype of 0-based tokens (L,)."""
        return Genotype(self.space.identifier, tuple(tokens_L.tolist()))


# --- the pipeline's steps ---------------------------------------------------------------------


def prepare_proposer(
    options: NasesOptions, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Train the autoencoder (stage A) and write it to `controller`."""
    return pretrain_autoencoder(options.autoencoder, space, seeds, controller)


def make_proposer(
    options: NasesOptions, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """Make the proposer (stage B) with the autoencoder that `prepare_proposer` wrote.

    Raises:
        CheckpointError: the autoencoder is of another space or was trained with other options.
    """
    return NasesProposer.load(controller, options, space, seeds, stream)


_STEPS = ProposingSteps(prepare_proposer, make_proposer, autoencoder_seconds)
pretrain, search, train_final = _STEPS.pretrain, _STEPS.search, _STEPS.train_final
