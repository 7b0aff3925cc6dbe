"""NASES as released: stage B of the authors' code (train.py), with its known defects.

Stages and sources: `nascore.methods.nases.method`. The defects, kept on purpose:

- the loss takes the controller's sigmoid output as if it were a logit (`bernoulli_loss`);
- the newest state and action are paired with the reward of the previous episode
  (`_controller_step`);
- decoded values are rounded up (`nascore.methods.nases.autoencoder.ReleasedAutoencoder`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.proposing import ProposingSteps
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.autoencoder import EmbeddingController
from nascore.methods.nases.embedding_proposer import EmbeddingProposer
from nascore.methods.nases.options import NasesPaperOptions
from nascore.methods.nases.pretraining import (
    autoencoder_seconds,
    load_autoencoder,
    pretrain_autoencoder,
)
from nascore.results import Child, best_child
from nascore.search.proposer import NONE_PENDING, Pending, Proposer
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.threads import thread_limit

# Controller updates in one episode. The release takes i // 10 of them in episode i, and its search
# ends after 120 episodes; in a longer search their time would grow as the square of its length.
_MAX_STEPS = 12


@dataclass(frozen=True)
class _Episode:
    """A state and the action for it, as the release stores them."""

    state: tuple[int, ...]
    action_E: Tensor


@dataclass(eq=False)
class ReleasedNases(EmbeddingProposer[NasesPaperOptions]):
    """Stage B as released.

    One search is one chain of episodes: episode i needs the architecture that episode i - 1 decoded
    and the rewards of all before it, so this proposer is for one worker.
    """

    def __post_init__(self) -> None:
        self._children: list[Child] = []
        self._episodes: list[_Episode] = []
        self._decoded: list[tuple[int, ...]] = []
        self._controller: EmbeddingController

    def update(self, child: Child) -> None:
        if len(self._decoded) == len(self._children):
            self._episode()  # the child of another process: run the same episode
        self._children.append(child)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        if len(self._decoded) == len(self._children):
            self._episode()
        return Genotype(self.space.identifier, self._decoded[len(self._children)])

    @thread_limit(1)
    def _episode(self) -> None:
        """Choose state and action, update the controller, decode a new architecture."""
        i = len(self._decoded)
        options = self.options
        rng = self.rng("episode", i)
        counter = options.cycle - 1 - i % options.cycle
        if i % options.cycle == 0:
            self._controller = self.autoencoder.new_controller()
            # Adam's own decay adds the gradient of the release's decay / 2 * (sum of squares).
            self._optimizer = torch.optim.Adam(
                self._controller.body.parameters(),
                lr=options.controller_lr,
                weight_decay=options.controller_weight_decay,
                fused=True,
            )
        state = self._state(i, counter, rng)
        state_1L = torch.tensor([state])
        with torch.no_grad():
            self._episodes.append(_Episode(state, self._controller(state_1L)[0]))
        if counter < 2 * options.cycle // 3 and i > 0:
            advantages = reinforce.standardise(self._rewards())
            for step in range(min(i // 10, _MAX_STEPS)):
                self._controller_step(rng, advantages, force_newest=step == 0)
        if i == 0:
            self._decoded.append(state)
            return
        with torch.no_grad():
            tokens_1L = self.autoencoder.decode(self._controller(state_1L))
        self._decoded.append(tuple(tokens_1L[0].tolist()))

    def _state(self, i: int, counter: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Choose a state: random in the first third of a cycle, then mostly the last decoded."""
        draw = rng.random(2)
        uniform = tuple(int(token) for token in rng.integers(self.space.cardinalities))
        is_random = counter > 2 * self.options.cycle // 3
        if i == 0 or is_random or draw[0] < self.options.random_state_share:
            return uniform
        if draw[1] < self.options.best_state_share and (best := best_child(self._children)):
            return best.genotype.tokens
        return self._decoded[i - 1]

    def _controller_step(
        self, rng: np.random.Generator, advantages: Floats, *, force_newest: bool
    ) -> None:
        """Take one Adam step on a few stored pairs, weighted by standardised rewards.

        A failed child counts as the worst reward so far. The newest pair has no reward yet: the
        release pairs it with the previous one's.
        """
        picked = rng.integers(len(advantages), size=self.options.controller_batch)
        pairs = [(self._episodes[i], advantages[i]) for i in picked]
        if force_newest:
            pairs[0] = (self._episodes[-1], advantages[-1])
        states_BL = torch.tensor([episode.state for episode, _ in pairs])
        actions_BE = torch.stack([episode.action_E for episode, _ in pairs])
        advantage_B = torch.tensor([float(advantage) for _, advantage in pairs])
        loss = bernoulli_loss(self._controller(states_BL), actions_BE, advantage_B)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def _rewards(self) -> Floats:
        rewards = [_reward(child) for child in self._children]
        worst = min((reward for reward in rewards if reward is not None), default=0.0)
        return np.array([worst if reward is None else reward for reward in rewards])


def _reward(child: Child) -> float | None:
    """Return the reward of a child; no gap is assumed where nothing was measured in training."""
    if child.objective is None:
        return None
    train = child.objective if child.train_objective is None else child.train_objective
    return reinforce.gap_reward(child.objective, train)


def bernoulli_loss(output_BE: Tensor, z_BE: Tensor, advantage_B: Tensor) -> Tensor:
    """Return the release's loss: cross-entropy towards the stored action, weighted by advantage.

    The release passes the output after the sigmoid as if it were a logit. The effective probability
    then lies in (0.5, 0.731), and targets below 0.5 cannot be met.

    Args:
        output_BE: the controller's output, in (0, 1).
        z_BE: stored actions, in (0, 1).
        advantage_B: standardised rewards, without gradient.

    Returns:
        Scalar to minimise.
    """
    losses_BE = torch.nn.functional.binary_cross_entropy_with_logits(
        output_BE, z_BE, reduction="none"
    )
    return (losses_BE * advantage_B[:, None]).mean()


# --- the pipeline's steps ---------------------------------------------------------------------


def prepare_proposer(
    options: NasesPaperOptions, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Train the released autoencoder (stage A) and write it to `controller`."""
    return pretrain_autoencoder(options.autoencoder, space, seeds, controller)


def make_proposer(
    options: NasesPaperOptions, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """Make the proposer (stage B) with the autoencoder that `prepare_proposer` wrote.

    Raises:
        CheckpointError: the autoencoder is of another space or was trained with other options.
    """
    autoencoder = load_autoencoder(controller, options.autoencoder, space)
    return ReleasedNases(autoencoder, options, space, seeds, stream)


_STEPS = ProposingSteps(prepare_proposer, make_proposer, autoencoder_seconds)
pretrain, search, train_final = _STEPS.pretrain, _STEPS.search, _STEPS.train_final
