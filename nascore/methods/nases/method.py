"""NASES: neural architecture search in embedding space (arXiv 1909.03615 and its released code).

Stage A trains an encoder and a decoder on simulated, unlabelled architectures. Stage B searches:
a controller, which starts as a copy of the encoder, maps a state (an architecture) to a point of
the embedding, the frozen decoder turns the point into a new architecture, that is trained from
scratch for a few epochs, and its reward (2 acc_valid - acc_train)^3, standardised over all so far,
moves the controller by policy gradient. Every 30 episodes the controller starts again as the
encoder.

`nases-paper` is that, with the release's defects as switches. `nases` keeps all of it and departs,
each departure a switch in `NasesOptions`:

- categorical coder instead of squared error on raw integers (`coder.kind`);
- replay of good states: the policy starts from the best architectures so far (`num_elites`), with
  a few of their tokens redrawn (`state_changes`), not from the last architecture;
- a Gaussian policy around controller(s) in the embedding with REINFORCE, instead of a
  deterministic action with a Bernoulli-style loss; only some coordinates move (`num_moves`,
  `sigma`), since decoding is local;
- a critic picks the most promising of many policy samples (`critic`): Gaussian processes that read
  what the frozen decoder makes of an action (`critic_metrics`), on the ranks of the rewards, and
  learn which tokens matter (`critic_relevance`);
- beside the policy's samples the critic sees all that is one token from the best
  (`num_surrounded`), and walks on from its choice by single tokens (`num_steps`);
- random states only at the start of a climb, not of every cycle; the next climb starts when nothing
  better has come for a while (`patience`);
- no network is proposed twice (`no_repeats`).

A proposer's state follows from the children alone (`update`), and randomness from the seed and the
child's number: one that is rebuilt from a study's history proposes what the old one would have.
"""

from collections.abc import Container
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nascore.config import Section
from nascore.context import SearchContext
from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.autoencoder import Autoencoder, Controller
from nascore.methods.nases.dedup import Networks, unseen
from nascore.methods.nases.history import History
from nascore.methods.nases.mutations import one_token_apart, redrawn
from nascore.methods.nases.options import NasesOptions, NasesPaperOptions
from nascore.methods.nases.paper_release import ReleasedNases
from nascore.methods.nases.pretraining import coder_seconds, load_coder, pretrain_coder
from nascore.methods.nases.surrogate import Surrogate
from nascore.results import Child, SearchResult
from nascore.search.proposer import NONE_PENDING, Pending, Proposer
from nascore.search.random_search import RandomSearch
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace
from nascore.training.final_model import FinalModel, train_from_scratch
from nascore.training.threads import one_thread

_ROUNDS = 3  # rounds of candidates before the neighbourhood counts as exhausted
_UNGUIDED = 16  # candidates when there is no critic to choose


