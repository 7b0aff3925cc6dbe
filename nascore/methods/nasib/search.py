"""The search: weights and distribution are trained in turn until the budget is spent.

Each step trains the weights along one sampled path on one half of the training images and then,
after the warm-up, the distribution along another path on the other half. All schedules are
functions of u, the spent fraction of the budget (`nascore.methods.nasib.schedule`). At any moment
the arg-max of the distribution is an architecture, and it is part of every checkpoint.

Source: the search of NASIB (arXiv 1910.08665) is not published in detail; this follows SNAS and
DARTS, and our choices are in docs/nasib.md. E edges, A axes.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore import checkpoint
from nascore.context import SearchContext
from nascore.data.batches import Split
from nascore.genotype import Genotype
from nascore.methods.common import shared_evaluation
from nascore.methods.common.one_shot_loop import Batches, OneShotLoop, checkpoint_path, identity_of
from nascore.methods.common.shared_evaluation import even_batches
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib.budget_tracker import BudgetTracker
from nascore.methods.nasib.distribution import Distribution
from nascore.methods.nasib.history import DistributionHistory
from nascore.methods.nasib.options import NasibOptions
from nascore.methods.nasib.supernet import make_superkernel_supernet
from nascore.methods.nasib.updates import LogitUpdates
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace
from nascore.training import distributed
from nascore.training.loop import fitting_threads
from nascore.training.schedule import half_cosine

Context = SearchContext[NasibOptions]
KIND = "nasib"


def space_of(context: SearchContext) -> SuperkernelSpace:
    """Return the space of a search, which is the only one that NASIB takes."""
    assert isinstance(context.space, SuperkernelSpace)
    return context.space


def best_so_far(state: Path) -> Genotype:
    """Return the architecture of the last checkpoint of a search, which may still run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    _, meta = checkpoint.load(checkpoint_path(state), f"{KIND}-method")
    return Genotype.from_dict(meta["genotype"])


