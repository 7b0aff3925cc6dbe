"""NASES as released, stage B: the chain of episodes of the paper's code (train.py).

The stages and their source are told in `nascore.methods.nases.method`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.common import reinforce
from nascore.methods.common.reinforce import Floats
from nascore.methods.nases.autoencoder import Autoencoder, Controller
from nascore.methods.nases.options import NasesPaperOptions
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training.threads import one_thread

# Of the controller, in one episode. The release takes i // 10 of them in episode i, and its search
# ends after 120 episodes; a longer one would spend time as the square of its length on them.
_MOST_STEPS = 12


@dataclass(frozen=True)
class _Episode:
    """What the release appends to its buffers: a state and the action for it."""

    state: tuple[int, ...]
    action_E: Tensor


class ReleasedNases:
    """Stage B exactly as released (papers' code, train.py); `NasesPaperOptions` holds its defects.

    One search is one chain of episodes: episode i needs the architecture that episode i - 1 decoded
    and the rewards of all before it, so this proposer is not for several workers.
    """

    def __init__(
        self,
        coder: Autoencoder,
        options: NasesPaperOptions,
        space: SearchSpace,
        seeds: Seeds,
        stream: str = "method",
    ) -> None:
        self._coder = coder
        self._options = options
        self._space = space
        self._seeds, self._stream = seeds, stream
        self._children: list[Child] = []
        self._episodes: list[_Episode] = []
        self._decoded: list[tuple[int, ...]] = []
        self._controller: Controller

    def update(self, child: Child) -> None:
        if len(self._decoded) == len(self._children):
            self._episode()  # the history of another process: go through the same episode
        self._children.append(child)

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        if len(self._decoded) == len(self._children):
            self._episode()
        return Genotype(self._space.identifier, self._decoded[len(self._children)])

    @one_thread()
    def _episode(self) -> None:
        """One pass of papers' stage B: state, action, controller updates, new architecture."""
        i = len(self._decoded)
        options = self._options
        rng = self._seeds.numpy(self._stream, "episode", i)
        counter = options.cycle - 1 - i % options.cycle
        if i % options.cycle == 0:
            self._controller = self._coder.new_controller()
            # Adam's own decay adds the gradient of the release's l2 / 2 * (sum of squares).
            self._optimizer = torch.optim.Adam(
                self._controller.body.parameters(),
                lr=options.controller_lr,
                weight_decay=options.l2,
                fused=True,
            )
        state = self._state(i, counter, rng)
        state_1L = torch.tensor([state])
        with torch.no_grad():
            self._episodes.append(_Episode(state, self._controller(state_1L)[0]))
        if counter < 2 * options.cycle // 3 and i > 0:
            advantages = reinforce.standardise(self._rewards())
            for step in range(min(i // 10, _MOST_STEPS)):
                self._controller_step(rng, advantages, force_newest=step == 0)
        if i == 0:
            self._decoded.append(state)
            return
        with torch.no_grad():
            tokens_1L = self._coder.decode(self._controller(state_1L))
        self._decoded.append(tuple(tokens_1L[0].tolist()))

    def _state(self, i: int, counter: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Random for the first third of a cycle; then mostly the last decoded architecture."""
        draw = rng.random(2)
        uniform = tuple(int(token) for token in rng.integers(self._space.cardinalities))
        if i == 0 or counter > 2 * self._options.cycle // 3 or draw[0] < self._options.random_state:
            return uniform
        finished = [child for child in self._children if child.scores is not None]
        if finished and draw[1] < self._options.best_state:
            return max(finished, key=lambda child: child.score or 0.0).genotype.tokens
        return self._decoded[i - 1]

    def _controller_step(
        self, rng: np.random.Generator, advantages: Floats, *, force_newest: bool
    ) -> None:
        """One Adam step on a few stored pairs, weighted by standardised rewards.

        A failed child counts as the worst reward so far. The newest pair has no reward yet: the
        release pairs it with the previous one's (`legacy_late_reward`), else it is left out.
        """
        options = self._options
        picked = rng.integers(len(advantages), size=options.controller_batch)
        pairs = [(self._episodes[i], advantages[i]) for i in picked]
        if force_newest and options.legacy_late_reward:
            pairs[0] = (self._episodes[-1], advantages[-1])
        states_BL = torch.tensor([episode.state for episode, _ in pairs])
        actions_BE = torch.stack([episode.action_E for episode, _ in pairs])
        advantage_B = torch.tensor([float(advantage) for _, advantage in pairs])
        logits_BE = self._controller.logits(states_BL)
        loss = reinforce.bernoulli_loss(
            logits_BE, actions_BE, advantage_B, double_sigmoid=options.legacy_double_sigmoid
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def _rewards(self) -> Floats:
        rewards = [
            None if c.scores is None else reinforce.gap_reward(c.scores.valid, c.scores.train)
            for c in self._children
        ]
        worst = min((reward for reward in rewards if reward is not None), default=0.0)
        return np.array([worst if reward is None else reward for reward in rewards])
