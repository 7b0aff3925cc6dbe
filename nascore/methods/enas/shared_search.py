"""The search with shared weights: a supernet and a policy over its paths, trained in turn.

B images, T tokens, N architectures. One loop serves three arms, which differ in their policy alone:
memory-ENAS and ENAS (`learner.Learner`), and random search with shared weights (`UniformPolicy`).
Source: ENAS (arXiv 1802.03268) and its released code; Li & Talwalkar, arXiv 1902.07638, for the
uniform arm. Departures: weights and policy alternate every few steps instead of every epoch, and
the learning rate follows the share of the budget that is spent.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.config import Objective
from nascore.context import SearchContext, device_of
from nascore.errors import WeightsDivergedError
from nascore.evaluation.scoring import score_of, score_on
from nascore.genotype import Genotype
from nascore.methods.common import one_shot_loop
from nascore.methods.common.shared_weights_options import MAX_GRAD_NORM
from nascore.methods.enas import checkpoint as kept
from nascore.methods.enas.options import EnasOptions, RandomWsOptions
from nascore.methods.enas.policy import Policy, UniformPolicy
from nascore.spaces.base import make_genotype
from nascore.training import checkpoint, distributed
from nascore.training.loop import fitting_threads, half_cosine, sgd
from nascore.training.supernet import make_supernet

DIAGNOSE_EVERY = 25  # updates of the policy; a diagnosis takes as long as some updates
FINALISTS_FRACTION = 0.4  # of a budget of time, for the trainings of the finalists from scratch
_CHECK_EVERY = 16  # steps between looks at the loss: each one makes the host wait for a GPU
_MOST_DRAWS = 20  # of a whole set of candidates, before a policy that repeats itself is helped out
_HASTY_CANDIDATES = 10  # when somebody waits for the end
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """An architecture and its validation score with shared weights, a fraction."""

    genotype: Genotype
    score: float


class SharedSearch:
    """One arm: trains the shared weights and the policy until its share of the budget is spent.

    Everything that the future depends on is in one checkpoint, and all randomness is drawn by
    the number of the step, so that a search that was killed goes on exactly (budgets of steps).

    Args:
        arm: `method` or `control`; names every random stream, and the checkpoint.
        prior_cost_s: seconds that the arm has cost before, such as the policy's pre-training.
        diagnose: returns metrics of the policy; called every `DIAGNOSE_EVERY` of its updates.
    """

    def __init__(
        self,
        task: SearchContext,
        arm: str,
        policy: Policy,
        *,
        prior_cost_s: float = 0.0,
        diagnose: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        options = task.options
        assert isinstance(options, RandomWsOptions)
        self._task, self._arm, self._policy, self._options = task, arm, policy, options
        self._uniform = UniformPolicy(task.space, task.seeds, arm)
        self._diagnose = diagnose
        enas = options if isinstance(options, EnasOptions) else EnasOptions()
        self._every = enas.controller_every
        self._device = device_of(task.training)
        self._supernet = make_supernet(
            task.space, task.shape, seed=task.seeds.integer(arm, "shared weights")
        ).to(self._device)
        self._parameters = list(self._supernet.parameters())
        self._training = options.weights.resolve(task.training)
        self._optimizer = sgd(self._parameters, self._training)
        self._step = 0
        self._charged_s, self._before_s, self._start = prior_cost_s, 0.0, time.monotonic()
        self._saved_s = time.monotonic()
        self._path = kept.path_of(task.state, arm)

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included."""
        return self._charged_s + self._before_s + time.monotonic() - self._start

    def run(self) -> None:
        """Until the budget of the shared weights is spent or the task is told to stop.

        Raises:
            WeightsDiverged: the loss is not finite.
            InputError: the checkpoint that is there is damaged, or of another search.
        """
        with fitting_threads(self._task.splits.train, self._options.weights):
            self._restore()
            self._report({f"weights/{self._arm}/processes": distributed.size()}, self._step)
            batches = self._batches()
            while (share := self._share()) < 1 and not self._should_stop():
                self._train_weights(*next(batches), share)
                if self._step % self._every == 0:
                    self._train_policy(self._step // self._every - 1)
                if self._step % _CHECK_EVERY == 0:
                    self._look(share)
            self._save()

    # The two that alternate.

    def _train_weights(self, x_BCHW: Tensor, y_B: Tensor, share: float) -> None:
        """One step of SGD along one sampled path; nothing else is computed or changed."""
        path = self._supernet.path(self._genotype(self._paths()[self._step % self._every]))
        path.train()
        logits_BK = path(distributed.part(x_BCHW))
        # Divided by the whole batch: the sum over the processes is its mean.
        loss = F.cross_entropy(
            logits_BK,
            distributed.part(y_B),
            weight=self._task.splits.train.class_weights_K,
            reduction="sum",
        ) / len(y_B)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in path.parameters() if p.grad is not None]
        distributed.sum_([p.grad for p in parameters if p.grad is not None])
        nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(share)
        self._optimizer.step()
        self._loss = loss.detach()
        self._step += 1

    def _train_policy(self, number: int) -> None:
        generator = self._task.seeds.torch(self._arm, "reward", number)
        x_BCHW, y_B = self._task.splits.valid.random_batch(self._options.eval_batch_size, generator)
        objective = self._task.search.objective

        def judge(tokens_NT: Tensor) -> Tensor:
            return self._judge(tokens_NT, x_BCHW, y_B, objective)

        metrics = self._policy.update(number, judge)
        self._report({f"policy/{self._arm}/{name}": v for name, v in metrics.items()}, number)
        due = number % DIAGNOSE_EVERY == 0
        if self._diagnose is not None and due and distributed.is_first():
            self._report(self._diagnose(), number)

    # What a path is worth.

    @torch.no_grad()
    def _judge(
        self, tokens_NT: Tensor, x_BCHW: Tensor, y_B: Tensor, objective: Objective
    ) -> Tensor:
        """Scores (N,) with shared weights on one batch, whose statistics normalise it."""
        score_N = torch.zeros(len(tokens_NT), dtype=torch.float64, device=self._device)
        for i in range(distributed.rank(), len(tokens_NT), distributed.size()):
            path = self._supernet.path(self._genotype(tokens_NT[i]))
            score_N[i] = score_of(objective, path(x_BCHW), y_B)
        distributed.sum_([score_N])
        return score_N.cpu()

    def rank(self) -> list[Ranked]:
        """Different architectures that the policy proposes, the best by shared weights first.

        Judged on the whole validation split; on one batch of it, and fewer, after a stop.
        """
        hasty = self._task.callbacks.should_stop()
        genotypes = self._candidates(_HASTY_CANDIDATES if hasty else self._options.num_candidates)
        is_accuracy = self._task.search.objective == "accuracy"
        scores = (self.accuracies if is_accuracy else self._scores)(genotypes, hasty=hasty)
        order = sorted(range(len(genotypes)), key=lambda i: -scores[i])
        return [Ranked(genotypes[i], scores[i]) for i in order]

    def accuracies(self, genotypes: Sequence[Genotype], *, hasty: bool = False) -> list[float]:
        """With shared weights, on the whole validation split, or on one batch of it in haste."""
        tokens_NT = torch.tensor([genotype.tokens for genotype in genotypes])
        num_right_N = torch.zeros(len(genotypes), dtype=torch.float64)
        num_images = 0
        with fitting_threads(self._task.splits.train, self._options.weights):
            for x_BCHW, y_B in self._valid_batches():
                num_right_N += len(y_B) * self._judge(tokens_NT, x_BCHW, y_B, "accuracy")
                num_images += len(y_B)
                if hasty:
                    break
        return (num_right_N / num_images).tolist()

    @torch.no_grad()
    def _scores(self, genotypes: Sequence[Genotype], *, hasty: bool) -> list[float]:
        """The same in an objective that is no mean over images: all answers of a path at once."""
        score_N = torch.zeros(len(genotypes), dtype=torch.float64, device=self._device)
        with fitting_threads(self._task.splits.train, self._options.weights):
            for i in range(distributed.rank(), len(genotypes), distributed.size()):
                path = self._supernet.path(genotypes[i])
                batches = itertools.islice(self._valid_batches(), 1 if hasty else None)
                score_N[i] = score_on(self._task.search.objective, path, batches)
        distributed.sum_([score_N])
        values: list[float] = score_N.tolist()
        return values

    def _valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation split in batches of nearly equal size, as their statistics count."""
        valid = self._task.splits.valid
        count = max(1, round(valid.num_images / self._options.eval_batch_size))
        return valid.eval_batches(math.ceil(valid.num_images / count))

    def _candidates(self, count: int) -> list[Genotype]:
        """Different networks from the policy; uniform ones where it keeps repeating itself."""
        found: dict[str, Genotype] = {}
        for draw in range(_MOST_DRAWS * 2):
            policy = self._policy if draw < _MOST_DRAWS else self._uniform
            for tokens_T in policy.sample(count, "candidates", draw):
                genotype = self._genotype(tokens_T)
                found.setdefault(self._task.space.canonical(genotype), genotype)
                if len(found) == count:
                    return list(found.values())
        return list(found.values())

    # Steps, batches and paths by number.

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the present step on, for ever."""
        train, weights = self._task.splits.train, self._training
        while True:
            epoch, done = divmod(self._step, train.steps_per_epoch(weights))
            generator = self._task.seeds.torch(self._arm, "epoch", epoch)
            yield from train.train_batches(weights, generator, start=done)

    def _paths(self) -> Tensor:
        """The paths (every, T) of the steps between two updates of the policy, sampled at once."""
        block = self._step // self._every
        if self._block is None or self._block[0] != block:
            self._block = block, self._policy.sample(self._every, "paths", block)
        return self._block[1]

    _block: tuple[int, Tensor] | None = None

    def _genotype(self, tokens_T: Tensor) -> Genotype:
        return make_genotype(self._task.space, tokens_T.tolist())

    # The budget.

    def _share(self) -> float:
        """Of the budget of the shared weights, how much is spent; the same in all processes."""
        budget = self._task.search.budget
        if budget.unit == "steps":
            return self._step / budget.amount
        hours = _SECONDS_PER_HOUR / distributed.size() if budget.unit == "gpu_hours" else 1.0
        available_s = budget.amount * hours * (1 - FINALISTS_FRACTION)
        return distributed.agree(self.seconds / available_s, device=self._device)

    def _learning_rate(self, share: float) -> float:
        """Half a cosine over the budget."""
        weights = self._options.weights
        return half_cosine(share, weights.lr, weights.min_lr)

    def _should_stop(self) -> bool:
        return distributed.any_of(self._task.callbacks.should_stop(), device=self._device)

    # What the outside sees, and what survives.

    def _look(self, share: float) -> None:
        loss = float(self._loss)
        if not math.isfinite(loss):
            raise WeightsDivergedError(
                f"the loss of the shared weights is {loss} at step {self._step}; lower "
                f"search.options.weights.lr={self._options.weights.lr:g}"
            )
        self._report({f"weights/{self._arm}/loss": loss}, self._step)
        if distributed.is_first():
            self._task.callbacks.on_progress(self._arm, min(1.0, share))
        due = time.monotonic() - self._saved_s >= one_shot_loop.CHECKPOINT_EVERY_S
        if distributed.any_of(due, device=self._device):
            self._save()

    def _report(self, metrics: dict[str, float], step: int) -> None:
        if distributed.is_first():
            self._task.callbacks.on_metrics(metrics, step)

    def _save(self) -> None:
        if distributed.is_first():
            tensors = {f"weights.{k}": v.cpu() for k, v in self._supernet.state_dict().items()}
            tensors |= {f"policy.{k}": v for k, v in self._policy.state().items()}
            for i, parameter in enumerate(self._parameters):
                momentum = self._optimizer.state[parameter].get("momentum_buffer")
                if momentum is not None:
                    tensors[f"momentum.{i}"] = momentum.cpu()
            meta = {"identity": self._identity(), "step": self._step, "seconds": self.seconds}
            checkpoint.save(self._path, tensors, meta, kept.KIND)
        self._saved_s = time.monotonic()

    def load(self) -> None:
        """Takes up what an earlier search has left, to look at it; `run` does so by itself.

        Raises:
            InputError: there is no checkpoint, or it is damaged, or of another search.
        """
        self._take_up(*kept.load(self._path))

    def _restore(self) -> None:
        if self._path.exists():
            self._take_up(*kept.load(self._path))

    def _take_up(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        kept.check_identity(self._path, meta, self._identity())
        self._supernet.load_state_dict(checkpoint.below("weights.", tensors))
        self._policy.load_state(checkpoint.below("policy.", tensors))
        for name, momentum in checkpoint.below("momentum.", tensors).items():
            parameter = self._parameters[int(name)]
            self._optimizer.state[parameter]["momentum_buffer"] = momentum.to(self._device)
        self._step = int(meta["step"])
        self._before_s = float(meta["seconds"]) - self._charged_s
        self._start = time.monotonic()

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        task = self._task
        return {
            **kept.settings(self._arm, task.method, task.space, task.seeds, self._options),
            "shape": [task.shape.channels, task.shape.size, task.shape.num_classes],
            "data": task.splits.info.data_sha256,
            **task.objective_settings(),
        }