class BudgetSearch:
    """One arm of a search.

    Args:
        arm: `method` or `control`; names random streams and the checkpoint.
    """

    def __init__(self, context: Context, arm: str = "method") -> None:
        self.context, self.arm, self.options = context, arm, context.options
        self._training = self.options.weights.resolve(context.training)
        self._loop = OneShotLoop(
            context,
            arm,
            kind=f"{KIND}-{arm}",
            training=self._training,
            identity=identity_of(context, budget=context.search.budget.model_dump(mode="json")),
            snapshot=self._snapshot,
        )
        space, weights_K = space_of(context), context.splits.train.class_weights_K
        self.distribution = Distribution(
            space, context.shape, max_parameterless_edges=self.options.max_parameterless_edges
        )
        supernet = make_superkernel_supernet(
            space, context.shape, seed=context.seeds.integer(arm, "shared weights")
        )
        self._weights = WeightUpdates(supernet.to(self._loop.device), self._training, weights_K)
        self._logits = LogitUpdates(self.distribution, self.options.max_logit_change, weights_K)
        self._halves = self.halves()
        self._clock = BudgetTracker(
            context.search.budget,
            num_steps=self.num_steps(),
            seconds=lambda: self._loop.seconds,
            warmup=self.options.schedule.warmup,
            device=self._loop.device,
        )
        self.history = DistributionHistory()
        self._step = self._decisions = 0
        self._ended_s: float | None = None
        self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost until the end of `run`, those before a crash
        included."""
        return self._loop.seconds if self._ended_s is None else self._ended_s

    @property
    def step(self) -> int:
        """Weight updates so far."""
        return self._step

    @property
    def decisions(self) -> int:
        """Updates of the distribution so far."""
        return self._decisions

    @property
    def clock(self) -> BudgetTracker:
        return self._clock

    def halves(self) -> tuple[Split, Split]:
        """Return the training images of the weights, and those of the distribution."""
        return self.context.splits.train.halves(self.context.seeds.torch(self.arm, "halves"))

    def num_steps(self) -> int | None:
        """Return the weight updates of a budget of steps; None for one of time."""
        return self.context.search.budget.steps

    def genotype(self) -> Genotype:
        """Return the present arg-max architecture."""
        return self.distribution.genotype()

    def run(self, *, until: float = 1.0) -> None:
        """Search until that fraction of the budget is spent or the search has to stop.

        Raises:
            WeightsDivergedError: the loss is not finite.
            InputError: the budget is smaller than one step, or the checkpoint that exists is
                damaged or of another search.
        """
        with fitting_threads(self.context.splits.train, self._training):
            if not self.restore():
                self._loop.save()  # best_so_far needs an architecture from the start
            weights = self._loop.batches("weights", self._halves[0], start=self._step)
            logits = self._loop.batches("logits", self._halves[1], start=self._decisions)
            while not self._is_over(u := self._clock.share(self._step), until):
                self._clock.begin()
                self._eliminate(u)
                self._record(u)
                loss = self._train(weights, logits, u)
                if self._clock.end(self._step, u):
                    self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))
                self._loop.end_step(self._step, u, loss=loss, metrics=partial(self._metrics, u))
            if until >= 1 and not self._loop.should_stop():
                self._clock.finish(self._step)
                self.schedule = self.options.schedule.over(max(1, self._step))
                self._eliminate(1.0)
                self._record(1.0)
            self._loop.save()
            self._ended_s = self._loop.seconds

    def _is_over(self, u: float, until: float) -> bool:
        return self._loop.should_stop() or self._clock.is_over(self._step, u, until=until)

    # One step.

    def _train(self, weights: Batches, logits: Batches, u: float) -> Tensor:
        """Train the weights and, after the warm-up, the distribution. Returns the weights' loss."""
        rate = half_cosine(u, self._training.lr, self._training.min_lr)
        batch = next(weights)
        loss = self._weights.step(self._sampled("path", self._step, u), *batch, lr=rate)
        self._step += 1
        if u >= self.schedule.warmup:
            self._decide(*next(logits), u)
        return loss

    def _sampled(self, stream: str, number: int, u: float) -> nn.Module:
        """Return the path of a step of the weights."""
        tokens_EA = self.distribution.sample(
            *self._noise(stream, number, u), temperature=self.schedule.temperature(u)
        ).tokens_EA
        return self._weights.supernet.path(tokens_EA)

    def _decide(self, x_BCHW: Tensor, y_B: Tensor, u: float) -> None:
        """Update the distribution once; the weights are unchanged."""
        sample = self.distribution.sample(
            *self._noise("decision", self._decisions, u), temperature=self.schedule.temperature(u)
        )
        num_updates = (1 - self.schedule.warmup) * self._clock.total_steps
        self._logits.step(
            self._weights.supernet,
            sample,
            x_BCHW,
            y_B,
            lr=self._logits.rate(num_updates),
            entropy_bonus=self.schedule.entropy_bonus(u),
        )
        self._decisions += 1

    def _noise(self, stream: str, number: int, u: float) -> tuple[Tensor, Tensor]:
        """Return Gumbel noise, and which edges explore."""
        generator = self._loop.generator(stream, number)
        noise_ES = self.distribution.noise(generator)
        drawn_E = torch.rand(len(noise_ES), generator=generator)
        return noise_ES, drawn_E < self.schedule.exploration(u)

    def _eliminate(self, u: float) -> None:
        if u < self.schedule.warmup:
            return
        for axis, size in zip(AXES, space_of(self.context).axis_sizes, strict=True):
            self.distribution.eliminate(axis, self.schedule.num_left(u, size))

    # Evaluation with shared weights.

    @torch.no_grad()
    def accuracies(
        self, genotypes: Sequence[Genotype], split: Split | None = None, *, hasty: bool = False
    ) -> list[float]:
        """Return accuracies with shared weights.

        Args:
            split: the validation split when not given.
            hasty: evaluate on the first batch alone.
        """
        split = self.context.splits.valid if split is None else split
        correct_N = torch.zeros(len(genotypes), dtype=torch.float64, device=self._loop.device)
        num_images = 0
        with fitting_threads(self.context.splits.train, self._training):
            for x_BCHW, y_B in even_batches(split, self.options.eval_batch_size):
                for i in range(distributed.rank(), len(genotypes), distributed.size()):
                    network = self._weights.supernet.child(genotypes[i])
                    correct_N[i] += (network(x_BCHW).argmax(1) == y_B).sum()
                num_images += len(y_B)
                if hasty:
                    break
        distributed.sum_([correct_N])
        return (correct_N.cpu() / num_images).tolist()

    def scores(self, genotypes: Sequence[Genotype], *, hasty: bool = False) -> list[float]:
        """Return scores on the validation split in the objective of the search."""
        objective = self.context.search.objective
        if objective == "accuracy":
            return self.accuracies(genotypes, hasty=hasty)
        with fitting_threads(self.context.splits.train, self._training):
            return shared_evaluation.scores(
                genotypes,
                self._weights.supernet.child,
                self.context.splits.valid,
                objective,
                batch_size=self.options.eval_batch_size,
                hasty=hasty,
            )

    # Reports and checkpoint.

    def _record(self, u: float) -> None:
        """Add the distribution to the history where a row is due."""
        if self.history.is_due(u):
            self.history.add(
                self.distribution,
                u=u,
                step=self._step,
                exploration=self.schedule.exploration(u),
            )

    def _metrics(self, u: float) -> dict[str, float]:
        entropies = self.distribution.entropies()
        return {
            **{
                f"nasib/entropy_{name}": float(h_E.detach().mean())
                for name, h_E in entropies.items()
            },
            "nasib/exploration": self.schedule.exploration(u),
            "nasib/exploring_share": self.schedule.exploring_share,
            "nasib/candidates": self.distribution.num_candidates(),
            "nasib/spent": u,
            "nasib/total_steps": float(self._clock.total_steps),
        }

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._weights.tensors() | self._logits.tensors(), {
            "step": self._step,
            "decisions": self._decisions,
            "genotype": self.genotype().to_dict(),
            "clock": self._clock.state(),
            "history": self.history.rows,
        }

    def restore(self) -> bool:
        """Continue from the checkpoint of an earlier process; return whether there was one."""
        found = self._loop.restore()
        if found is None:
            return False
        tensors, meta = found
        self._weights.load(tensors)
        self._logits.load(tensors)
        self._step, self._decisions = int(meta["step"]), int(meta["decisions"])
        self._clock.load_state(meta["clock"])
        self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))
        self.history.rows = list(meta["history"])
        return True