class NasesProposer:
    """NASES with its departures; see the module."""

    def __init__(
        self,
        coder: Autoencoder,
        options: NasesOptions,
        space: SearchSpace,
        seeds: Seeds,
        stream: str = "method",
    ) -> None:
        self._coder = coder
        self._options = options
        self._space = space
        self._seeds, self._stream = seeds, stream
        self._history = History(space, options)
        self._critic = Surrogate(self._history, options, space.cardinalities)
        self._networks = Networks(space)
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
    ) -> "NasesProposer":
        """Raises CheckpointError when `folder` holds the coder of another space."""
        return cls(load_coder(folder, options.coder, space), options, space, seeds, stream)

    def update(self, child: Child) -> None:
        self._history.add(child)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        """The architecture of child `number`, which differs from all in `pending`.

        When every candidate in reach was proposed before, a random architecture that was not; when
        the space is exhausted, a random one: a search with a larger budget repeats itself.
        """
        with one_thread():
            genotype = None if self._is_exhausted else self._propose(number, pending)
        if genotype is None:
            # What was proposed stays proposed: no need to look again.
            self._is_exhausted = not pending
            genotype = base.sample(self._space, self._rng("repeat", number))
        return genotype

    def _propose(self, number: int, pending: Pending) -> Genotype | None:
        """None when no network is left."""
        rng = self._rng("suggest", number)
        under_way = list(pending.values())
        seen = self._history.seen | {self._space.canonical(genotype) for genotype in under_way}
        if len(self._history) < self._history.random_start():
            return unseen(self._space, seen, rng)
        self._learn()
        known = seen if self._options.no_repeats else set()
        for _ in range(_ROUNDS):
            genotype = self._choose(self._candidates(rng), known, under_way)
            if genotype is not None:
                return genotype
        return unseen(self._space, seen, rng)

    def _rng(self, purpose: str, number: int) -> np.random.Generator:
        return self._seeds.numpy(self._stream, purpose, number)

    # The policy and its learning.

    def _learn(self) -> None:
        """Policy-gradient steps for the children since the last time, restarting every cycle.

        The controller depends on the children of its own cycle alone, so a rebuilt proposer replays
        at most `cycle` of them.
        """
        count, cycle = len(self._history), self._options.cycle
        start = count // cycle * cycle
        if self._num_learned < start or self._num_learned == 0:
            self._controller = self._new_controller()
            self._num_learned = start
        if self._options.controller_steps == 0:
            return
        rewards = self._history.rewards
        while self._num_learned < count:
            self._num_learned += 1
            self._controller_steps(rewards[: self._num_learned])

    def _controller_steps(self, rewards: Floats) -> None:
        """REINFORCE on a replayed batch: the state of a child is the best before it, its action the
        embedding of its own tokens."""
        count = len(rewards)
        advantages = reinforce.standardise(rewards)
        rng = self._rng("replay", count)
        for _ in range(self._options.controller_steps):
            size = min(self._options.controller_batch, count)
            picked = rng.choice(count, size=size, replace=False)
            states = np.array([int(np.argmax(rewards[: max(1, i)])) for i in picked])
            action_BE = self._coder.encode(self._history.tokens(picked))
            mean_BE = self._controller(self._history.tokens(states))
            loss = reinforce.reinforce_loss(
                reinforce.gaussian_log_prob(action_BE, mean_BE, self._options.sigma),
                torch.from_numpy(advantages[picked]).float(),
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()

    def _new_controller(self) -> Controller:
        controller = self._coder.new_controller()
        self._optimizer = torch.optim.Adam(
            controller.body.parameters(), lr=self._options.controller_lr, fused=True
        )
        return controller

    def _candidates(self, rng: np.random.Generator) -> Tensor:
        """Policy samples, decoded, and what is one token from the best children, (B, L)."""
        options = self._options
        count = options.num_candidates if options.critic else _UNGUIDED
        with torch.no_grad():
            mean_BE = self._controller(self._states(count, rng))
        moves = rng.random(mean_BE.shape) < options.num_moves / mean_BE.shape[1]
        noise = rng.standard_normal(mean_BE.shape) * options.sigma * moves
        decoded_BL = self._coder.decode((mean_BE + torch.from_numpy(noise).float()).clamp(0, 1))
        if not options.critic:
            return decoded_BL
        best_BL = self._history.tokens(self._history.elites(options.num_surrounded))
        apart_BL = one_token_apart(best_BL, self._space.cardinalities)
        some = rng.permutation(len(apart_BL))[: count // 2]  # of a long string there are many
        return torch.cat([decoded_BL, apart_BL[torch.from_numpy(np.sort(some))]])

    def _states(self, count: int, rng: np.random.Generator) -> Tensor:
        """Good architectures with some tokens redrawn, and a few random ones, (count, L)."""
        options = self._options
        elites = self._history.elites(options.num_elites)
        # A third of the elites is drawn two times out of three.
        ranks = rng.exponential(options.num_elites / 3, size=count).astype(np.int64)
        return redrawn(
            self._history.tokens(elites[ranks % len(elites)]),
            self._space.cardinalities,
            rng,
            mean_changes=options.state_changes,
            random_share=options.random_state,
        )

    # The critic.

    def _choose(
        self, candidates_ML: Tensor, known: Container[str], pending: list[Genotype]
    ) -> Genotype | None:
        """The network, not in `known`, of which the critic expects the largest improvement.

        The critic then walks from it by single tokens as long as it expects more: the samples need
        not hold the summit of what it expects.
        """
        candidates_ML = candidates_ML[self._networks.new(candidates_ML, known)]
        if not len(candidates_ML) or not self._options.critic:
            return self._genotype(candidates_ML[0]) if len(candidates_ML) else None
        expects = self._critic.expected_improvement(pending)
        gain_M = expects(candidates_ML)
        gain, chosen_L = gain_M.max(), candidates_ML[gain_M.argmax()]
        for _ in range(self._options.num_steps):
            nearby_ML = one_token_apart(chosen_L[None], self._space.cardinalities)
            gain_M = expects(nearby_ML)
            nearby_ML, gain_M = nearby_ML[gain_M > gain], gain_M[gain_M > gain]
            new = self._networks.new(nearby_ML, known)
            if not len(new):
                break
            gain_M = gain_M[new]
            gain, chosen_L = gain_M.max(), nearby_ML[new[gain_M.argmax()]]
        return self._genotype(chosen_L)

    def _genotype(self, tokens_L: Tensor) -> Genotype:
        return Genotype(self._space.identifier, tuple(tokens_L.tolist()))


# --- the pipeline's steps ---------------------------------------------------------------------


def prepare_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Stage A; leaves the coder in `controller`."""
    assert isinstance(options, NasesOptions | NasesPaperOptions)
    return pretrain_coder(options.coder, space, seeds, controller)


def make_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """Stage B, ours or the release's, with the coder that `prepare_proposer` left.

    Raises:
        CheckpointError: the coder is of another space or was made with other options.
    """
    if isinstance(options, NasesPaperOptions):
        coder = load_coder(controller, options.coder, space)
        return ReleasedNases(coder, options, space, seeds, stream)
    assert isinstance(options, NasesOptions)
    return NasesProposer.load(controller, options, space, seeds, stream)


def pretrain(task: SearchContext) -> dict[str, float]:
    return prepare_proposer(task.options, task.space, task.seeds, task.controller)


def search(task: SearchContext) -> SearchResult:
    """Children by NASES, the time of stage A charged, beside a random search at equal cost."""
    proposer = make_proposer(
        task.options, task.space, task.seeds, "method", controller=task.controller
    )
    control = None
    if task.search.control:
        control = Control(RandomSearch(task.space, task.seeds, "control"))
    return search_by_proposing(task, proposer, control, prior_cost_s=coder_seconds(task.controller))


def train_final(task: SearchContext, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
