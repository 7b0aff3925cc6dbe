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
- a critic picks the most promising of many policy samples (`critic`): a Gaussian process that reads
  what the frozen decoder makes of an action (`critic_metrics`), on the ranks of the rewards;
- no network is proposed twice (`no_repeats`).

A proposer's state follows from the children alone (`update`), and randomness from the seed and the
child's number: one that is rebuilt from a study's history proposes what the old one would have.
"""

import itertools
import json
import math
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nascore import checkpoint, rl, spaces
from nascore.coder import Controller, make_coder, one_thread, train_coder
from nascore.config import Section
from nascore.errors import CheckpointError
from nascore.final import FinalModel, train_from_scratch
from nascore.genotype import Genotype
from nascore.gp import Features, GaussianProcess, Kernel, choose_kernel
from nascore.methods.baselines import RandomSearch
from nascore.methods.options import CoderOptions, NasesOptions, NasesPaperOptions
from nascore.results import Child, SearchResult
from nascore.search import NONE_PENDING, Pending, Proposer, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces import SearchSpace
from nascore.task import Task

VERSION = 1
_KIND = "nases-coder"
_CODER = "coder.pt"
_CARD = "controller.json"
_ROOM = 256  # children; grows by doubling
_KERNEL_CHILDREN = 100  # that the kernel is chosen by
_LISTED = 20_000  # token strings of a space that is small enough to be gone through
_ROUNDS = 3  # rounds of candidates before the neighbourhood counts as exhausted

Floats = NDArray[np.float64]


# --- stage A ---------------------------------------------------------------------------------


def pretrain_coder(
    options: CoderOptions, space: SearchSpace, seeds: Seeds, folder: Path
) -> dict[str, float]:
    """Trains encoder and decoder on unlabelled architectures and writes them to `folder`."""
    coder = make_coder(space.cardinalities, options, seed=seeds.integer("coder", "weights"))
    start = time.perf_counter()
    metrics = train_coder(coder, space.cardinalities, options, seeds.torch("coder", "strings"))
    metrics["seconds"] = time.perf_counter() - start
    folder.mkdir(parents=True, exist_ok=True)
    card = {"version": VERSION, "method": "nases", "space": space.identifier}
    card["coder"] = options.model_dump(mode="json")
    checkpoint.save(folder / _CODER, coder.state_dict(), card, _KIND)
    (folder / _CARD).write_text(json.dumps({**card, "metrics": metrics}, indent=2))
    return metrics


def load_coder(folder: Path, options: CoderOptions, space: SearchSpace) -> torch.nn.Module:
    """Raises CheckpointError when the coder is of another space or made with other options."""
    weights, card = checkpoint.load(folder / _CODER, _KIND)
    wanted = {"space": space.identifier, "coder": options.model_dump(mode="json")}
    for name, value in wanted.items():
        if card[name] != value:
            raise CheckpointError(f"{folder}: {name} is {card[name]!r}, expected {value!r}")
    coder = make_coder(space.cardinalities, options, seed=0)
    coder.load_state_dict(weights)
    return coder.requires_grad_(False)


# --- stage B ---------------------------------------------------------------------------------


class _History:
    """Ended children that have a score, in order; and the keys of every network proposed."""

    def __init__(self, space: SearchSpace, *, gap_penalty: bool) -> None:
        self._space = space
        self._gap_penalty = gap_penalty
        self.seen: set[str] = set()
        self._count = 0
        self._tokens = torch.empty(_ROOM, len(space.cardinalities), dtype=torch.long)
        self._rewards: Floats = np.empty(_ROOM)

    def add(self, child: Child) -> None:
        self.seen.add(self._space.canonical(child.genotype))
        if child.scores is None:
            return
        if self._count == len(self._rewards):
            self._tokens = torch.cat([self._tokens, torch.empty_like(self._tokens)])
            self._rewards = np.concatenate([self._rewards, np.empty_like(self._rewards)])
        valid, train = child.scores.valid_accuracy, child.scores.train_accuracy
        self._tokens[self._count] = torch.tensor(child.genotype.tokens)
        self._rewards[self._count] = rl.gap_reward(valid, train) if self._gap_penalty else valid
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @property
    def rewards(self) -> Floats:
        return self._rewards[: self._count]

    def tokens(self, indices: NDArray[np.int64]) -> Tensor:
        return self._tokens[torch.from_numpy(indices)]


class NasesProposer:
    """NASES with its departures; see the module."""

    def __init__(
        self,
        coder: torch.nn.Module,
        options: NasesOptions,
        space: SearchSpace,
        seeds: Seeds,
        stream: str = "method",
    ) -> None:
        self._coder = coder
        self._options = options
        self._space = space
        self._seeds, self._stream = seeds, stream
        self._history = _History(space, gap_penalty=options.gap_penalty)
        self._controller: Controller = self._new_controller()
        self._num_learned = 0
        self._kernel: tuple[int, Kernel] | None = None
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
            genotype = spaces.sample(self._space, self._rng("repeat", number))
        return genotype

    def _propose(self, number: int, pending: Pending) -> Genotype | None:
        """None when no network is left."""
        rng = self._rng("suggest", number)
        under_way = list(pending.values())
        seen = self._history.seen | {self._space.canonical(genotype) for genotype in under_way}
        if len(self._history) < self._options.num_random:
            return _unseen(self._space, seen, rng)
        self._learn()
        for _ in range(_ROUNDS):
            candidates = self._candidates(rng, seen)
            if candidates:
                return self._choose(candidates, under_way)
        return _unseen(self._space, seen, rng)

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
        advantages = rl.standardise(rewards)
        rng = self._rng("replay", count)
        for _ in range(self._options.controller_steps):
            size = min(self._options.controller_batch, count)
            picked = rng.choice(count, size=size, replace=False)
            states = np.array([int(np.argmax(rewards[: max(1, i)])) for i in picked])
            action_BE = self._encode(self._history.tokens(picked))
            mean_BE = self._controller(self._history.tokens(states))
            loss = rl.reinforce_loss(
                rl.gaussian_log_prob(action_BE, mean_BE, self._options.sigma),
                torch.from_numpy(advantages[picked]).float(),
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()

    def _candidates(self, rng: np.random.Generator, seen: Container[str]) -> list[Genotype]:
        """Architectures not in `seen`, decoded from policy samples, in order of drawing."""
        options = self._options
        count = options.num_candidates if options.critic else 16
        with torch.no_grad():
            mean_BE = self._controller(self._states(count, rng))
        moves = rng.random(mean_BE.shape) < options.num_moves / mean_BE.shape[1]
        noise = rng.standard_normal(mean_BE.shape) * options.sigma * moves
        tokens_BL = self._decode((mean_BE + torch.from_numpy(noise).float()).clamp(0, 1))
        found: dict[str, Genotype] = {}
        for tokens in dict.fromkeys(map(tuple, tokens_BL.tolist())):
            genotype = Genotype(self._space.identifier, tokens)
            key = self._space.canonical(genotype)
            if key not in seen or not options.no_repeats:
                found.setdefault(key, genotype)
        return list(found.values())

    def _states(self, count: int, rng: np.random.Generator) -> Tensor:
        """Good architectures with some tokens redrawn, and a few random ones, (count, L)."""
        options = self._options
        elites = np.argsort(-self._history.rewards, kind="stable")[: options.num_elites]
        # A third of the elites is drawn two times out of three.
        ranks = rng.exponential(options.num_elites / 3, size=count).astype(np.int64)
        elite_BL = self._history.tokens(elites[ranks % len(elites)])
        random_BL = torch.from_numpy(rng.integers(self._space.cardinalities, size=elite_BL.shape))
        length = elite_BL.shape[1]
        changes = np.zeros(count, dtype=np.int64)
        if options.state_changes > 0:
            changes = rng.geometric(1 / max(1.0, options.state_changes), size=count)
        changes[rng.random(count) < options.random_state] = length
        order = rng.random(elite_BL.shape).argsort(axis=1)
        return torch.where(torch.from_numpy(order < changes[:, None]), random_BL, elite_BL)

    # The critic.

    def _choose(self, candidates: list[Genotype], pending: list[Genotype]) -> Genotype:
        """The candidate of which the critic expects the largest improvement.

        What is being trained counts as observed with the value that the critic expects, so that it
        is only less sure there (Desautels et al., Parallelizing Exploration-Exploitation Tradeoffs
        with Gaussian Process Bandits, ICML 2012).
        """
        if not self._options.critic:
            return candidates[0]
        kept = _best_and_latest(self._history.rewards, self._options.critic_memory)
        target_N = _targets(self._history.rewards[kept])
        seen = self._features(self._history.tokens(kept))
        critic = GaussianProcess(seen, target_N, self._chosen_kernel())
        if pending:
            pending_PL = torch.tensor([genotype.tokens for genotype in pending])
            expected_P, _ = critic.predict(self._features(pending_PL))
            seen = self._features(torch.cat([self._history.tokens(kept), pending_PL]))
            critic = GaussianProcess(seen, torch.cat([target_N, expected_P]), critic.kernel)
        tokens_ML = torch.tensor([candidate.tokens for candidate in candidates])
        gain_M = critic.expected_improvement(self._features(tokens_ML), float(target_N.max()))
        return candidates[int(gain_M.argmax())]

    def _chosen_kernel(self) -> Kernel:
        """Chosen anew whenever the children have grown by a tenth; depends on their number alone,
        so that a rebuilt proposer has the same."""
        count = _last_milestone(len(self._history))
        if self._kernel is None or self._kernel[0] != count:
            rewards = self._history.rewards[:count]
            kept = _best_and_latest(rewards, _KERNEL_CHILDREN)
            features = self._features(self._history.tokens(kept))
            metrics = self._options.critic_metrics
            self._kernel = (count, choose_kernel(features, _targets(rewards[kept]), metrics))
        return self._kernel[1]

    def _features(self, tokens_NL: Tensor) -> Features:
        return Features(tokens_NL, self._encode(tokens_NL), self._space.cardinalities)

    # Small things.

    def _new_controller(self) -> Controller:
        controller = cast(Controller, self._coder.new_controller())  # type: ignore[operator]
        self._optimizer = torch.optim.Adam(
            controller.body.parameters(), lr=self._options.controller_lr
        )
        return controller

    def _encode(self, tokens_BL: Tensor) -> Tensor:
        with torch.no_grad():
            return cast(Tensor, self._coder.encode(tokens_BL))  # type: ignore[operator]

    def _decode(self, z_BE: Tensor) -> Tensor:
        return cast(Tensor, self._coder.decode(z_BE))  # type: ignore[operator]


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
        coder: torch.nn.Module,
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

    @classmethod
    def load(
        cls,
        folder: Path,
        options: NasesPaperOptions,
        space: SearchSpace,
        seeds: Seeds,
        stream: str = "method",
    ) -> "ReleasedNases":
        return cls(load_coder(folder, options.coder, space), options, space, seeds, stream)

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
            self._controller = cast(Controller, self._coder.new_controller())  # type: ignore[operator]
            self._optimizer = torch.optim.Adam(
                self._controller.body.parameters(), lr=options.controller_lr
            )
        state = self._state(i, counter, rng)
        state_1L = torch.tensor([state])
        with torch.no_grad():
            self._episodes.append(_Episode(state, self._controller(state_1L)[0]))
        if counter < 2 * options.cycle // 3 and i > 0:
            for step in range(i // 10):
                self._controller_step(rng, force_newest=step == 0)
        if i == 0:
            self._decoded.append(state)
            return
        with torch.no_grad():
            tokens_1L = self._coder.decode(self._controller(state_1L))  # type: ignore[operator]
        self._decoded.append(tuple(tokens_1L[0].tolist()))

    def _state(self, i: int, counter: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Random for the first third of a cycle; then mostly the last decoded architecture."""
        draw = rng.random(2)
        uniform = tuple(int(token) for token in rng.integers(self._space.cardinalities))
        if i == 0 or counter > 2 * self._options.cycle // 3 or draw[0] < self._options.random_state:
            return uniform
        finished = [child for child in self._children if child.scores is not None]
        if finished and draw[1] < self._options.best_state:
            return max(finished, key=lambda child: child.valid_accuracy or 0.0).genotype.tokens
        return self._decoded[i - 1]

    def _controller_step(self, rng: np.random.Generator, *, force_newest: bool) -> None:
        """One Adam step on a few stored pairs, weighted by standardised rewards.

        A failed child counts as the worst reward so far. The newest pair has no reward yet: the
        release pairs it with the previous one's (`legacy_late_reward`), else it is left out.
        """
        options = self._options
        rewards = self._rewards()
        advantages = rl.standardise(rewards)
        picked = rng.integers(len(rewards), size=options.controller_batch)
        pairs = [(self._episodes[i], advantages[i]) for i in picked]
        if force_newest and options.legacy_late_reward:
            pairs[0] = (self._episodes[-1], advantages[-1])
        states_BL = torch.tensor([episode.state for episode, _ in pairs])
        actions_BE = torch.stack([episode.action_E for episode, _ in pairs])
        advantage_B = torch.tensor([float(advantage) for _, advantage in pairs])
        logits_BE = self._controller.logits(states_BL)
        loss = rl.bernoulli_loss(
            logits_BE, actions_BE, advantage_B, double_sigmoid=options.legacy_double_sigmoid
        )
        squares = sum((weight**2).sum() for weight in self._controller.body.parameters())
        loss = loss + options.l2 * 0.5 * squares
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def _rewards(self) -> Floats:
        rewards = [
            None
            if c.scores is None
            else rl.gap_reward(c.scores.valid_accuracy, c.scores.train_accuracy)
            for c in self._children
        ]
        worst = min((reward for reward in rewards if reward is not None), default=0.0)
        return np.array([worst if reward is None else reward for reward in rewards])


