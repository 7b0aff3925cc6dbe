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

import itertools
import json
import math
import time
from collections.abc import Callable, Container, Sequence
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
from nascore.gp import Features, GaussianProcesses, Kernels, fit_kernels
from nascore.methods.baselines import RandomSearch
from nascore.methods.nases_released import ReleasedNases
from nascore.methods.options import CoderOptions, NasesOptions, NasesPaperOptions
from nascore.results import Child, SearchResult
from nascore.search import NONE_PENDING, Control, Pending, Proposer, search_by_proposing
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
_UNGUIDED = 16  # candidates when there is no critic to choose

_NUM_KEYS = 50_000  # names of networks that are kept

Floats = NDArray[np.float64]
Tokens = tuple[int, ...]


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

    def __init__(self, space: SearchSpace, options: NasesOptions) -> None:
        self._space = space
        self._options = options
        self.seen: set[str] = set()
        self._count = 0
        self._tokens = torch.empty(_ROOM, len(space.cardinalities), dtype=torch.long)
        self._rewards: Floats = np.empty(_ROOM)
        self.climb = 0  # the first child of the present climb
        self._summit = 0  # its best one

    def add(self, child: Child) -> None:
        self.seen.add(self._space.canonical(child.genotype))
        if child.scores is None:
            return
        if self._count == len(self._rewards):
            self._tokens = torch.cat([self._tokens, torch.empty_like(self._tokens)])
            self._rewards = np.concatenate([self._rewards, np.empty_like(self._rewards)])
        valid, train = child.scores.valid_accuracy, child.scores.train_accuracy
        self._tokens[self._count] = torch.tensor(child.genotype.tokens)
        self._rewards[self._count] = (
            rl.gap_reward(valid, train) if self._options.gap_penalty else valid
        )
        self._follow_climb(self._count)
        self._count += 1

    def random_start(self) -> int:
        """The child with which the random start of the present climb is over."""
        first = self.climb == 0
        return self.climb + (
            self._options.num_random if first else self._options.num_restart_random
        )

    def _follow_climb(self, newest: int) -> None:
        """A climb ends when its best child was followed by `patience` that were not better, its
        random start not counted."""
        if newest == self.climb or self._rewards[newest] > self._rewards[self._summit]:
            self._summit = newest
        waited = newest - max(self._summit, self.random_start() - 1)
        if self._options.patience and waited >= self._options.patience:
            self.climb = newest + 1

    def __len__(self) -> int:
        return self._count

    @property
    def rewards(self) -> Floats:
        return self._rewards[: self._count]

    def tokens(self, indices: NDArray[np.int64]) -> Tensor:
        return self._tokens[torch.from_numpy(indices)]

    def elites(self, count: int) -> NDArray[np.int64]:
        """At most `count` children of the present climb, the best first."""
        best = np.argsort(-self.rewards[self.climb :], kind="stable")[:count]
        return best + self.climb


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
        self._history = _History(space, options)
        self._controller: Controller = self._new_controller()
        self._num_learned = 0
        self._kernels: tuple[int, Kernels] | None = None
        self._keys: dict[Tokens, str] = {}
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
        if len(self._history) < self._history.random_start():
            return _unseen(self._space, seen, rng)
        self._learn()
        known = seen if self._options.no_repeats else set()
        for _ in range(_ROUNDS):
            genotype = self._choose(self._candidates(rng), known, under_way)
            if genotype is not None:
                return genotype
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

    def _candidates(self, rng: np.random.Generator) -> Tensor:
        """Policy samples, decoded, and what is one token from the best children, (B, L)."""
        options = self._options
        count = options.num_candidates if options.critic else _UNGUIDED
        with torch.no_grad():
            mean_BE = self._controller(self._states(count, rng))
        moves = rng.random(mean_BE.shape) < options.num_moves / mean_BE.shape[1]
        noise = rng.standard_normal(mean_BE.shape) * options.sigma * moves
        decoded_BL = self._decode((mean_BE + torch.from_numpy(noise).float()).clamp(0, 1))
        if not options.critic:
            return decoded_BL
        best_BL = self._history.tokens(self._history.elites(options.num_surrounded))
        apart_BL = self._one_token_apart(best_BL)
        some = rng.permutation(len(apart_BL))[: count // 2]  # of a long string there are many
        return torch.cat([decoded_BL, apart_BL[torch.from_numpy(np.sort(some))]])

    def _one_token_apart(self, tokens_BL: Tensor) -> Tensor:
        """All strings that differ from one of these in one token."""
        sizes = self._space.cardinalities
        changes = [(i, shift) for i, size in enumerate(sizes) for shift in range(1, size)]
        if not changes or not len(tokens_BL):
            return tokens_BL[:0]
        place_C, shift_C = torch.tensor(changes).T
        apart_BCL = tokens_BL[:, None].repeat(1, len(changes), 1)
        changed_BC = (tokens_BL[:, place_C] + shift_C) % torch.tensor(sizes)[place_C]
        apart_BCL[:, torch.arange(len(changes)), place_C] = changed_BC
        return apart_BCL.flatten(0, 1)

    def _states(self, count: int, rng: np.random.Generator) -> Tensor:
        """Good architectures with some tokens redrawn, and a few random ones, (count, L)."""
        options = self._options
        elites = self._history.elites(options.num_elites)
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

    def _choose(
        self, candidates_ML: Tensor, known: Container[str], pending: list[Genotype]
    ) -> Genotype | None:
        """The network, not in `known`, of which the critic expects the largest improvement.

        The critic then walks from it by single tokens as long as it expects more: the samples need
        not hold the summit of what it expects.
        """
        new = self._new_networks(candidates_ML, known)
        if not new or not self._options.critic:
            return self._genotype(new[0]) if new else None
        expects = self._critic(pending)
        gain_M = expects(torch.tensor(new))
        chosen, gain = new[int(gain_M.argmax())], float(gain_M.max())
        for _ in range(self._options.num_steps):
            nearby_ML = self._one_token_apart(torch.tensor([chosen]))
            gain_M = expects(nearby_ML)
            better = self._new_networks(nearby_ML[gain_M > gain], known)
            if not better:
                break
            gain_M = expects(torch.tensor(better))
            chosen, gain = better[int(gain_M.argmax())], float(gain_M.max())
        return self._genotype(chosen)

    def _new_networks(self, tokens_ML: Tensor, known: Container[str]) -> list[Tokens]:
        """Those not in `known`, each once, as it is written first: of several ways to write it the
        critic would choose the one it knows least about."""
        found: dict[str, Tokens] = {}
        for tokens in dict.fromkeys(map(tuple, tokens_ML.tolist())):
            key = self._key(tokens)
            if key not in known:
                found.setdefault(key, tokens)
        return list(found.values())

    def _key(self, tokens: Tokens) -> str:
        """What names the network; kept, since the same strings come again and again."""
        key = self._keys.get(tokens)
        if key is None:
            if len(self._keys) >= _NUM_KEYS:
                self._keys.clear()
            key = self._keys[tokens] = self._space.canonical(self._genotype(tokens))
        return key

    def _genotype(self, tokens: Tokens) -> Genotype:
        return Genotype(self._space.identifier, tokens)

    def _critic(self, pending: Sequence[Genotype]) -> Callable[[Tensor], Tensor]:
        """Expected improvement of token strings, (M, L) -> (M,), over the best of the climb.

        It knows this climb's children alone: after the last one it was too sure of what it had not
        seen, or it would not have ended.

        What is being trained counts as observed with the value that the critic expects, so that it
        is only less sure there (Desautels et al., Parallelizing Exploration-Exploitation Tradeoffs
        with Gaussian Process Bandits, ICML 2012).
        """
        start = self._history.climb
        kept = start + _best_and_latest(self._history.rewards[start:], self._options.critic_memory)
        target_N = _targets(self._history.rewards[kept])
        seen_NL = self._history.tokens(kept)
        processes = GaussianProcesses(self._features(seen_NL), target_N, self._fitted_kernels())
        if pending:
            pending_PL = torch.tensor([genotype.tokens for genotype in pending])
            expected_P = processes.mean(self._features(pending_PL))
            processes = GaussianProcesses(
                self._features(torch.cat([seen_NL, pending_PL])),
                torch.cat([target_N, expected_P]),
                processes.kernels,
            )
        return lambda tokens_ML: processes.expected_improvement(self._features(tokens_ML))

    def _fitted_kernels(self) -> Kernels:
        """Fitted anew whenever the children have grown by a tenth; depends on their number alone,
        so that a rebuilt proposer has the same."""
        count = _last_milestone(len(self._history))
        if self._kernels is None or self._kernels[0] != count:
            rewards = self._history.rewards[:count]
            kept = _best_and_latest(rewards, _KERNEL_CHILDREN)
            self._kernels = (
                count,
                fit_kernels(
                    self._features(self._history.tokens(kept)),
                    _targets(rewards[kept]),
                    self._options.critic_metrics,
                    relevance=self._options.critic_relevance,
                ),
            )
        return self._kernels[1]

    def _features(self, tokens_NL: Tensor) -> Features:
        return Features(tokens_NL, self._space.cardinalities)

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
        coder = load_coder(controller, options.coder, space)
        return ReleasedNases(coder, options, space, seeds, stream)
    assert isinstance(options, NasesOptions)
    return NasesProposer.load(controller, options, space, seeds, stream)


def pretrain(task: Task) -> dict[str, float]:
    return prepare_proposer(task.options, task.space, task.seeds, task.controller)


def search(task: Task) -> SearchResult:
    """Children by NASES, the time of stage A charged, beside a random search at equal cost."""
    proposer = make_proposer(
        task.options, task.space, task.seeds, "method", controller=task.controller
    )
    control = None
    if task.search.control:
        control = Control(RandomSearch(task.space, task.seeds, "control"))
    return search_by_proposing(task, proposer, control, charged_s=_coder_seconds(task.controller))


def _coder_seconds(controller: Path) -> float:
    """What stage A has cost, by its own clock."""
    return float(json.loads((controller / _CARD).read_text())["metrics"]["seconds"])


def train_final(task: Task, result: SearchResult) -> FinalModel:
    return train_from_scratch(task, result)
