"""The search with shared weights: a supernet and a policy over its paths, trained in turn.

Three methods are arms of this search and differ only in their policy: memory-ENAS and ENAS
(`learner.Learner`), and random search with shared weights (`UniformPolicy`). Source: ENAS (arXiv
1802.03268) and its released code; Li & Talwalkar, arXiv 1902.07638, for the uniform arm.
Departures: weights and policy alternate every few steps instead of every epoch, and the learning
rate follows the spent fraction of the budget.

B images, T tokens, N architectures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore import checkpoint
from nascore.config import Objective
from nascore.context import SearchContext
from nascore.evaluation.scoring import score_of
from nascore.genotype import Genotype
from nascore.methods.common.one_shot_loop import OneShotLoop, checkpoint_path, identity_of
from nascore.methods.common.shared_evaluation import even_batches, scores
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.enas.checkpoint import KIND, missing
from nascore.methods.enas.options import RandomWsOptions
from nascore.methods.enas.policy import Policy, UniformPolicy
from nascore.spaces.base import make_genotype
from nascore.training import distributed
from nascore.training.loop import fitting_threads
from nascore.training.schedule import half_cosine
from nascore.training.supernet import make_supernet

DIAGNOSE_EVERY = 25  # updates of the policy; a diagnosis takes as long as some updates
FINALISTS_FRACTION = 0.4  # of a budget of time, for the trainings of the finalists from scratch
_MAX_DRAWS = 20  # of a whole set of candidates; then uniform ones join a policy that repeats itself
_NUM_HASTY_CANDIDATES = 10  # after a request to stop


@dataclass(frozen=True, slots=True)
class Ranked:
    """An architecture and its validation score with shared weights, a fraction."""

    genotype: Genotype
    score: float


class SharedSearch:
    """One arm: trains shared weights and policy until its budget is spent.

    Args:
        arm: `method` or `control`; names random streams and the checkpoint.
        prior_cost_s: seconds that the arm has cost before, such as the policy's pre-training.
        diagnose: returns metrics of the policy; called every `DIAGNOSE_EVERY` of its updates.
    """

    def __init__(
        self,
        context: SearchContext[RandomWsOptions],
        arm: str,
        policy: Policy,
        *,
        prior_cost_s: float = 0.0,
        diagnose: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self._context, self._arm, self._policy = context, arm, policy
        self._options, self._diagnose = context.options, diagnose
        self._uniform = UniformPolicy(context.space, context.seeds, arm)
        self._training = self._options.weights.resolve(context.training)
        self._loop = OneShotLoop(
            context,
            arm,
            kind=KIND,
            training=self._training,
            identity=identity_of(context),
            snapshot=self._snapshot,
            prior_cost_s=prior_cost_s,
        )
        supernet = make_supernet(
            context.space, context.shape, seed=context.seeds.integer(arm, "shared weights")
        )
        self._weights = WeightUpdates(
            supernet.to(self._loop.device), self._training, context.splits.train.class_weights_K
        )
        self._step = 0
        self._paths: tuple[int, Tensor] | None = None

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included."""
        return self._loop.seconds

    def run(self) -> None:
        """Train until the budget of the shared weights is spent or the search has to stop.

        Raises:
            WeightsDivergedError: the loss is not finite.
            InputError: the checkpoint that exists is damaged, or of another search.
        """
        with fitting_threads(self._context.splits.train, self._training):
            found = self._loop.restore()
            if found is not None:
                self._load(*found)
            self._loop.report({f"weights/{self._arm}/processes": distributed.size()}, self._step)
            every = self._options.policy_every
            batches = self._loop.batches("epoch", self._context.splits.train, start=self._step)
            for fraction in self._loop.until_spent(self._spent):
                loss = self._train_weights(*next(batches), fraction)
                if self._step % every == 0:
                    self._train_policy(self._step // every - 1)
                self._loop.end_step(self._step, fraction, loss=loss)
            self._loop.save()

    # One step of the weights, and one of the policy.

    def _train_weights(self, x_BCHW: Tensor, y_B: Tensor, fraction: float) -> Tensor:
        """Train one sampled path; no other weights are computed or changed. Returns the loss."""
        rate = half_cosine(fraction, self._training.lr, self._training.min_lr)
        loss = self._weights.step(self._sampled_path(), x_BCHW, y_B, lr=rate)
        self._step += 1
        return loss

    def _sampled_path(self) -> nn.Module:
        """Return the path of this step; those between two policy updates are sampled at once."""
        block, position = divmod(self._step, self._options.policy_every)
        if self._paths is None or self._paths[0] != block:
            tokens = self._policy.sample(self._options.policy_every, "paths", block)
            self._paths = block, tokens
        return self._path(self._genotype(self._paths[1][position]))

    def _train_policy(self, number: int) -> None:
        generator = self._loop.generator("reward", number)
        batch = self._context.splits.valid.random_batch(self._options.eval_batch_size, generator)
        objective = self._context.search.objective
        metrics = self._policy.update(
            number, lambda tokens_NT: self._evaluate(tokens_NT, *batch, objective)
        )
        self._loop.report({f"policy/{self._arm}/{k}": v for k, v in metrics.items()}, number)
        if self._diagnose is not None and number % DIAGNOSE_EVERY == 0 and distributed.is_first():
            self._loop.report(self._diagnose(), number)

    # The evaluation of paths.

    @torch.no_grad()
    def _evaluate(
        self, tokens_NT: Tensor, x_BCHW: Tensor, y_B: Tensor, objective: Objective
    ) -> Tensor:
        """Return scores (N,) with shared weights on one batch, whose statistics normalise it."""
        score_N = torch.zeros(len(tokens_NT), dtype=torch.float64, device=self._loop.device)
        for i in range(distributed.rank(), len(tokens_NT), distributed.size()):
            path = self._path(self._genotype(tokens_NT[i]))
            score_N[i] = score_of(objective, path(x_BCHW), y_B)
        distributed.sum_([score_N])
        return score_N.cpu()

    def rank(self) -> list[Ranked]:
        """Return distinct architectures that the policy samples, the best by shared weights first.

        They are evaluated on the whole validation split; fewer, and on one batch, after a request
        to stop.
        """
        hasty = self._context.callbacks.should_stop()
        genotypes = self._candidates(
            _NUM_HASTY_CANDIDATES if hasty else self._options.num_candidates
        )
        is_accuracy = self._context.search.objective == "accuracy"
        values = (self.accuracies if is_accuracy else self._scores)(genotypes, hasty=hasty)
        order = sorted(range(len(genotypes)), key=lambda i: -values[i])
        return [Ranked(genotypes[i], values[i]) for i in order]

    def accuracies(self, genotypes: Sequence[Genotype], *, hasty: bool = False) -> list[float]:
        """Return accuracies with shared weights on the validation split, or on one batch of it."""
        tokens_NT = torch.tensor([genotype.tokens for genotype in genotypes])
        num_correct_N = torch.zeros(len(genotypes), dtype=torch.float64)
        num_images = 0
        with fitting_threads(self._context.splits.train, self._training):
            for x_BCHW, y_B in even_batches(
                self._context.splits.valid, self._options.eval_batch_size
            ):
                num_correct_N += len(y_B) * self._evaluate(tokens_NT, x_BCHW, y_B, "accuracy")
                num_images += len(y_B)
                if hasty:
                    break
        return (num_correct_N / num_images).tolist()

    def _scores(self, genotypes: Sequence[Genotype], *, hasty: bool) -> list[float]:
        with fitting_threads(self._context.splits.train, self._training):
            return scores(
                genotypes,
                self._path,
                self._context.splits.valid,
                self._context.search.objective,
                batch_size=self._options.eval_batch_size,
                hasty=hasty,
            )

    def _candidates(self, count: int) -> list[Genotype]:
        """Return distinct networks from the policy, with uniform ones if it repeats itself."""
        found: dict[str, Genotype] = {}
        for draw in range(_MAX_DRAWS * 2):
            policy = self._policy if draw < _MAX_DRAWS else self._uniform
            for tokens_T in policy.sample(count, "candidates", draw):
                genotype = self._genotype(tokens_T)
                found.setdefault(self._context.space.canonical(genotype), genotype)
                if len(found) == count:
                    return list(found.values())
        return list(found.values())

    def _genotype(self, tokens_T: Tensor) -> Genotype:
        return make_genotype(self._context.space, tokens_T.tolist())

    def _path(self, genotype: Genotype) -> nn.Module:
        return self._weights.supernet.path(genotype)

    # Budget and checkpoint.

    def _spent(self) -> float:
        return self._loop.spent(self._step, reserved=FINALISTS_FRACTION)

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        policy = {f"policy.{name}": tensor for name, tensor in self._policy.state().items()}
        return self._weights.tensors() | policy, {"step": self._step}

    def load(self) -> None:
        """Load the weights and the policy that a search has left.

        Raises:
            InputError: there is no checkpoint, or it is damaged, or of another search.
        """
        found = self._loop.restore()
        if found is None:
            raise missing(checkpoint_path(self._context.state, self._arm))
        self._load(*found)

    def _load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self._weights.load(tensors)
        self._policy.load_state(checkpoint.below("policy.", tensors))
        self._step = int(values["step"])