def _best_and_latest(rewards: Floats, limit: int) -> NDArray[np.int64]:
    """Sorted indices of at most `limit` children: half the best, half the latest."""
    count = len(rewards)
    if count <= limit:
        return np.arange(count)
    best = np.argsort(-rewards, kind="stable")[: limit // 2]
    return np.union1d(best, np.arange(count - (limit - limit // 2), count))


def _last_milestone(count: int) -> int:
    """The largest number up to `count` of a sequence that grows by a tenth."""
    milestone = 1
    while (following := max(milestone + 1, milestone * 11 // 10)) <= count:
        milestone = following
    return milestone


def _targets(rewards: Floats) -> Tensor:
    return torch.from_numpy(rl.rank_to_normal(rewards))


def _unseen(space: SearchSpace, seen: set[str], rng: np.random.Generator) -> Genotype | None:
    """A random network that is new. A small space is gone through, and None says that nothing is
    left; in a large one a repeat is accepted after a while."""
    for _ in range(100):
        genotype = spaces.sample(space, rng)
        if space.canonical(genotype) not in seen:
            return genotype
    if math.prod(space.cardinalities) > _LISTED:
        return genotype
    listed = (
        Genotype(space.identifier, t) for t in itertools.product(*map(range, space.cardinalities))
    )
    return next((new for new in listed if space.canonical(new) not in seen), None)


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
        return ReleasedNases.load(controller, options, space, seeds, stream)
    assert isinstance(options, NasesOptions)
    return NasesProposer.load(controller, options, space, seeds, stream)


def pretrain(task: Task) -> dict[str, float]:
    return prepare_proposer(task.options, task.space, task.seeds, task.controller)


def search(task: Task) -> SearchResult:
    """Children by NASES, the time of stage A charged, beside a random search at equal cost."""
    proposer = make_proposer(
        task.options, task.space, task.seeds, "method", controller=task.controller
    )
    control = RandomSearch(task.space, task.seeds, "control") if task.search.control else None
    return search_by_proposing(task, proposer, control, charged_s=_coder_seconds(task.controller))


def _coder_seconds(controller: Path) -> float:
    """What stage A has cost, by its own clock."""
    return float(json.loads((controller / _CARD).read_text())["metrics"]["seconds"])


def train_final(task: Task, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
